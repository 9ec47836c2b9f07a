package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/ipam"
)

// endpointDatapath is the part of the datapath that makes pod interfaces.
type endpointDatapath interface {
	AddEndpoint(context.Context, datapath.EndpointSpec) (api.Endpoint, error)
	CheckEndpoint(context.Context, datapath.EndpointSpec) error
	DeleteEndpoint(ctx context.Context, hostIf string) ([]netip.Addr, error)
	KeepEndpoints(ctx context.Context, hostIfs []string) ([]api.Endpoint, error)
	SyncEndpoints(context.Context) ([]api.Endpoint, error)
	SetIdentity(addr netip.Addr, id uint32) error
	Resting(context.Context) ([]datapath.RestingAddr, error)
}

// endpoints gives pods their addresses and interfaces. What it knows is a
// picture of the kernel's state, drawn anew by sync.
type endpoints struct {
	dp   endpointDatapath
	pool *ipam.Pool
	log  *slog.Logger

	// whole is held shared by calls about one endpoint and exclusively by
	// those about all, which must see no endpoint half-made.
	whole sync.RWMutex

	// freed is called when addresses may have become free, and changed when endpoints have come or gone or have other
	// identities. They must not block.
	freed, changed func()
	// identify is the identity of an endpoint in the making.
	identify func(context.Context, api.CNIRequest) identity.ID

	mu      sync.Mutex
	busy    map[string]bool  // by host-side veth: one call an endpoint at a time
	idle    *sync.Cond       // of mu: less is busy
	known   map[string]owned // by host-side veth
	foreign []string         // endpoints outside the pool, for the status
}

func newEndpoints(dp endpointDatapath, pool *ipam.Pool, log *slog.Logger) *endpoints {
	e := &endpoints{
		dp: dp, pool: pool, log: log, busy: map[string]bool{}, known: map[string]owned{}, freed: func() {}, changed: func() {},
		identify: func(context.Context, api.CNIRequest) identity.ID { return identity.Init },
	}
	e.idle = sync.NewCond(&e.mu)
	return e
}

// sync has the datapath mend its endpoints, and makes the pool and the
// picture match what is there.
func (e *endpoints) sync(ctx context.Context) error {
	e.whole.Lock()
	defer e.whole.Unlock()
	live, err := e.dp.SyncEndpoints(ctx)
	if err != nil {
		return fmt.Errorf("mend the endpoints: %w", err)
	}
	resting, err := e.dp.Resting(ctx)
	if err != nil {
		return fmt.Errorf("list the addresses that rest: %w", err)
	}
	e.adopt(live)
	for _, r := range resting {
		e.pool.Retire(r.Addr, r.For)
	}
	e.freed()
	e.changed()
	return nil
}

// adopt takes live as all the endpoints there are.
func (e *endpoints) adopt(live []api.Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := make(map[string]owned, len(live))
	for _, ep := range live {
		o, ok := e.known[ep.HostIf]
		if !ok || o.addr != ep.Addr {
			o = owned{hostIf: ep.HostIf, addr: ep.Addr, namespace: ep.Namespace, pod: ep.Pod}
		}
		o.id = identity.ID(ep.Identity)
		now[ep.HostIf] = o
	}
	for hostIf, had := range e.known {
		if now[hostIf].addr != had.addr {
			e.pool.Release(had.addr)
		}
	}
	e.foreign = nil
	for hostIf, o := range now {
		isNew := e.known[hostIf].addr != o.addr
		if !isNew && e.pool.CIDR().Contains(o.addr) {
			continue
		}
		if err := e.pool.Reserve(o.addr); err != nil {
			if isNew {
				e.log.Warn("an endpoint's address is not the pool's to give", "iface", hostIf, "err", err)
			}
			e.foreign = append(e.foreign, fmt.Sprintf("%s has %s", hostIf, o.addr))
		}
	}
	slices.Sort(e.foreign)
	e.known = now
}

// count is the number of endpoints.
func (e *endpoints) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.known)
}

// outsidePool names the endpoints whose address the pool does not have,
// sorted: left over from another podCIDR.
func (e *endpoints) outsidePool() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.foreign)
}

// add makes an endpoint, or returns the one that is there already.
func (e *endpoints) add(ctx context.Context, req api.CNIRequest, netns *os.File) (api.Endpoint, error) {
	if req.ContainerID == "" {
		return api.Endpoint{}, errNoContainer
	}
	hostIf := api.HostIfName(req.ContainerID, req.IfName)
	// Both may take a while: nobody waits for this endpoint yet.
	id := e.identify(ctx, req)
	allocated, err := e.allocate(ctx, hostIf)
	if err != nil {
		return api.Endpoint{}, err
	}
	defer e.one(hostIf)()
	addr, existed := e.lookup(hostIf)
	switch { // another call may have made or deleted it meanwhile
	case existed && allocated.IsValid():
		e.pool.Release(allocated)
	case !existed && allocated.IsValid():
		addr = allocated
	case !existed:
		if addr, err = e.pool.Allocate(); err != nil {
			return api.Endpoint{}, err
		}
	}
	made := spec(req, hostIf, addr, netns)
	made.Identity = uint32(id)
	ep, err := e.dp.AddEndpoint(ctx, made)
	if err != nil {
		if !existed {
			e.pool.Release(addr)
		}
		return api.Endpoint{}, fmt.Errorf("make the interface of pod %s: %w", podName(req), err)
	}
	e.mu.Lock()
	e.known[hostIf] = owned{
		hostIf: hostIf, addr: addr,
		namespace: req.Namespace, pod: req.Pod, uid: req.PodUID, id: identity.ID(ep.Identity),
	}
	e.mu.Unlock()
	e.changed()
	return ep, nil
}

const (
	// addressPatience is how long a pod waits for an address that other nodes are about to forget, before its call is to be
	// made again.
	addressPatience = 10 * time.Second
	addressPoll     = 100 * time.Millisecond
)

// allocate is an address for a new endpoint; none for one that is there. It waits for other nodes to forget who had it.
func (e *endpoints) allocate(ctx context.Context, hostIf string) (addr netip.Addr, err error) {
	if _, ok := e.lookup(hostIf); ok {
		return netip.Addr{}, nil
	}
	_ = wait.PollUntilContextTimeout(ctx, addressPoll, addressPatience, true, func(context.Context) (bool, error) {
		addr, err = e.pool.Allocate()
		return !errors.Is(err, ipam.ErrKnown), nil
	})
	return addr, err
}

// errNoContainer says that a call is about nothing.
var errNoContainer = errors.New("the call names no container")

// errAddrsDiffer says that the runtime believes in other addresses than the
// endpoint has.
var errAddrsDiffer = errors.New("the endpoint's address is not the one of prevResult")

// check compares an endpoint with what add made.
func (e *endpoints) check(ctx context.Context, req api.CNIRequest, netns *os.File) error {
	hostIf := api.HostIfName(req.ContainerID, req.IfName)
	defer e.one(hostIf)()
	addr, ok := e.lookup(hostIf)
	if !ok {
		return fmt.Errorf("check %s: %w", hostIf, datapath.ErrUnknownEndpoint)
	}
	if !slices.Equal(req.Addrs, []netip.Addr{addr}) {
		return fmt.Errorf("check %s: %w: want %v, it has %s", hostIf, errAddrsDiffer, req.Addrs, addr)
	}
	return e.dp.CheckEndpoint(ctx, spec(req, hostIf, addr, netns))
}

// remove deletes an endpoint, if there is one.
func (e *endpoints) remove(ctx context.Context, req api.CNIRequest) error {
	hostIf := api.HostIfName(req.ContainerID, req.IfName)
	defer e.one(hostIf)()
	freed, err := e.dp.DeleteEndpoint(ctx, hostIf)
	if err != nil {
		return fmt.Errorf("delete the interface of pod %s: %w", podName(req), err)
	}
	e.forget(hostIf, freed...)
	e.freed()
	e.changed()
	return nil
}

// keep removes all endpoints but the valid ones.
func (e *endpoints) keep(ctx context.Context, valid []api.CNIAttachment) error {
	e.whole.Lock()
	defer e.whole.Unlock()
	// The runtime does not know of the agent's own.
	keep := []string{healthHostIf()}
	for _, a := range valid {
		keep = append(keep, api.HostIfName(a.ContainerID, a.IfName))
	}
	removed, err := e.dp.KeepEndpoints(ctx, keep)
	for _, ep := range removed {
		e.forget(ep.HostIf, ep.Addr)
	}
	e.freed()
	e.changed()
	if err != nil {
		return fmt.Errorf("collect endpoints: %w", err)
	}
	return nil
}

// one locks one endpoint and returns the way to unlock it.
func (e *endpoints) one(hostIf string) (unlock func()) {
	e.whole.RLock()
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.busy[hostIf] {
		e.idle.Wait()
	}
	e.busy[hostIf] = true
	return func() {
		e.mu.Lock()
		delete(e.busy, hostIf)
		e.mu.Unlock()
		e.idle.Broadcast()
		e.whole.RUnlock()
	}
}

func (e *endpoints) lookup(hostIf string) (netip.Addr, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o, ok := e.known[hostIf]
	return o.addr, ok
}

// forget takes back the address known for hostIf, and freed.
func (e *endpoints) forget(hostIf string, freed ...netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o, ok := e.known[hostIf]; ok {
		delete(e.known, hostIf)
		e.pool.Release(o.addr)
	}
	for _, addr := range freed {
		e.pool.Release(addr)
	}
}

func spec(req api.CNIRequest, hostIf string, addr netip.Addr, netns *os.File) datapath.EndpointSpec {
	return datapath.EndpointSpec{
		HostIf: hostIf, IfName: req.IfName,
		Namespace: req.Namespace, Pod: req.Pod,
		Addr: addr, NetNS: int(netns.Fd()),
	}
}

// podName is the pod's namespace and name, outside Kubernetes its container's
// ID, and empty for calls about the whole node.
func podName(req api.CNIRequest) string {
	if req.Pod == "" {
		return req.ContainerID
	}
	return req.Namespace + "/" + req.Pod
}
