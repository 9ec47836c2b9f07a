package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"time"

	"github.com/vishvananda/netlink"
)

// carrierTimeout bounds the wait for the kernel's link watch, which takes well under a millisecond.
const carrierTimeout = 2 * time.Second

// routeProtocol marks our routes, so that they can be told from others' and found again. The number is
// not in use in iproute2's rt_protos.
const routeProtocol netlink.RouteProtocol = 87

// hostIfPattern is what api.HostIfName makes.
var hostIfPattern = regexp.MustCompile(`^` + hostIfPrefix + `[0-9a-f]{8}$`)

// dump repeats a netlink dump that the kernel interrupted because what it listed changed meanwhile: its
// result may lack entries that were there all the time.
func dump[T any](ctx context.Context, list func() (T, error)) (T, error) {
	for {
		got, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
		if ctx.Err() != nil {
			return got, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// linkByName is the link, or nil when there is none.
func linkByName(nl *netlink.Handle, name string) (netlink.Link, error) {
	l, err := nl.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up device %s: %w", name, err)
	}
	return l, nil
}

// awaitUp waits until a device that was set up carries packets. One that was up before its peer gets its
// queue when the kernel's link watch comes round, and loses what is sent before.
func awaitUp(ctx context.Context, nl *netlink.Handle, name string) error {
	ctx, cancel := context.WithTimeout(ctx, carrierTimeout)
	defer cancel()
	for {
		l, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("look up %s: %w", name, err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to be up (it is %s): %w", name, l.Attrs().OperState, ctx.Err())
		case <-time.After(100 * time.Microsecond):
		}
	}
}

func deleteLink(nl *netlink.Handle, name string) error {
	l, err := linkByName(nl, name)
	if l == nil || err != nil {
		return err
	}
	if err := nl.LinkDel(l); err != nil {
		// Somebody else was faster, or the other end's namespace went away.
		if gone, lookErr := linkByName(nl, name); lookErr == nil && gone == nil {
			return nil
		}
		return fmt.Errorf("delete device %s: %w", name, err)
	}
	return nil
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ones, _ := n.Mask.Size()
	p := netip.PrefixFrom(toAddr(n.IP), ones)
	return p, p.IsValid()
}

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func sameNet(n *net.IPNet, p netip.Prefix) bool {
	got, ok := toPrefix(n)
	return ok && got == p
}
