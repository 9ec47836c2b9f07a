package field

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Device is one device as `ip -j -d addr` shows it.
type Device struct {
	Index     int    `json:"ifindex"`
	PeerIndex int    `json:"link_index"` // in another namespace, for a veth
	Name      string `json:"ifname"`
	MTU       int    `json:"mtu"`
	MAC       string `json:"address"`
	Addresses []struct {
		Family string     `json:"family"`
		Local  netip.Addr `json:"local"`
		Bits   int        `json:"prefixlen"`
	} `json:"addr_info"`
}

// IPv4 lists the device's IPv4 addresses with their prefix lengths.
func (d Device) IPv4() []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range d.Addresses {
		if a.Family == "inet" {
			prefixes = append(prefixes, netip.PrefixFrom(a.Local, a.Bits))
		}
	}
	return prefixes
}

// Route is one IPv4 route as `ip -j -4 route` shows it.
type Route struct {
	Destination string     `json:"dst"` // "default", an address, or a prefix
	Gateway     netip.Addr `json:"gateway"`
	Device      string     `json:"dev"`
	Scope       string     `json:"scope"`
	MTU         RouteMTU   `json:"metrics"` // 0: the device's
}

// RouteMTU is the MTU among a route's metrics.
type RouteMTU int

// UnmarshalJSON reads the list that ip writes.
func (m *RouteMTU) UnmarshalJSON(text []byte) error {
	var metrics []struct {
		MTU int `json:"mtu"`
	}
	if err := json.Unmarshal(text, &metrics); err != nil {
		return err
	}
	for _, each := range metrics {
		*m += RouteMTU(each.MTU)
	}
	return nil
}

func (r Route) String() string {
	s := r.Destination
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	s += " dev " + r.Device
	if r.Scope != "" {
		s += " scope " + r.Scope
	}
	if r.MTU != 0 {
		s += fmt.Sprintf(" mtu %d", r.MTU)
	}
	return s
}

// DeviceOf looks up a peer's device by its name; that there is none is an error.
func (e *Env) DeviceOf(ctx context.Context, peer Peer, name string) (Device, error) {
	return e.deviceWhere(ctx, peer, name, func(d Device) bool { return d.Name == name })
}

// deviceWhere looks up a peer's device. What checks look up does not change while a run lasts, so each peer is asked once.
func (e *Env) deviceWhere(ctx context.Context, peer Peer, what string, is func(Device) bool) (Device, error) {
	ask, _ := e.devices.LoadOrStore(peer.Name, once(func(ctx context.Context) ([]Device, error) {
		return fromIP[Device](ctx, peer, "-d", "addr", "show")
	}))
	all, err := ask.(func(context.Context) ([]Device, error))(ctx)
	if err != nil {
		return Device{}, err
	}
	i := slices.IndexFunc(all, is)
	if i < 0 {
		return Device{}, fmt.Errorf("%s has no device %s", peer.Name, what)
	}
	return all[i], nil
}

// NICOf finds the device that carries the node's address.
func (e *Env) NICOf(ctx context.Context, node *Node) (Device, error) {
	return e.deviceWhere(ctx, node.Peer, "with address "+node.Addr.String(), func(d Device) bool {
		return slices.ContainsFunc(d.IPv4(), func(p netip.Prefix) bool { return p.Addr() == node.Addr })
	})
}

// HostSide finds the device at the node's end of a pod's eth0.
func (e *Env) HostSide(ctx context.Context, pod Peer) (node *Node, eth0, veth Device, err error) {
	node = e.NodeOf(pod)
	if eth0, err = e.DeviceOf(ctx, pod, "eth0"); err != nil {
		return nil, eth0, veth, err
	}
	veth, err = e.deviceWhere(ctx, node.Peer, "that is the other end of eth0 of "+pod.Name, func(d Device) bool { return d.Index == eth0.PeerIndex })
	return node, eth0, veth, err
}

// RoutesOf lists a peer's IPv4 routes of a table: "main", or "all" of them.
func RoutesOf(ctx context.Context, peer Peer, table string) ([]Route, error) {
	return fromIP[Route](ctx, peer, "-4", "route", "show", "table", table)
}

// Inside tells whether r leads to an address of cidr, or to some, and to no other.
func (r Route) Inside(cidr netip.Prefix) bool {
	if addr, err := netip.ParseAddr(r.Destination); err == nil {
		return cidr.Contains(addr)
	}
	to, err := netip.ParsePrefix(r.Destination)
	return err == nil && Inside(to, cidr)
}

// Inside tells whether all addresses of prefix are of cidr.
func Inside(prefix, cidr netip.Prefix) bool {
	return prefix.Bits() >= cidr.Bits() && cidr.Contains(prefix.Addr())
}

// RouterDevice is the device on every node that carries the router address,
// which is the gateway of the node's pods.
const RouterDevice = "lab_host"

// RouterOf returns the address pods of a node have as their gateway.
func (e *Env) RouterOf(ctx context.Context, node *Node) (netip.Addr, error) {
	dev, err := e.DeviceOf(ctx, node.Peer, RouterDevice)
	if err != nil {
		return netip.Addr{}, err
	}
	addresses := dev.IPv4()
	if len(addresses) == 0 {
		return netip.Addr{}, errors.New(node.Name + ": " + RouterDevice + " has no address")
	}
	return addresses[0].Addr(), nil
}

func fromIP[T any](ctx context.Context, peer Peer, arguments ...string) ([]T, error) {
	text, err := Output(ctx, peer, append([]string{"ip", "-j"}, arguments...)...)
	if err != nil {
		return nil, err
	}
	var all []T
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("%s: read what ip %v prints: %w", peer.Name, arguments, err)
	}
	return all, nil
}
