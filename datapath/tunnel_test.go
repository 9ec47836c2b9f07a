package datapath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/ipv4"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// tunnel is one of the protocols.
type tunnel struct {
	protocol string
	device   string
	port     uint16
	header   []byte // in front of the network's number
	needs    netnstest.Feature
}

var (
	vxlan  = tunnel{settings.TunnelVXLAN, "lab_vxlan", 8472, []byte{8, 0, 0, 0}, netnstest.VXLAN}
	geneve = tunnel{settings.TunnelGeneve, "lab_geneve", 6081, []byte{0, 0, 0x65, 0x58}, netnstest.Geneve}
)

// between has nodes reach each other's pods through it.
func (tn tunnel) between(c *datapath.Config) {
	c.RoutingMode, c.TunnelProtocol, c.AutoDirectNodeRoutes = settings.RoutingTunnel, tn.protocol, false
}

// inTunnels runs a test by each protocol.
func inTunnels(t *testing.T, f func(*testing.T, tunnel)) {
	for _, tn := range []tunnel{vxlan, geneve} {
		t.Run(tn.protocol, func(t *testing.T) {
			netnstest.Needs(t, tn.needs)
			f(t, tn)
		})
	}
}

// inTunnelModes runs a test in every mode, with a tunnel by each protocol between the nodes.
func inTunnelModes(t *testing.T, f func(*testing.T, tunnel, setup)) {
	inModes(t, func(t *testing.T, mode setup) {
		inTunnels(t, func(t *testing.T, tn tunnel) {
			f(t, tn, func(c *datapath.Config) {
				mode(c)
				tn.between(c)
			})
		})
	})
}

// newRoutedLab is a lab whose nodes reach each other by a router that knows no pod's address.
func newRoutedLab(t *testing.T, nodes int, with ...func(*datapath.Config)) *lab {
	t.Helper()
	l := newLab(t, nodes, with...)
	router := l.outside
	router.Sysctl("net/ipv4/ip_forward", "1")
	router.Sysctl("net/ipv4/conf/all/send_redirects", "0")
	router.Sysctl("net/ipv4/conf/"+netnstest.NIC+"/send_redirects", "0")
	for _, n := range l.nodes {
		for _, o := range l.nodes {
			if o != n {
				n.AddRoute(netip.PrefixFrom(o.Host.Addr, 32), router.Addr)
			}
		}
	}
	return l
}

// What a tunnel carries, and how, in one lab for each mode and protocol.
func TestTunnel(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, tn tunnel, mode setup) {
		l := newRoutedLab(t, 2, mode)
		t.Run("conversations", func(t *testing.T) { tn.testConversations(t, l) })
		t.Run("on the wire", func(t *testing.T) { tn.testWire(t, l) })
		t.Run("last hops", func(t *testing.T) { tn.testLastHops(t, l) })
		t.Run("MTU", func(t *testing.T) { tn.testMTU(t, l) })
		t.Run("large sends", func(t *testing.T) { testLargeSendsStayLarge(t, l) })
	})
}

// Whoever talks to whom, as without a tunnel.
func (tn tunnel) testConversations(t *testing.T, l *lab) {
	a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
	node0, node1 := l.nodes[0], l.nodes[1]
	conversations := l.conversations(a, b, c)
	if node0.dp.Config().Mode() == settings.ModeKubeProxy {
		// Fragments to a node are the stack's there, which sends them by itself, with the node's address.
		delete(conversations, "pod to another node")
		for _, network := range []string{"tcp4", "udp4"} {
			if seen, err := a.Ask(network, netip.AddrPortFrom(node1.Host.Addr, port), []byte("x")); err != nil || seen != a.Addr {
				t.Errorf("pod to another node, %s: it saw %s, want %s: %v", network, seen, a.Addr, err)
			}
		}
	}
	for name, conversation := range conversations {
		t.Run(name, conversation.check)
	}
	// What the network between the nodes has seen of it all are packets between nodes.
	router := l.outside.Capture(netnstest.NIC)
	must(t, second(a.Ping(c.Addr, netnstest.PingOptions{})))
	for _, f := range router.Frames() {
		if ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok && native.Contains(netip.AddrFrom4([4]byte(ip.DstIP.To4()))) {
			t.Errorf("the network between the nodes has a packet to %s", ip.DstIP)
		}
	}
}

// outer is a packet of the tunnel on the wire.
type outer struct {
	network uint32
	ip      layers.IPv4
	udp     layers.UDP
	inner   *layers.IPv4
	length  int
}

// outerOf takes a frame of the tunnel apart; not ok when it is none.
func (tn tunnel) outerOf(f netnstest.Frame) (o outer, ok bool) {
	ip, isIP := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	udp, isUDP := f.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !isIP || !isUDP || udp.DstPort != layers.UDPPort(tn.port) || len(udp.Payload) < 8 || !bytes.HasPrefix(udp.Payload, tn.header) {
		return o, false
	}
	inner := gopacket.NewPacket(udp.Payload[8:], layers.LayerTypeEthernet, gopacket.Default)
	o = outer{network: binary.BigEndian.Uint32(udp.Payload[4:]) >> 8, ip: *ip, udp: *udp, length: len(f.Data())}
	o.inner, ok = inner.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	return o, ok
}

// On the wire: from node to node, the sender's identity as the network's number, no checksum, one source port a flow, 50 bytes
// more. The tunnel is no hop.
func (tn tunnel) testWire(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, c := n.addPod("a"), m.addPod("c")
	must(t, n.dp.SetIdentity(a.Addr, 4711))
	must(t, m.dp.SetIdentity(c.Addr, 815))
	serve(c.NS)
	wire, eth, devices := n.Capture(netnstest.NIC), a.Capture("eth0"), []*netnstest.Capture{n.Capture(tn.device), m.Capture(tn.device)}
	echo, err := a.Ping(c.Addr, netnstest.PingOptions{Size: 1000})
	if err != nil || echo.TTL != 63 {
		t.Errorf("the answer has TTL %d, want 63: %v", echo.TTL, err)
	}
	// A connection that waits in vain for an answer, as on a busy machine, gets another hash, and its packets another source port:
	// net/ipv4/tcp_timer.c, tcp_write_timeout. Kernels from 5.18 on can be told to leave that.
	if _, err := os.Stat("/proc/sys/net/core/txrehash"); err == nil {
		a.NS.Sysctl("net/core/txrehash", "0")
	}
	must(t, second(a.Ask("tcp4", c.at(port), bytes.Repeat([]byte("x"), 1<<16))))
	networks, ports := map[string][]uint32{}, map[layers.UDPPort]bool{}
	for _, f := range wire.Frames() {
		o, ok := tn.outerOf(f)
		if !ok {
			continue
		}
		wireTTL := uint8(64)
		if !f.Outgoing { // there is a router between the nodes
			wireTTL--
		}
		networks[o.inner.SrcIP.String()] = append(networks[o.inner.SrcIP.String()], o.network)
		if o.udp.Checksum != 0 || o.inner.TTL != 64 || o.ip.TTL != wireTTL || o.length != int(o.inner.Length)+14+50 {
			t.Errorf("checksum %#x, inner TTL %d, outer TTL %d, a frame of %d bytes about a packet of %d", o.udp.Checksum, o.inner.TTL, o.ip.TTL, o.length, o.inner.Length)
		}
		if o.inner.Protocol == layers.IPProtocolTCP && o.inner.SrcIP.Equal(a.Addr.AsSlice()) {
			ports[o.udp.SrcPort] = true
		}
		want := []string{n.Host.Addr.String(), m.Host.Addr.String()}
		if got := []string{o.ip.SrcIP.String(), o.ip.DstIP.String()}; o.inner.SrcIP.Equal(a.Addr.AsSlice()) != slices.Equal(got, want) {
			t.Errorf("%s sends it from %s to %s", o.inner.SrcIP, got[0], got[1])
		}
	}
	for who, want := range map[*pod]uint32{a: 4711, c: 815} {
		got := networks[who.Addr.String()]
		if len(got) < 3 || slices.ContainsFunc(got, func(network uint32) bool { return network != want }) {
			t.Errorf("what %s sends has the networks %d, want %d", who.spec.Pod, got, want)
		}
	}
	if len(ports) != 1 {
		t.Errorf("one connection has the source ports %v", ports)
	}
	for _, device := range devices {
		for _, f := range device.Frames() {
			if ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok && ip.TTL != 64 {
				t.Errorf("on the tunnel's device a packet from %s has TTL %d", ip.SrcIP, ip.TTL)
			}
		}
	}
	if len(eth.Frames()) == 0 {
		t.Error("the pod's interface shows nothing, so what others do not show says nothing")
	}
}

// Nobody but nodes sends into the tunnel, and a node for nobody but its own pods and itself.
func TestTunnelTakesNoForgeries(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, tn tunnel, mode setup) {
		l := newLab(t, 3, mode)
		n, m, o := l.nodes[0], l.nodes[1], l.nodes[2]
		a, c, e := n.addPod("a"), m.addPod("c"), o.addPod("e")
		eth := a.Capture("eth0")
		send := func(from *netnstest.Host, inner netip.Addr, marker string, tags ...layers.Dot1Q) {
			t.Helper()
			conn, err := from.Dial("udp4", netip.AddrPortFrom(n.Host.Addr, tn.port))
			must(t, err)
			defer conn.Close()
			must(t, second(conn.Write(tn.packet(t, 4711, inner, a.Addr, marker, tags...))))
		}
		arrived := func(marker string) bool {
			return slices.ContainsFunc(eth.Frames(), func(f netnstest.Frame) bool { return bytes.Contains(f.Data(), []byte(marker)) })
		}
		for _, forged := range []struct {
			what   string
			from   *netnstest.Host
			inner  netip.Addr
			tags   []layers.Dot1Q
			reason string
		}{
			{"from outside", l.outside, c.Addr, nil, "no-node"},
			{"from a node, as another node's pod", m.Host, e.Addr, nil, "forged-source"},
			{"from a node, as a pod of this node", m.Host, a.Addr, nil, "forged-source"},
			{"from a node, as another node", m.Host, o.Host.Addr, nil, "forged-source"},
			{"from a node, as this node", m.Host, n.Host.Addr, nil, "forged-source"},
			{"from a node, as somebody outside", m.Host, l.outside.Addr, nil, "forged-source"},
			{"from a node, in a VLAN", m.Host, c.Addr, []layers.Dot1Q{{VLANIdentifier: 7, Type: layers.EthernetTypeIPv4}}, "unsupported-protocol"},
		} {
			before := n.packets(forged.reason, datapath.FromNetwork)
			send(forged.from, forged.inner, "forged", forged.tags...)
			send(m.Host, c.Addr, "real")
			eventually(t, func() bool { return arrived("real") }, forged.what+": what follows arrives")
			if got := n.packets(forged.reason, datapath.FromNetwork) - before; got != 1 {
				t.Errorf("%s: %d are counted as %s, want 1", forged.what, got, forged.reason)
			}
			if arrived("forged") {
				t.Errorf("%s: it arrives", forged.what)
			}
		}
	})
}

// packet is what a node would send into the tunnel, behind UDP: a datagram from src to dst, in a VLAN if there are tags.
func (tn tunnel) packet(t *testing.T, network uint32, src, dst netip.Addr, payload string, tags ...layers.Dot1Q) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	udp := &layers.UDP{SrcPort: 1000, DstPort: 1001}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	mac := []byte{2, 0, 0, 0, 0, 1}
	eth := &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
	headers := []gopacket.SerializableLayer{eth}
	for i := range tags {
		eth.EthernetType = layers.EthernetTypeDot1Q
		headers = append(headers, &tags[i])
	}
	inner := frame(t, append(headers, ip, udp, gopacket.Payload(payload))...)
	header := binary.BigEndian.AppendUint32(slices.Clone(tn.header), network<<8)
	return append(header, inner...)
}

// A pod's route says what fits through the tunnel, whoever ignores it is told, and what may be is cut up. Large sends stay
// large.
func (tn tunnel) testMTU(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, c := n.addPod("a"), m.addPod("c")
	if route := a.Run("ip", "route", "show", "default"); !strings.Contains(route, "mtu 1450") {
		t.Errorf("the pod's route is %q", route)
	}
	must(t, second(a.Ping(c.Addr, netnstest.PingOptions{Size: 1450})))
	if _, err := a.Ping(c.Addr, netnstest.PingOptions{Size: 1451}); err == nil || !strings.Contains(err.Error(), "message too long") {
		t.Errorf("1451 bytes: %v, want that they are too long", err)
	}
	a.Run("ip", "route", "change", "default", "via", n.cfg.Router().String(), "dev", "eth0") // as pods have it from before there was a tunnel
	echo, err := a.Ping(c.Addr, netnstest.PingOptions{Size: 1451})
	if err != nil || echo.Type != ipv4.ICMPTypeDestinationUnreachable {
		t.Errorf("1451 bytes of a pod that knows of no limit: %+v, %v", echo, err)
	}
	serve(c.NS)
	asks{a.NS, c.Addr, a.Addr}.check(t)
}

// The node that a pod is on is its only router on the way to a pod elsewhere.
func (tn tunnel) testLastHops(t *testing.T, l *lab) {
	n := l.nodes[0]
	a, c := n.addPod("a"), l.nodes[1].addPod("c")
	for ttl, want := range map[int]netnstest.Echo{
		1: {From: n.Host.Addr, Type: ipv4.ICMPTypeTimeExceeded},
		2: {From: c.Addr, Type: ipv4.ICMPTypeEchoReply},
	} {
		echo, err := a.Ping(c.Addr, netnstest.PingOptions{TTL: ttl})
		if err != nil || echo.From != want.From || echo.Type != want.Type {
			t.Errorf("with TTL %d: %+v, %v, want %v from %s", ttl, echo, err, want.Type, want.From)
		}
	}
}

// The device is there as it has to be whatever somebody makes of it, and only as long as it is in use.
func TestTunnelDevice(t *testing.T) {
	inTunnels(t, func(t *testing.T, tn tunnel) {
		l := newLab(t, 2, routed, tn.between)
		n, m := l.nodes[0], l.nodes[1]
		a, c := n.addPod("a"), m.addPod("c")
		reach := func(what string) {
			t.Helper()
			if _, err := a.Ping(c.Addr, netnstest.PingOptions{}); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		mend := func() { n.Do(func() { must(t, n.dp.Devices().Apply(ctx(t))) }) }
		reach("at first")
		for _, damage := range [][]string{
			{"ip", "link", "set", tn.device, "down"},
			{"ip", "link", "del", tn.device},
		} {
			n.Run(damage...)
			if _, err := a.Ping(c.Addr, netnstest.PingOptions{Timeout: netnstest.NoAnswer}); err == nil {
				t.Fatalf("%v: it is answered all the same, so the tunnel is not what it goes by", damage)
			}
			mend()
			reach(strings.Join(damage, " ") + ", and mended")
		}
		n.Run("ip", "link", "del", tn.device)
		n.Run("ip", "link", "add", tn.device, "type", tn.protocol, "id", "7", "dstport", "4789", "remote", m.Host.Addr.String())
		mend()
		reach("another device of that name, and mended")
		n.close()
		n.cfg.TunnelPort = 8473
		n.open()
		if got := n.Run("ip", "-d", "link", "show", tn.device); !strings.Contains(got, "dstport 8473") || !strings.Contains(got, "external") {
			t.Errorf("at another port: %s", got)
		}
		n.close()
		n.cfg.RoutingMode = settings.RoutingNative
		n.open()
		if got, err := n.TryRun("ip", "link", "show", tn.device); err == nil {
			t.Errorf("without a tunnel: %s", got)
		}
	})
}

func TestTunnelPortInUse(t *testing.T) {
	inTunnels(t, func(t *testing.T, tn tunnel) {
		device := func(args ...string) func(*node) {
			return func(n *node) {
				n.Run(append([]string{"ip", "link", "add", "other", "up", "type", tn.protocol, "dstport", fmt.Sprint(tn.port)}, args...)...)
			}
		}
		for name, take := range map[string]func(*node){
			"by a process":                      func(n *node) { n.ServeUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), tn.port)) },
			"by a device that has its far ends": device("id", "1", "remote", "192.0.2.1"),
			"by a device as ours":               device("external"),
		} {
			t.Run(name, func(t *testing.T) {
				n := newLab(t, 1, tn.between).nodes[0]
				n.close()
				n.Run("ip", "link", "del", tn.device)
				take(n)
				n.Do(func() {
					dp, err := datapath.Open(ctx(t), n.cfg, logger(t))
					if err == nil {
						must(t, dp.Close())
					}
					for _, want := range []string{"device of the node", fmt.Sprintf("UDP port %d", tn.port), "tunnelPort"} {
						if err == nil || !strings.Contains(err.Error(), want) {
							t.Errorf("%v, want %q in it", err, want)
						}
					}
				})
			})
		}
	})
}

// A node that has moved is reached where it is, and one that is gone nowhere, by flows that are known too, from the moment the
// map says so; one that comes back at another address, or is new, is reached there.
func TestTunnelFollowsNodes(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, tn tunnel, mode setup) {
		l := newLab(t, 2, mode)
		n, m := l.nodes[0], l.nodes[1]
		a, c := n.addPod("a"), m.addPod("c")
		serve(a.NS, c.NS)
		conn, err := a.Dial("udp4", c.at(port))
		must(t, err)
		defer conn.Close()
		for range 3 {
			must(t, second(who(conn)))
		}
		wire := n.Capture(netnstest.NIC)
		entries := l.whoHas(n)
		elsewhere := l.outside.Addr
		for i := range entries {
			if entries[i].Node == m.cfg.NodeIP {
				entries[i].Node = elsewhere
			}
		}
		must(t, n.dp.IPCache().Apply(ctx(t), entries))
		wire.Frames()
		must(t, second(conn.Write([]byte("y"))))
		var to []string
		eventually(t, func() bool {
			for _, f := range wire.Frames() {
				if o, ok := tn.outerOf(f); ok && f.Outgoing {
					to = append(to, o.ip.DstIP.String())
				}
			}
			return len(to) > 0
		}, "the packet leaves")
		if slices.ContainsFunc(to, func(addr string) bool { return addr != elsewhere.String() }) {
			t.Errorf("packets leave for %v, want %s", to, elsewhere)
		}
		must(t, n.dp.IPCache().Apply(ctx(t), slices.DeleteFunc(entries, func(e api.IPCacheEntry) bool { return e.Node == elsewhere })))
		wire.Frames()
		lost := n.packets("no-endpoint", datapath.ToPod)
		must(t, second(conn.Write([]byte("z"))))
		eventually(t, func() bool { return n.packets("no-endpoint", datapath.ToPod) > lost }, "a packet to a node that is gone is dropped")
		for _, f := range wire.Frames() {
			if o, ok := tn.outerOf(f); ok && f.Outgoing {
				t.Errorf("to a node that is gone a packet leaves for %s", o.ip.DstIP)
			}
		}
		// It is back, at another address.
		was := m.cfg.NodeIP
		m.close()
		m.cfg.NodeIP = netip.MustParseAddr("192.0.2.77")
		m.Run("ip", "addr", "flush", "dev", netnstest.NIC)
		m.AddAddr(netnstest.NIC, netip.PrefixFrom(m.cfg.NodeIP, netnstest.LAN.Bits()))
		m.AddRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), l.outside.Addr)
		m.open()
		l.reconcile()
		wire.Frames()
		if answer, err := who(conn); err != nil || !strings.HasSuffix(answer, "?") {
			t.Errorf("the known flow, when the node is back at another address: %q, %v", answer, err)
		}
		asks{a.NS, c.Addr, a.Addr}.check(t)
		asks{c.NS, a.Addr, c.Addr}.check(t)
		for _, f := range wire.Frames() {
			if o, ok := tn.outerOf(f); ok && (o.ip.DstIP.Equal(was.AsSlice()) || o.ip.SrcIP.Equal(was.AsSlice())) {
				t.Errorf("a packet goes from %s to %s, and %s is no node's any more", o.ip.SrcIP, o.ip.DstIP, was)
			}
		}
		// And one that is new.
		o := l.addNode(2, mode)
		e := o.addPod("e")
		serve(e.NS)
		lost = n.packets("no-endpoint", datapath.ToPod)
		if _, err := a.Ping(e.Addr, netnstest.PingOptions{Timeout: netnstest.NoAnswer}); err == nil {
			t.Error("a pod of a node that is not known yet answers")
		}
		l.nodes = append(l.nodes, o)
		l.reconcile()
		asks{a.NS, e.Addr, a.Addr}.check(t)
		asks{e.NS, c.Addr, e.Addr}.check(t)
	})
}
