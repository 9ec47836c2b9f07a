package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func tunnelChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{
			Name: "tunnel/encapsulation", Needs: []verify.Part{verify.Nodes, verify.Pods}, MinNodes: 2, Settings: []string{tunneled},
			Claim: "What pods on two nodes send each other is on those nodes' NICs in datagrams of the tunnel and on no other node's: from node to node, 50 bytes longer than on the tunnel's devices, without a checksum, from one source port a flow and way, and with the sender's identity as the network's number.",
			Run:   look(env, withFlows((*field.Env).AcrossNodes, encapsulation)),
		},
		{
			Name: "tunnel/map", Needs: []verify.Part{verify.Nodes}, MinNodes: 2, Settings: []string{tunneled},
			Claim: "On every node the map of addresses leads each other node's pod CIDR, that node's own address and its pods' to that node, and nothing else there.",
			Run:   onceTold(env, onEachNode(tunnelMap)),
		},
	}
}

// tunneled is the setting of labs whose nodes reach each other's pods through a tunnel.
const tunneled = "network.routingMode=tunnel"

// tunnelMap wants of each node what is in the tunnel for it, and of the tunnel nothing that is not for a node.
func tunnelMap(ctx context.Context, env *field.Env, on *field.Node, ev *verify.Evidence) error {
	have, err := field.ReadIPCache(ctx, on)
	if err != nil {
		return err
	}
	for _, to := range env.Nodes {
		if to != on {
			judgeEnd(ev, on, to, have)
		}
	}
	for prefix, holder := range have {
		toNode := slices.ContainsFunc(env.Nodes, func(n *field.Node) bool { return n.Addr == holder.Node })
		if at := nodeOf(env, prefix); holder.Node.IsValid() && (at == on || at == nil && toNode) {
			ev.Wrong(fmt.Sprintf("%s: %s", on.Name, prefix), "no way through the tunnel, as no other node has it", "it leads to "+holder.Node.String())
		}
	}
	return nil
}

// judgeEnd wants all that another node has to lead there.
func judgeEnd(ev *verify.Evidence, on, to *field.Node, have map[netip.Prefix]field.Holder) {
	ends, pods := []netip.Prefix{to.PodCIDR, field.Single(to.Addr)}, 0
	for prefix, holder := range have {
		if prefix != field.Single(to.Addr) && !field.Inside(prefix, to.PodCIDR) {
			continue
		}
		if !slices.Contains(ends, prefix) {
			pods++
		}
		if holder.Node != to.Addr || holder.IsNode != (prefix == field.Single(to.Addr)) {
			ev.Wrong(fmt.Sprintf("%s: %s of %s", on.Name, prefix, to.Name), "a way through the tunnel to "+to.Addr.String(), wayWords(holder))
		}
	}
	for _, prefix := range ends {
		if holder, ok := have[prefix]; !ok {
			ev.Wrong(fmt.Sprintf("%s: %s of %s", on.Name, prefix, to.Name), "a way through the tunnel to "+to.Addr.String(), "it is not in the map")
		} else if holder.Node == to.Addr {
			ev.Saw("%s: %s -> %s, and %d addresses of %s", on.Name, prefix, holder.Node, pods, to.Name)
		}
	}
}

func wayWords(holder field.Holder) string {
	switch {
	case !holder.Node.IsValid():
		return "no way through the tunnel"
	case holder.IsNode:
		return "a way to " + holder.Node.String() + ", as a node's own address"
	}
	return "a way to " + holder.Node.String()
}

// nodeOf is the node whose address or pods a prefix has; nil where none has it, as that of a node that is down.
func nodeOf(env *field.Env, prefix netip.Prefix) *field.Node {
	for _, n := range env.Nodes {
		if prefix == field.Single(n.Addr) || field.Inside(prefix, n.PodCIDR) {
			return n
		}
	}
	return nil
}

// tunnelWatch is what one node's NIC and tunnel device have shown of all flows.
type tunnelWatch struct {
	node        *field.Node
	nic         field.Device
	wire, inner []probe.Packet
}

// encapsulation sends flows between pods of all nodes and watches each node meanwhile.
func encapsulation(ctx context.Context, env *field.Env, flows []field.Flow, ev *verify.Evidence) error {
	identities, err := toldIdentities(ctx, env)
	if err != nil {
		return err
	}
	watches, end, err := watchTunnels(ctx, env, flows)
	if err != nil {
		return err
	}
	exchanges, err := field.ExchangeAll(ctx, flows, field.Patient)
	if err := errors.Join(err, end()); err != nil {
		return err
	}
	for _, x := range exchanges {
		if x.Lost != "" {
			ev.Wrong(fmt.Sprintf("%s (%s)", x, x.Protocol), "an answer", x.Lost)
			continue
		}
		for _, w := range watches {
			w.judge(ev, env, x, identities)
		}
	}
	return nil
}

// watchTunnels watches every node until the returned function is called, which fills in what was seen.
func watchTunnels(ctx context.Context, env *field.Env, flows []field.Flow) (watches []*tunnelWatch, end func() error, err error) {
	var filters []probe.Filter
	for _, f := range flows {
		for _, protocol := range field.Protocols() {
			filters = append(filters, f.Filters(protocol)...)
		}
	}
	var ends []func() error
	start := func(on *field.Node, device string, tunnel *probe.Tunnel, into *[]probe.Packet) error {
		watch, err := on.Start(ctx, probe.Request{Timeout: watchTimeout, Capture: &probe.Capture{Interface: device, Filter: filters[0], Also: filters[1:], Tunnel: tunnel}})
		if err != nil {
			return err
		}
		ends = append(ends, func() error {
			seen, err := watch.Stop(ctx)
			if err == nil && seen.Capture.Lost > 0 {
				err = fmt.Errorf("%s: the kernel kept %d packets from the capture on %s", on.Name, seen.Capture.Lost, device)
			}
			if err == nil {
				*into = seen.Capture.Packets
			}
			return err
		})
		return nil
	}
	for _, n := range env.Nodes {
		nic, err := env.NICOf(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		w := &tunnelWatch{node: n, nic: nic}
		if err := errors.Join(start(n, nic.Name, &env.Tunnel.Tunnel, &w.wire), start(n, env.Tunnel.Device, nil, &w.inner)); err != nil {
			return nil, nil, err
		}
		watches = append(watches, w)
	}
	return watches, func() error {
		return verify.Each(ends, func(end func() error) error { return end() })
	}, nil
}

// judge looks at what a node has shown of one exchange.
func (w *tunnelWatch) judge(ev *verify.Evidence, env *field.Env, x field.Exchange, identities map[netip.Addr]uint32) {
	for _, way := range []string{field.ToServer, field.FromServer} {
		wire, inner := ofWay(w.wire, x, way), ofWay(w.inner, x, way)
		about := fmt.Sprintf("%s (%s, %s), NIC %s of %s", x, x.Protocol, way, w.nic.Name, w.node.Name)
		if w.node.Node != x.From.Node && w.node.Node != x.To.Node {
			if len(wire)+len(inner) > 0 {
				ev.Wrong(about, "none of its packets, as neither pod is on the node", fmt.Sprintf("%d of them", len(wire)+len(inner)))
			}
			continue
		}
		from, to := x.From, x.To
		if way == field.FromServer {
			from, to = to, from
		}
		want := wrapping{
			from: env.NodeOf(from).Addr, to: env.NodeOf(to).Addr, network: identities[from.Addr], longer: field.TunnelOverhead,
		}
		judgeWire(ev, about, want, wire)
		if x.Protocol != "tcp" { // of which a device may have several segments as one
			ev.Expect(slices.Equal(lengths(wire), lengths(inner)), about, fmt.Sprintf("in datagrams of the tunnel the frames that %s has, of %v bytes", env.Tunnel.Device, lengths(inner)), fmt.Sprintf("frames of %v bytes", lengths(wire)))
		}
	}
}

// ofWay are the packets of one way of an exchange.
func ofWay(packets []probe.Packet, x field.Exchange, way string) (of []probe.Packet) {
	for _, p := range packets {
		source, destination, port := p.Source, p.Destination, p.DestinationPort
		if way == field.FromServer {
			source, destination, port = destination, source, p.SourcePort
		}
		mine := p.Protocol == x.Protocol && source == x.From.Addr && destination == x.To.Addr
		if x.Protocol == "icmp" {
			mine = mine && strings.Contains(p.Payload, x.Marker)
		} else {
			mine = mine && port == x.Server.Port()
		}
		if mine {
			of = append(of, p)
		}
	}
	return of
}

func lengths(packets []probe.Packet) (all []int) {
	for _, p := range packets {
		all = append(all, p.Length)
	}
	slices.Sort(all)
	return all
}

// wrapping is what a tunnel has put around a packet.
type wrapping struct {
	from, to netip.Addr
	network  uint32
	checksum uint16
	longer   int // in bytes
}

func (w wrapping) String() string {
	return fmt.Sprintf("in a datagram from %s to %s, network %d, checksum %#x, %d bytes longer", w.from, w.to, w.network, w.checksum, w.longer)
}

// judgeWire looks at the packets of one way of a flow at a NIC.
func judgeWire(ev *verify.Evidence, about string, want wrapping, packets []probe.Packet) {
	if len(packets) == 0 {
		ev.Wrong(about, want.String(), "nothing of it, and yet it is answered")
		return
	}
	var ports []uint16
	var wrong []string
	for _, p := range packets {
		seen := fmt.Sprintf("from %s to %s as it is", p.Source, p.Destination)
		if p.Outer != nil {
			seen = wrapping{p.Outer.Source, p.Outer.Destination, p.Outer.Network, p.Outer.Checksum, p.Outer.Length - p.Length}.String()
			ports = append(ports, p.Outer.SourcePort)
		}
		if seen != want.String() && !slices.Contains(wrong, seen) {
			wrong = append(wrong, seen)
		}
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	for _, seen := range wrong {
		ev.Wrong(about, want.String(), seen)
	}
	if len(ports) > 1 {
		ev.Wrong(about, "one source port of the tunnel's datagrams", fmt.Sprintf("the source ports %v", ports))
	}
	if len(wrong) == 0 && len(ports) == 1 {
		ev.Saw("%s: %d packets %s, from port %d", about, len(packets), want, ports[0])
	}
}
