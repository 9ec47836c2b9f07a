package ipam

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func pool(t *testing.T, cidr string) *Pool {
	t.Helper()
	p, err := NewPool(netip.MustParsePrefix(cidr))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func allocate(t *testing.T, p *Pool) netip.Addr {
	t.Helper()
	a, err := p.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNewPoolRefuses(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.0.0.1/24": "10.0.0.0/24 would be right",
		"10.0.0.0/31": "/30 or larger",
		"10.0.0.0/32": "/30 or larger",
		"fd00::/64":   "not an IPv4 prefix",
	} {
		_, err := NewPool(netip.MustParsePrefix(cidr))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewPool(%s): %v, want an error with %q", cidr, err, want)
		}
	}
	if _, err := NewPool(netip.Prefix{}); err == nil {
		t.Error("NewPool took the zero prefix")
	}
}

func TestPoolHandsOutEveryAddressButTheReserved(t *testing.T) {
	for _, tc := range []struct {
		cidr, router, first, last string
		capacity                  int
	}{
		{"10.1.2.0/24", "10.1.2.1", "10.1.2.2", "10.1.2.254", 253},
		{"10.1.2.64/30", "10.1.2.65", "10.1.2.66", "10.1.2.66", 1},
		{"10.1.0.0/22", "10.1.0.1", "10.1.0.2", "10.1.3.254", 1021},
		{"255.255.255.240/28", "255.255.255.241", "255.255.255.242", "255.255.255.254", 13},
	} {
		t.Run(tc.cidr, func(t *testing.T) {
			p := pool(t, tc.cidr)
			if got := p.Router().String(); got != tc.router {
				t.Errorf("router %s, want %s", got, tc.router)
			}
			if p.Capacity() != tc.capacity {
				t.Errorf("capacity %d, want %d", p.Capacity(), tc.capacity)
			}
			var got []netip.Addr
			for range tc.capacity {
				got = append(got, allocate(t, p))
			}
			for i, a := range got[1:] {
				if a != got[i].Next() {
					t.Fatalf("%s came after %s", a, got[i])
				}
			}
			if got[0].String() != tc.first || got[len(got)-1].String() != tc.last {
				t.Errorf("handed out %s to %s, want %s to %s", got[0], got[len(got)-1], tc.first, tc.last)
			}
		})
	}
}

func TestPoolExhaustionNamesCIDRAndCounts(t *testing.T) {
	p := pool(t, "10.9.0.0/29")
	pass := clock(p)
	for range p.Capacity() {
		allocate(t, p)
	}
	_, err := p.Allocate()
	if !errors.Is(err, ErrExhausted) {
		t.Fatalf("got %v, want ErrExhausted", err)
	}
	if want := "no free address in 10.9.0.0/29: 5 of 5 in use"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	p.Release(netip.MustParseAddr("10.9.0.4"))
	forgotten(p, pass)
	if got := allocate(t, p).String(); got != "10.9.0.4" {
		t.Errorf("got %s, want the one that was released", got)
	}
}

// forgotten has other nodes forget the pods of addresses that are not in use.
func forgotten(p *Pool, pass func(time.Duration)) {
	p.Told(nil)
	pass(forgetting)
}

// TestAddressThatOthersKnow holds that none is handed out, however long it has rested and however few there are, before other
// nodes have been told and had time to forget it.
func TestAddressThatOthersKnow(t *testing.T) {
	p := pool(t, "10.9.0.0/29")
	pass := clock(p)
	var all []netip.Addr
	for range p.Capacity() {
		all = append(all, allocate(t, p))
	}
	known := func(when string) {
		t.Helper()
		if a, err := p.Allocate(); !errors.Is(err, ErrKnown) || !strings.Contains(err.Error(), "10.9.0.0/29") {
			t.Errorf("%s: got %s, %v, want ErrKnown", when, a, err)
		}
	}
	p.Telling(all)
	p.Release(all[1])
	p.Release(all[2])
	known("nobody is told")
	pass(Rest)
	known("nobody is told, and they have rested")
	p.Told(all)
	pass(forgetting)
	known("others are told that they are in use")
	p.Told(all[2:])
	pass(forgetting - 1)
	known("others were told just now")
	if p.Forgotten(all[1]) || p.Forgotten(all[2]) || p.Resting() != 2 {
		t.Errorf("they count as forgotten, or %d rest, want 2", p.Resting())
	}
	p.Retire(all[1], Rest) // who reads again what rests has not been told anything
	pass(1)
	if !p.Forgotten(all[1]) || p.Forgotten(all[2]) || p.Resting() != 1 {
		t.Errorf("the one that others were told of does not count as forgotten, or the other does; %d rest, want 1", p.Resting())
	}
	if got := allocate(t, p); got != all[1] {
		t.Errorf("got %s, want %s", got, all[1])
	}
	p.Telling(all)
	p.Release(all[1])
	p.Release(all[0])
	known("given up once more")
}

// TestAddressThatNobodyWasToldOf holds that one which other nodes have never heard of is free again although they cannot be
// told anything, and that one which they may have heard of is not.
func TestAddressThatNobodyWasToldOf(t *testing.T) {
	p := pool(t, "10.9.0.0/29")
	pass := clock(p)
	earlier := netip.MustParseAddr("10.9.0.2")
	if err := p.Reserve(earlier); err != nil {
		t.Fatal(err)
	}
	for range 3 * p.Capacity() {
		p.Release(allocate(t, p))
		pass(forgetting)
	}
	p.Release(earlier)
	for range p.Capacity() - 1 {
		allocate(t, p)
	}
	pass(Rest)
	if a, err := p.Allocate(); !errors.Is(err, ErrKnown) {
		t.Errorf("got %s, %v, want ErrKnown: an earlier process may have told of it", a, err)
	}
	late := netip.MustParseAddr("10.9.0.3")
	p.Release(late)
	pass(forgetting)
	p.Telling([]netip.Addr{late}) // by who has not heard yet that it is free
	if a, err := p.Allocate(); !errors.Is(err, ErrKnown) {
		t.Errorf("got %s, %v, want ErrKnown: others are being told of it", a, err)
	}
	forgotten(p, pass)
	if got := allocate(t, p); got != earlier {
		t.Errorf("got %s, want %s", got, earlier)
	}
}

func TestReleasedAddressRests(t *testing.T) {
	p := pool(t, "10.9.0.0/27")
	pass := clock(p)
	first := allocate(t, p)
	if !p.Release(first) {
		t.Fatal("Release did not know the address")
	}
	for i := range p.Capacity() - 1 {
		a := allocate(t, p)
		if a == first {
			t.Fatalf("%s was handed out again after %d others", first, i)
		}
		p.Release(a)
	}
	forgotten(p, pass)
	if got := allocate(t, p); got != first {
		t.Errorf("after a whole round came %s, want %s", got, first)
	}
}

// clock makes the pool's time the test's.
func clock(p *Pool) (pass func(time.Duration)) {
	now := time.Now()
	p.now = func() time.Time { return now }
	return func(d time.Duration) { now = now.Add(d) }
}

// TestAddressesRestBeforeOthers holds that the order of addresses does not
// cut a rest short, when what came before it is in use.
func TestAddressesRestBeforeOthers(t *testing.T) {
	p := pool(t, "10.9.0.0/28")
	pass := clock(p)
	for range 10 {
		allocate(t, p)
	}
	for _, a := range []string{"10.9.0.3", "10.9.0.2"} {
		p.Release(netip.MustParseAddr(a))
		forgotten(p, pass)
	}
	// .12 to .14 were never in use.
	for _, want := range []string{"10.9.0.12", "10.9.0.13", "10.9.0.14", "10.9.0.3"} {
		if got := allocate(t, p).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	p.Release(netip.MustParseAddr("10.9.0.9"))
	p.Told(nil)
	pass(Rest)
	p.Release(netip.MustParseAddr("10.9.0.5"))
	forgotten(p, pass)
	if got := p.Resting(); got != 1 {
		t.Errorf("%d addresses rest, want 1", got)
	}
	for _, want := range []string{"10.9.0.9", "10.9.0.2", "10.9.0.5"} {
		if got := allocate(t, p).String(); got != want {
			t.Errorf("after the rest got %s, want %s", got, want)
		}
	}
}

// TestRetiredAddressesRest holds that what an earlier process released is not
// handed out by the next, whose search begins behind the addresses in use.
func TestRetiredAddressesRest(t *testing.T) {
	p := pool(t, "10.9.0.0/29")
	pass := clock(p)
	if err := p.Reserve(netip.MustParseAddr("10.9.0.2")); err != nil {
		t.Fatal(err)
	}
	for addr, ago := range map[string]time.Duration{
		"10.9.0.2": 0, // in use: that counts
		"10.9.0.3": time.Second, "10.9.0.4": Rest, "10.9.0.6": time.Minute, "10.8.0.3": 0,
	} {
		p.Retire(netip.MustParseAddr(addr), ago)
	}
	p.Told(nil)
	pass(forgetting)
	if p.Used() != 1 || p.Resting() != 2 {
		t.Errorf("%d in use, %d rest", p.Used(), p.Resting())
	}
	for _, want := range []string{"10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.3"} {
		if got := allocate(t, p).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		pass(time.Millisecond)
	}
	if _, err := p.Allocate(); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v, want ErrExhausted", err)
	}
}

func TestReserveRebuildsThePool(t *testing.T) {
	p := pool(t, "10.9.0.0/24")
	for _, a := range []string{"10.9.0.7", "10.9.0.3"} {
		if err := p.Reserve(netip.MustParseAddr(a)); err != nil {
			t.Fatal(err)
		}
	}
	if got := allocate(t, p).String(); got != "10.9.0.8" {
		t.Errorf("got %s, want the one behind the highest reserved", got)
	}
	for a, want := range map[string]error{
		"10.9.0.7":   ErrInUse,
		"10.9.0.0":   ErrNotInPool,
		"10.9.0.1":   ErrNotInPool,
		"10.9.0.255": ErrNotInPool,
		"10.8.0.5":   ErrNotInPool,
		"fd00::1":    ErrNotInPool,
	} {
		if err := p.Reserve(netip.MustParseAddr(a)); !errors.Is(err, want) {
			t.Errorf("Reserve(%s): %v, want %v", a, err, want)
		}
	}
	if p.Used() != 3 {
		t.Errorf("%d in use, want 3", p.Used())
	}
}

func TestReserveOfTheLastAddressWrapsAround(t *testing.T) {
	p := pool(t, "10.9.0.0/29")
	if err := p.Reserve(netip.MustParseAddr("10.9.0.6")); err != nil {
		t.Fatal(err)
	}
	if got := allocate(t, p).String(); got != "10.9.0.2" {
		t.Errorf("got %s, want 10.9.0.2", got)
	}
}

// TestPoolAgainstAModel runs random calls and holds every answer against a
// plain set.
func TestPoolAgainstAModel(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := pool(t, "10.9.0.0/28")
		pass := clock(p)
		model := map[netip.Addr]bool{}
		for range 500 {
			forgotten(p, pass)
			addr := p.addr(uint64(rng.IntN(16)))
			switch rng.IntN(3) {
			case 0:
				checkAllocate(t, p, model)
			case 1:
				if got := p.Release(addr); got != model[addr] {
					t.Fatalf("seed %d: Release(%s) = %v, want %v", seed, addr, got, model[addr])
				}
				delete(model, addr)
			case 2:
				if p.Reserve(addr) == nil {
					if model[addr] {
						t.Fatalf("seed %d: %s was reserved twice", seed, addr)
					}
					model[addr] = true
				}
			}
			if p.Used() != len(model) {
				t.Fatalf("seed %d: %d in use, want %d", seed, p.Used(), len(model))
			}
		}
	}
}

func checkAllocate(t *testing.T, p *Pool, model map[netip.Addr]bool) {
	t.Helper()
	a, err := p.Allocate()
	switch {
	case err != nil && len(model) < p.Capacity():
		t.Fatalf("Allocate with %d of %d in use: %v", len(model), p.Capacity(), err)
	case err == nil && model[a]:
		t.Fatalf("%s was handed out twice", a)
	case err == nil:
		model[a] = true
	}
}

func TestPoolConcurrently(t *testing.T) {
	p := pool(t, "10.9.0.0/24")
	var mu sync.Mutex
	seen := map[netip.Addr]bool{}
	var wg sync.WaitGroup
	for range 11 {
		wg.Go(func() {
			for range 23 {
				a, err := p.Allocate()
				mu.Lock()
				if err != nil || seen[a] {
					t.Errorf("got %s (seen before: %v), %v", a, seen[a], err)
				}
				seen[a] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != p.Capacity() {
		t.Errorf("%d addresses handed out, want all %d", len(seen), p.Capacity())
	}
}
