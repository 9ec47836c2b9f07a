package datapath_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func frame(t *testing.T, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...))
	return buf.Bytes()
}

func arpRequest(t *testing.T, mac net.HardwareAddr, sender, target netip.Addr) []byte {
	t.Helper()
	return frame(t,
		&layers.Ethernet{SrcMAC: mac, DstMAC: broadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		})
}

func echoRequest(t *testing.T, srcMAC, dstMAC net.HardwareAddr, src, dst netip.Addr) []byte {
	t.Helper()
	return frame(t,
		&layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7, Seq: 1})
}

// Whatever address a pod asks for but its own, its own host-side veth answers.
func TestARP(t *testing.T) { inModes(t, testARP) }

func testARP(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), l.nodes[1].addPod("c")
	unspecified := netip.IPv4Unspecified()
	for name, test := range map[string]struct {
		sender, target netip.Addr
		answered       bool
		reason         string
	}{
		"router":                   {a.Addr, n.cfg.Router(), true, "arp-reply"},
		"pod on the same node":     {a.Addr, b.Addr, true, "arp-reply"},
		"pod on another node":      {a.Addr, c.Addr, true, "arp-reply"},
		"nobody":                   {a.Addr, netip.MustParseAddr("203.0.113.9"), true, "arp-reply"},
		"probe for another's":      {unspecified, b.Addr, true, "arp-reply"},
		"own address":              {a.Addr, a.Addr, false, "arp-ignored"},
		"probe for its own":        {unspecified, a.Addr, false, "arp-ignored"},
		"in another pod's name":    {b.Addr, n.cfg.Router(), false, "source-address"},
		"in nobody's name":         {netip.MustParseAddr("203.0.113.9"), b.Addr, false, "source-address"},
		"another's own address":    {b.Addr, b.Addr, false, "source-address"},
		"own for a remote address": {a.Addr, l.outside.Addr, true, "arp-reply"},
	} {
		t.Run(name, func(t *testing.T) {
			before := n.packets(test.reason, datapath.FromPod)
			eth := a.Capture("eth0")
			eth.Inject(arpRequest(t, a.PodMAC[:], test.sender, test.target))
			eventually(t, func() bool { return n.packets(test.reason, datapath.FromPod) == before+1 }, "the request is counted as "+test.reason)
			var replies []netnstest.Frame
			for _, f := range eth.Frames() {
				if f.Layer(layers.LayerTypeARP) != nil && !f.Outgoing {
					replies = append(replies, f)
				}
			}
			if answered := len(replies) == 1; answered != test.answered {
				t.Fatalf("%d answers; want one: %v", len(replies), test.answered)
			}
			for _, f := range replies {
				checkARPReply(t, f, a, test.sender, test.target)
			}
		})
	}
}

func checkARPReply(t *testing.T, f netnstest.Frame, asker *pod, sender, target netip.Addr) {
	t.Helper()
	ethernet := f.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	reply := f.Layer(layers.LayerTypeARP).(*layers.ARP)
	if reply.Operation != layers.ARPReply {
		t.Errorf("operation %d is not a reply", reply.Operation)
	}
	if !bytes.Equal(ethernet.SrcMAC, asker.HostMAC[:]) || !bytes.Equal(ethernet.DstMAC, asker.PodMAC[:]) {
		t.Errorf("the answer goes from %s to %s, want from %s to %s", ethernet.SrcMAC, ethernet.DstMAC, asker.HostMAC, asker.PodMAC)
	}
	if !bytes.Equal(reply.SourceHwAddress, asker.HostMAC[:]) || !bytes.Equal(reply.SourceProtAddress, target.AsSlice()) {
		t.Errorf("%x is said to be at %x, want %s at %s", reply.SourceProtAddress, reply.SourceHwAddress, target, asker.HostMAC)
	}
	if !bytes.Equal(reply.DstHwAddress, asker.PodMAC[:]) || !bytes.Equal(reply.DstProtAddress, sender.AsSlice()) {
		t.Errorf("told %x at %x, want %s at %s", reply.DstProtAddress, reply.DstHwAddress, sender, asker.PodMAC)
	}
}

func TestSpoofedSource(t *testing.T) { inModes(t, testSpoofedSource) }

func testSpoofedSource(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), l.nodes[1].addPod("c")
	for name, test := range map[string]struct {
		src    netip.Addr
		to     *pod
		passes bool
	}{
		"its own address":             {a.Addr, b, true},
		"its own address, far":        {a.Addr, c, true},
		"another pod's":               {b.Addr, c, false},
		"a remote pod's":              {c.Addr, b, false},
		"the node's":                  {n.Host.Addr, b, false},
		"the router's":                {n.cfg.Router(), b, false},
		"an address outside":          {netip.MustParseAddr("203.0.113.9"), b, false},
		"none":                        {netip.IPv4Unspecified(), b, false},
		"loopback":                    {netip.MustParseAddr("127.0.0.1"), b, false},
		"the address of no pod (yet)": {netip.MustParseAddr("10.244.0.99"), b, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := n.packets("source-address", datapath.FromPod)
			out, in := a.Capture("eth0"), test.to.Capture("eth0")
			out.Inject(echoRequest(t, a.PodMAC[:], a.HostMAC[:], test.src, test.to.Addr))
			arrived := func() bool {
				return slices.ContainsFunc(in.Frames(), func(f netnstest.Frame) bool {
					ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
					return ok && !f.Outgoing && bytes.Equal(ip.SrcIP, test.src.AsSlice())
				})
			}
			if test.passes {
				eventually(t, arrived, "the packet arrives")
				return
			}
			eventually(t, func() bool { return n.packets("source-address", datapath.FromPod) == before+1 }, "the packet is dropped and counted")
			if arrived() {
				t.Error("the packet is counted as dropped, and arrived")
			}
		})
	}
}

// What each device on the way carries, as in the table of docs: TTLs of request and reply, and the MACs
// that a frame has where it reaches a pod.
func TestPathsOfAnEcho(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) { echoPaths(t, mode) })
}

func echoPaths(t *testing.T, with ...func(*datapath.Config)) {
	l := newLab(t, 2, with...)
	a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
	type point struct {
		ns      *netnstest.NS
		device  string
		request uint8
		reply   uint8
	}
	// inward is what the host-side veth carries of what goes into its pod.
	inward := func(ttl uint8) uint8 {
		if l.nodes[0].dp.Config().Mode() == settings.ModeEBPF {
			return 0
		}
		return ttl
	}
	for name, test := range map[string]struct {
		to     *pod
		points []point
	}{
		"same node": {b, []point{
			{a.NS, "eth0", 64, 63},
			{l.nodes[0].NS, a.HostIf, 64, inward(63)},
			{l.nodes[0].NS, b.HostIf, inward(63), 64},
			{b.NS, "eth0", 63, 64},
		}},
		"across nodes": {c, []point{
			{a.NS, "eth0", 64, 62},
			{l.nodes[0].NS, a.HostIf, 64, inward(62)},
			{l.nodes[0].NS, netnstest.NIC, 63, 63},
			{l.nodes[1].NS, netnstest.NIC, 63, 63},
			{l.nodes[1].NS, c.HostIf, inward(62), 64},
			{c.NS, "eth0", 62, 64},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			captures := make([]*netnstest.Capture, len(test.points))
			for i, p := range test.points {
				captures[i] = p.ns.Capture(p.device)
			}
			nic := l.nodes[0].Capture(netnstest.NIC)
			_, err := a.Ping(test.to.Addr, netnstest.PingOptions{})
			must(t, err)
			for i, p := range test.points {
				request, reply := echoTTLs(captures[i].Frames())
				if request != p.request || reply != p.reply {
					t.Errorf("%s %s: R[%d] P[%d], want R[%d] P[%d]", p.ns.Name, p.device, request, reply, p.request, p.reply)
				}
			}
			if request, _ := echoTTLs(nic.Frames()); test.to == b && request != 0 {
				t.Error("traffic on the same node is on the NIC")
			}
		})
	}
}

// echoTTLs are the TTLs of the one request and the one reply; 0 when there is none.
func echoTTLs(frames []netnstest.Frame) (request, reply uint8) {
	for _, f := range frames {
		ip, isIP := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		icmp, isICMP := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if !isIP || !isICMP {
			continue
		}
		switch icmp.TypeCode.Type() {
		case layers.ICMPv4TypeEchoRequest:
			request = ip.TTL
		case layers.ICMPv4TypeEchoReply:
			reply = ip.TTL
		}
	}
	return request, reply
}

func TestFramesComeFromTheHostSideVeth(t *testing.T) { inModes(t, testFramesComeFromTheHostSideVeth) }

func testFramesComeFromTheHostSideVeth(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	b := l.nodes[0].addPod("b")
	for name, from := range map[string]*netnstest.NS{
		"pod on the same node": l.nodes[0].addPod("a").NS,
		"pod on another node":  l.nodes[1].addPod("c").NS,
		"the node":             l.nodes[0].NS,
	} {
		t.Run(name, func(t *testing.T) {
			eth := b.Capture("eth0")
			_, err := from.Ping(b.Addr, netnstest.PingOptions{})
			must(t, err)
			seen := 0
			for _, f := range eth.Frames() {
				e := f.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
				if f.Outgoing {
					continue
				}
				seen++
				if !bytes.Equal(e.SrcMAC, b.HostMAC[:]) || !bytes.Equal(e.DstMAC, b.PodMAC[:]) {
					t.Errorf("a frame goes from %s to %s, want from %s to %s", e.SrcMAC, e.DstMAC, b.HostMAC, b.PodMAC)
				}
			}
			if seen == 0 {
				t.Error("no frame arrived")
			}
		})
	}
}

// An address of the pod CIDR that no pod has is a dead end, counted, not a loop.
func TestUnknownDestination(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a := n.addPod("a")
	before := n.packets("no-endpoint", datapath.ToPod)
	if _, err := a.Ping(netip.MustParseAddr("10.244.0.200"), netnstest.PingOptions{Timeout: netnstest.NoAnswer}); err == nil {
		t.Error("somebody answered")
	}
	if got := n.packets("no-endpoint", datapath.ToPod) - before; got != 1 {
		t.Errorf("%d packets were dropped for want of an endpoint, want 1", got)
	}
}

func TestIPv6IsNotCarried(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a := n.addPod("a")
	before := n.packets("unsupported-protocol", datapath.FromPod)
	a.Capture("eth0").Inject(frame(t,
		&layers.Ethernet{SrcMAC: a.PodMAC[:], DstMAC: a.HostMAC[:], EthernetType: layers.EthernetTypeIPv6},
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolNoNextHeader, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}))
	eventually(t, func() bool { return n.packets("unsupported-protocol", datapath.FromPod) == before+1 }, "the packet is counted")
	for _, device := range []string{a.HostIf, "lab_host", "lab_net"} {
		if got := n.ReadSysctl("net/ipv6/conf/" + device + "/disable_ipv6"); got != "1" {
			t.Errorf("IPv6 is on at %s", device)
		}
	}
	if out := a.Run("ip", "-6", "addr", "show", "dev", "eth0"); out != "" {
		t.Errorf("the pod has an IPv6 address: %s", out)
	}
}

func eventually(t *testing.T, holds func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 5 s still not: %s", what)
		}
	}
}
