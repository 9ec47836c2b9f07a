package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/ipam"
)

// fakeDatapath keeps endpoints in memory. It fails the test when one endpoint
// is worked on by two calls at a time.
type fakeDatapath struct {
	t *testing.T

	mu      sync.Mutex
	eps     map[string]api.Endpoint
	inWork  map[string]bool
	fail    error // of the next AddEndpoint
	refuse  error // of SetIdentity
	missing []string
	resting []datapath.RestingAddr
}

func newFakeDatapath(t *testing.T) *fakeDatapath {
	return &fakeDatapath{t: t, eps: map[string]api.Endpoint{}, inWork: map[string]bool{}}
}

func (f *fakeDatapath) work(hostIf string) (done func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inWork[hostIf] {
		f.t.Errorf("two calls work on %s at a time", hostIf)
	}
	f.inWork[hostIf] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.inWork, hostIf)
	}
}

func (f *fakeDatapath) AddEndpoint(_ context.Context, s datapath.EndpointSpec) (api.Endpoint, error) {
	hostIf := s.HostIf
	defer f.work(hostIf)()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail; err != nil {
		f.fail = nil
		return api.Endpoint{}, err
	}
	for other, ep := range f.eps {
		if other != hostIf && ep.Addr == s.Addr {
			return api.Endpoint{}, datapath.ErrAddrInUse
		}
	}
	f.eps[hostIf] = api.Endpoint{HostIf: hostIf, Addr: s.Addr, Namespace: s.Namespace, Pod: s.Pod, Identity: s.Identity}
	return f.eps[hostIf], nil
}

func (f *fakeDatapath) CheckEndpoint(context.Context, datapath.EndpointSpec) error { return nil }

func (f *fakeDatapath) DeleteEndpoint(_ context.Context, hostIf string) ([]netip.Addr, error) {
	defer f.work(hostIf)()
	f.mu.Lock()
	defer f.mu.Unlock()
	ep, ok := f.eps[hostIf]
	if !ok {
		return nil, nil
	}
	delete(f.eps, hostIf)
	return []netip.Addr{ep.Addr}, nil
}

func (f *fakeDatapath) KeepEndpoints(_ context.Context, keep []string) ([]api.Endpoint, error) {
	return f.drop(func(hostIf string) bool { return !slices.Contains(keep, hostIf) }), nil
}

// SyncEndpoints removes the endpoints named in missing. No other call may be
// under way.
func (f *fakeDatapath) SyncEndpoints(context.Context) ([]api.Endpoint, error) {
	f.mu.Lock()
	if len(f.inWork) > 0 {
		f.t.Errorf("a sync ran beside work on %v", f.inWork)
	}
	f.mu.Unlock()
	f.drop(func(hostIf string) bool { return slices.Contains(f.missing, hostIf) })
	return f.Endpoints(), nil
}

func (f *fakeDatapath) drop(which func(string) bool) []api.Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	var gone []api.Endpoint
	for hostIf, ep := range f.eps {
		if which(hostIf) {
			gone = append(gone, ep)
			delete(f.eps, hostIf)
		}
	}
	return gone
}

func (f *fakeDatapath) Endpoints() []api.Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	var eps []api.Endpoint
	for _, ep := range f.eps {
		eps = append(eps, ep)
	}
	return eps
}

func (f *fakeDatapath) SetIdentity(addr netip.Addr, id uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	for hostIf, ep := range f.eps {
		if ep.Addr == addr {
			ep.Identity = id
			f.eps[hostIf] = ep
		}
	}
	return nil
}

func (f *fakeDatapath) Resting(context.Context) ([]datapath.RestingAddr, error) {
	return f.resting, nil
}

func testEndpoints(t *testing.T, cidr string) (*endpoints, *fakeDatapath) {
	t.Helper()
	pool, err := ipam.NewPool(netip.MustParsePrefix(cidr))
	if err != nil {
		t.Fatal(err)
	}
	dp := newFakeDatapath(t)
	return newEndpoints(dp, pool, quiet()), dp
}

func call(id string) api.CNIRequest {
	return api.CNIRequest{ContainerID: id, IfName: "eth0", Namespace: "ns", Pod: id}
}

func mustAdd(t *testing.T, e *endpoints, id string) netip.Addr {
	t.Helper()
	ep, err := e.add(t.Context(), call(id), os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	return ep.Addr
}

func TestAddTwiceKeepsTheAddress(t *testing.T) {
	e, _ := testEndpoints(t, "10.0.0.0/28")
	first := mustAdd(t, e, "a")
	if again := mustAdd(t, e, "a"); again != first || e.pool.Used() != 1 {
		t.Errorf("got %s after %s, %d addresses in use", again, first, e.pool.Used())
	}
}

func TestFailedAddGivesTheAddressBack(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/28")
	dp.fail = errors.New("no such device")
	if _, err := e.add(t.Context(), call("a"), os.Stdin); err == nil {
		t.Fatal("no error")
	}
	if e.pool.Used() != 0 || e.count() != 0 {
		t.Errorf("%d addresses and %d endpoints after a failure", e.pool.Used(), e.count())
	}
	mustAdd(t, e, "a")
	dp.fail = errors.New("gone for now")
	if _, err := e.add(t.Context(), call("a"), os.Stdin); err == nil {
		t.Fatal("no error")
	}
	if e.pool.Used() != 1 {
		t.Error("a second ADD that failed gave away the address of the first")
	}
}

// TestAddsThatFailTakeNoAddress holds that a pod which cannot start, as often as it is tried, leaves the addresses to others
// where other nodes cannot be told anything.
func TestAddsThatFailTakeNoAddress(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/29")
	for range e.pool.Capacity() {
		dp.fail = errors.New("no such device")
		if _, err := e.add(t.Context(), call("fails"), os.Stdin); err == nil {
			t.Fatal("no error")
		}
	}
	mustAdd(t, e, "a")
}

func TestExhaustionIsToTryAgain(t *testing.T) {
	e, _ := testEndpoints(t, "10.0.0.0/30")
	mustAdd(t, e, "a")
	_, err := e.add(t.Context(), call("b"), os.Stdin)
	if got := cniErrorOf(call("b"), err); !errors.Is(err, ipam.ErrExhausted) || got.Code != api.CNITryAgain {
		t.Errorf("got %v, code %d", err, got.Code)
	}
}

// TestAddressThatOthersKnow holds that a pod waits for it until other nodes have been told and forgotten whose it was, and
// that nobody else waits meanwhile; and that it is to try again where they are not told.
func TestAddressThatOthersKnow(t *testing.T) {
	e, _ := testEndpoints(t, "10.0.0.0/29")
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		mustAdd(t, e, id)
	}
	e.pool.Telling(addrsOf(e.published()))
	for _, id := range []string{"a", "b"} {
		if err := e.remove(t.Context(), call(id)); err != nil {
			t.Fatal(err)
		}
	}
	added := make(chan error, 1)
	go func() {
		_, err := e.add(t.Context(), call("new"), os.Stdin)
		added <- err
	}()
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := e.add(soon, call("hasty"), os.Stdin)
	if got := cniErrorOf(call("hasty"), err); !errors.Is(err, ipam.ErrKnown) || got.Code != api.CNITryAgain {
		t.Errorf("got %v, code %d", err, got.Code)
	}
	if err := e.sync(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-added:
		t.Fatalf("a pod has an address that other nodes know as another's: %v", err)
	default:
	}
	told := time.Now()
	e.pool.Told(addrsOf(e.published()))
	if err := <-added; err != nil {
		t.Error(err)
	}
	if took := time.Since(told); took < 2*time.Second {
		t.Errorf("a pod has an address %v after other nodes were told", took)
	}
}

func TestRemoveIsIdempotentAndFrees(t *testing.T) {
	e, _ := testEndpoints(t, "10.0.0.0/28")
	mustAdd(t, e, "a")
	for range 2 {
		if err := e.remove(t.Context(), call("a")); err != nil {
			t.Fatal(err)
		}
	}
	if e.pool.Used() != 0 || e.count() != 0 {
		t.Errorf("%d addresses and %d endpoints are left", e.pool.Used(), e.count())
	}
}

func TestKeepRemovesTheOthers(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/28")
	stays := mustAdd(t, e, "a")
	mustAdd(t, e, "b")
	if err := e.keep(t.Context(), []api.CNIAttachment{{ContainerID: "a", IfName: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	if len(dp.eps) != 1 || e.pool.Used() != 1 || e.pool.Reserve(stays) == nil {
		t.Errorf("endpoints %v, %d addresses in use, want %s", dp.eps, e.pool.Used(), stays)
	}
}

func TestSyncAdoptsWhatIsThere(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/28")
	a, b, c := api.HostIfName("a", "eth0"), api.HostIfName("b", "eth0"), api.HostIfName("c", "eth0")
	dp.eps[a] = api.Endpoint{HostIf: a, Addr: netip.MustParseAddr("10.0.0.5")}
	dp.eps[b] = api.Endpoint{HostIf: b, Addr: netip.MustParseAddr("10.9.9.9")} // of an earlier podCIDR
	dp.eps[c] = api.Endpoint{HostIf: c, Addr: netip.MustParseAddr("10.0.0.6")}
	for range 2 {
		if err := e.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e.pool.Used() != 2 || e.count() != 3 || !slices.Equal(e.outsidePool(), []string{b + " has 10.9.9.9"}) {
			t.Fatalf("%d addresses, %d endpoints, outside the pool %q", e.pool.Used(), e.count(), e.outsidePool())
		}
	}
	if again := mustAdd(t, e, "a"); again.String() != "10.0.0.5" {
		t.Errorf("ADD of a known endpoint gave %s", again)
	}
	dp.missing = []string{c} // its veth vanished
	if err := e.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e.pool.Used() != 1 || e.count() != 2 {
		t.Errorf("%d addresses and %d endpoints after one vanished", e.pool.Used(), e.count())
	}
}

// TestAddressesThatRest holds that sync learns of them, as an agent does that
// starts, and that whoever purges them is told of new ones.
func TestAddressesThatRest(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/28")
	freed := 0
	e.freed = func() { freed++ }
	dp.resting = []datapath.RestingAddr{{Addr: netip.MustParseAddr("10.0.0.2"), For: time.Second}, {Addr: netip.MustParseAddr("10.9.9.9")}}
	if err := e.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mustAdd(t, e, "a"); got.String() != "10.0.0.3" || e.pool.Resting() != 1 {
		t.Errorf("ADD gave %s, %d rest", got, e.pool.Resting())
	}
	before := freed
	if err := e.remove(t.Context(), call("a")); err != nil {
		t.Fatal(err)
	}
	if freed != before+1 || e.pool.Resting() != 2 {
		t.Errorf("after a removal it was told %d times, %d rest", freed-before, e.pool.Resting())
	}
	mustAdd(t, e, "b")
	if err := e.keep(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if freed != before+2 || e.pool.Resting() != 3 {
		t.Errorf("after a collection it was told %d times, %d rest", freed-before, e.pool.Resting())
	}
}

func TestCheckComparesAddresses(t *testing.T) {
	e, _ := testEndpoints(t, "10.0.0.0/28")
	req := call("a")
	if err := e.check(t.Context(), req, os.Stdin); !errors.Is(err, datapath.ErrUnknownEndpoint) {
		t.Errorf("check of nothing: %v", err)
	}
	req.Addrs = []netip.Addr{mustAdd(t, e, "a")}
	if err := e.check(t.Context(), req, os.Stdin); err != nil {
		t.Errorf("check of what was made: %v", err)
	}
	req.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.9")}
	if err := e.check(t.Context(), req, os.Stdin); !errors.Is(err, errAddrsDiffer) {
		t.Errorf("check against another address: %v", err)
	}
}

// TestEndpointsConcurrently has many calls and syncs at once; the fake fails
// the test when they get into each other's way.
func TestEndpointsConcurrently(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/20") // none is handed out twice, as nobody is told that it is free
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			req := call(fmt.Sprint(i % 10)) // two callers each
			for range 50 {
				if _, err := e.add(t.Context(), req, os.Stdin); err != nil {
					t.Error(err)
				}
				if err := e.remove(t.Context(), req); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			if err := e.sync(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if e.pool.Used() != 0 || e.count() != 0 || len(dp.eps) != 0 || len(e.busy) != 0 {
		t.Errorf("left: %d addresses, %d endpoints, %d in the datapath, %d locks", e.pool.Used(), e.count(), len(dp.eps), len(e.busy))
	}
}

func TestAddOfNoContainer(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/28")
	if _, err := e.add(t.Context(), call(""), os.Stdin); !errors.Is(err, errNoContainer) || len(dp.eps) != 0 || e.pool.Used() != 0 {
		t.Errorf("%v, %v, %d addresses in use", err, dp.eps, e.pool.Used())
	}
}
