package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath/lb"
)

// ErrNoServices is wrapped by errors of [Services] in modes that leave Services to others.
var ErrNoServices = errors.New("this mode translates no Services")

// serviceEngine is what is known of Services between two calls.
type serviceEngine struct {
	mu       sync.Mutex
	balancer *lb.Balancer // nil in modes that leave Services to others
	leftOut  leftOutNow
	// undecided says that the maps have changed and the generation was not raised yet.
	undecided bool
	// unreleased says that UDP sockets of the node may be connected to a backend that is gone.
	unreleased, cannotRelease bool
}

// Services keeps the maps by which Services are translated.
type Services struct{ d *Datapath }

// Services returns the reconciler of Services.
func (d *Datapath) Services() *Services { return &Services{d: d} }

// Apply makes the maps match s, see [lb.Balancer.Apply]: connections go on, and what cannot be carried is left out,
// see [Services.LeftOut]. NodePorts and host ports are put on the addresses that the node has now.
// The error wraps [ErrNoServices] in modes that leave Services to others.
func (v *Services) Apply(ctx context.Context, s lb.State) error {
	return v.change(ctx, func(on lb.Node) (lb.Outcome, error) { return v.d.services.balancer.Apply(s, on) })
}

// Change is Apply with these Services in the place of those of the same name, see [lb.Balancer.Change]. The error
// wraps [lb.ErrWhole] where Apply has to be called.
func (v *Services) Change(ctx context.Context, services map[lb.Name][]lb.Service) error {
	return v.change(ctx, func(on lb.Node) (lb.Outcome, error) { return v.d.services.balancer.Change(services, on) })
}

func (v *Services) change(ctx context.Context, balance func(lb.Node) (lb.Outcome, error)) error {
	if err := v.check(); err != nil {
		return err
	}
	node, err := v.d.node(ctx)
	if err != nil {
		return err
	}
	e := &v.d.services
	e.mu.Lock()
	defer e.mu.Unlock()
	out, err := balance(node)
	e.undecided = e.undecided || out.Changed > 0
	e.unreleased = e.unreleased || out.LostUDP
	if e.undecided {
		wrong := v.d.maps.newGeneration()
		e.undecided = wrong != nil
		err = errors.Join(err, wrong)
	}
	if err != nil {
		return err
	}
	if out.Changed > 0 {
		v.d.log.Debug("services are set", "frontends", out.Frontends, "backends", out.Backends, "changes", out.Changed)
	}
	e.leftOut.set(out.LeftOut, v.d.log)
	return v.releaseSockets(ctx)
}

// Reload makes the next Apply read the maps again, and mend what somebody else has changed in them.
func (v *Services) Reload() {
	v.d.services.mu.Lock()
	defer v.d.services.mu.Unlock()
	if b := v.d.services.balancer; b != nil {
		b.Reload()
	}
}

func (v *Services) check() error {
	if v.d.maps.services == nil {
		return fmt.Errorf("translate Services: %w: it is %q", ErrNoServices, v.d.cfg.Mode())
	}
	return nil
}

// node is this node as it is now. NodePorts are on 127.0.0.1 and on all of its addresses, except those of loopback and of
// our devices.
func (d *Datapath) node(ctx context.Context) (lb.Node, error) {
	n := lb.Node{Name: d.cfg.NodeName, Pods: d.cfg.PodCIDR, NodePorts: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}}
	links, err := dump(ctx, d.nl.LinkList)
	if err != nil {
		return n, fmt.Errorf("list devices: %w", err)
	}
	down, ours := map[int]bool{}, map[int]bool{}
	for _, l := range links {
		name := l.Attrs().Name
		down[l.Attrs().Index] = l.Attrs().RawFlags&unix.IFF_UP == 0
		ours[l.Attrs().Index] = isOwnDevice(name)
	}
	list, err := dump(ctx, func() ([]netlink.Addr, error) { return d.nl.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return n, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		addr := toAddr(a.IP)
		if down[a.LinkIndex] || addr.IsLoopback() {
			continue
		}
		n.Addrs = append(n.Addrs, addr)
		if !ours[a.LinkIndex] {
			n.NodePorts = append(n.NodePorts, addr)
		}
	}
	for _, addrs := range []*[]netip.Addr{&n.NodePorts, &n.Addrs} {
		slices.SortFunc(*addrs, netip.Addr.Compare)
		*addrs = slices.Compact(*addrs)
	}
	return n, nil
}
