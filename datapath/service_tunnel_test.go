package datapath

import (
	"errors"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/progtest"
)

// The model's tunnel: what its programs give to it and get from it, in test runs, which have no device.

// Identities that are the same in every cluster.
const worldIdentity, remoteNodeIdentity = 2, 6

var farPods = netip.MustParsePrefix("10.244.1.0/24")

// whoIs is the identity of who has an address. Each of the pods has one of its own.
func (m *model) whoIs(addr netip.Addr) uint32 {
	if slices.Contains(m.local, addr) || farPods.Contains(addr) {
		return 1000 + uint32(addr.As4()[2])<<8 + uint32(addr.As4()[3])
	}
	return worldIdentity
}

// whoHas is what the node is told of addresses.
func (m *model) whoHas() []api.IPCacheEntry {
	one := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	return []api.IPCacheEntry{
		{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Identity: worldIdentity},
		{Prefix: one(m.d.cfg.NodeIP), Identity: 1, NodeAddress: true},
		{Prefix: one(m.d.cfg.Router()), Identity: 1, NodeAddress: true},
		{Prefix: m.d.cfg.PodCIDR},
		{Prefix: one(otherNode), Identity: remoteNodeIdentity, Node: otherNode, NodeAddress: true},
		{Prefix: farPods, Node: otherNode},
	}
}

// record has the node run programs whose runs are recorded, in the place of the same ones.
func (m *model) record() {
	m.t.Helper()
	m.tunnel = progtest.NewRecorder(m.t)
	load := m.loading(m.tunnel.Record)
	var pod bpf.PodPrograms
	var host bpf.HostPrograms
	var netdev struct {
		bpf.NetdevPrograms
		bpf.NetdevVariables
	}
	load(bpf.LoadPod, &pod)
	load(bpf.LoadHost, &host)
	load(bpf.LoadNetdev, &netdev)
	p := m.d.progs
	was := *p
	p.fromPod, p.toPod, p.tunnel.FromTunnel = pod.LabFromPod, host.LabToPod, netdev.LabFromTunnel
	p.services.fromNetwork, p.services.toNetwork = netdev.LabFromNetwork, netdev.LabToNetwork
	p.know(netdev.NetdevVariables)
	m.t.Cleanup(func() {
		m.must(errors.Join(was.fromPod.Close(), was.toPod.Close(), was.tunnel.FromTunnel.Close(), was.services.fromNetwork.Close(), was.services.toNetwork.Close()))
	})
	m.ns.Do(func() { m.must(m.d.Devices().Apply(m.t.Context())) })
	device, err := m.ns.Netlink().LinkByName(m.d.cfg.tunnelDevice())
	m.must(err)
	m.tunnelDevice = device.Attrs().Index
}

// isFar says whether an address is reached by the tunnel.
func (m *model) isFar(addr netip.Addr) bool { return m.tunnel != nil && farPods.Contains(addr) }

// tunnelEnd is where packets come out of the tunnel.
func (m *model) tunnelEnd() stage { return stage{m.d.progs.tunnel.FromTunnel, m.tunnelDevice} }

// comeFrom says who sends the packets to come.
func (m *model) comeFrom(addr netip.Addr) {
	m.t.Helper()
	switch {
	case m.isFar(addr):
		m.tunnel.ComeFrom(&progtest.Key{Network: m.whoIs(addr), Node: otherNode})
	case m.tunnel != nil:
		m.tunnel.ComeFrom(nil)
	}
}

// checkWay wants the last packet, which was for that address, to have gone by the tunnel if that leads there, with that
// identity.
func (m *model) checkWay(name flowName, to netip.Addr, identity uint32) {
	m.t.Helper()
	if m.tunnel == nil {
		return
	}
	key, _ := m.tunnel.Last()
	switch {
	case !m.isFar(to) && key != nil:
		m.t.Fatalf("a packet of %v to %s goes by the tunnel to %s", name, to, key.Node)
	case m.isFar(to) && key == nil:
		m.t.Fatalf("a packet of %v to %s does not go by the tunnel", name, to)
	case m.isFar(to) && (key.Node != otherNode || key.Network != identity):
		m.t.Fatalf("a packet of %v to %s goes to %s as %d, want %s as %d", name, to, key.Node, key.Network, otherNode, identity)
	}
}
