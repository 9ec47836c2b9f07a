package datapath

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
)

// way is a frame that the NIC is to send on, and cannot.
type way struct {
	src, dst end
	proto    layers.IPProtocol
	size     int // of the IP packet; 0 is as small as can be
	change   func(*layers.IPv4)
}

func (w way) frame(t *testing.T) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Id: 77, Flags: layers.IPv4DontFragment, Protocol: w.proto, SrcIP: w.src.Addr().AsSlice(), DstIP: w.dst.Addr().AsSlice()}
	if w.change != nil {
		w.change(ip)
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(w.src.Port()), DstPort: layers.UDPPort(w.dst.Port())}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(w.src.Port()), DstPort: layers.TCPPort(w.dst.Port()), SYN: true, Seq: 7}
	parts := []gopacket.SerializableLayer{macs(layers.EthernetTypeIPv4), ip}
	header := 20
	if w.proto == layers.IPProtocolUDP {
		parts, header = append(parts, udp), 8
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
	} else {
		parts = append(parts, tcp)
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
	}
	data := make([]byte, max(0, w.size-20-header))
	for i := range data {
		data[i] = byte(i)
	}
	return serialized(append(parts, gopacket.Payload(data))...)
}

// What a NIC translates, and can then not send, is answered as a router answers: with the type and
// code, the MTU and the packet as it came, from an address of the node's, to who sent it.
func TestNICAnswersAsARouter(t *testing.T) {
	m, at := crossing(t)
	from := netip.MustParseAddrPort("203.0.113.50:40000")
	unreachable := func(code uint8) layers.ICMPv4TypeCode {
		return layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, code)
	}
	const tcp, udp = layers.IPProtocolTCP, layers.IPProtocolUDP
	last := func(ip *layers.IPv4) { ip.TTL = 1 }
	for name, test := range map[string]struct {
		way
		gsoSize uint32
		kind    layers.ICMPv4TypeCode
		mtu     uint16
		quote   int // bytes; 0: the whole packet
		silent  bool
		reason  bpf.Reason
	}{
		"no route":          {way: way{src: from, dst: at.nowhere, proto: tcp}, kind: unreachable(0), reason: bpf.PodLabReasonREASON_NO_ROUTE},
		"unreachable":       {way: way{src: from, dst: at.unreachable, proto: tcp}, kind: unreachable(1), reason: bpf.PodLabReasonREASON_UNREACHABLE},
		"prohibited":        {way: way{src: from, dst: at.prohibited, proto: tcp}, kind: unreachable(13), reason: bpf.PodLabReasonREASON_PROHIBITED},
		"prohibited, UDP":   {way: way{src: from, dst: at.prohibited, proto: udp, size: 100}, kind: unreachable(13), reason: bpf.PodLabReasonREASON_PROHIBITED},
		"blackhole":         {way: way{src: from, dst: at.hole, proto: tcp}, silent: true, reason: bpf.PodLabReasonREASON_BLACKHOLE},
		"the last hop":      {way: way{src: from, dst: at.far, proto: tcp, change: last}, kind: layers.CreateICMPv4TypeCode(11, 0), reason: bpf.PodLabReasonREASON_TTL},
		"the last hop, UDP": {way: way{src: from, dst: at.far, proto: udp, size: 31, change: last}, kind: layers.CreateICMPv4TypeCode(11, 0), quote: 28, reason: bpf.PodLabReasonREASON_TTL},
		"the last hop, first fragment": {way: way{src: from, dst: at.far, proto: udp, size: 100, change: func(ip *layers.IPv4) { ip.TTL, ip.Flags = 1, layers.IPv4MoreFragments }},
			kind: layers.CreateICMPv4TypeCode(11, 0), reason: bpf.PodLabReasonREASON_TTL},
		"too big":                   {way: way{src: from, dst: at.narrow, proto: tcp, size: 601}, kind: unreachable(4), mtu: 600, quote: 548, reason: bpf.PodLabReasonREASON_TOO_BIG},
		"too big, UDP":              {way: way{src: from, dst: at.narrow, proto: udp, size: 1400}, kind: unreachable(4), mtu: 600, quote: 548, reason: bpf.PodLabReasonREASON_TOO_BIG},
		"segments that are too big": {way: way{src: from, dst: at.narrow, proto: tcp, size: 1400}, gsoSize: 561, kind: unreachable(4), mtu: 600, quote: 548, reason: bpf.PodLabReasonREASON_TOO_BIG},
		"from a broadcast address":  {way: way{src: netip.MustParseAddrPort("255.255.255.255:9"), dst: at.far, proto: udp, change: last}, silent: true, reason: bpf.PodLabReasonREASON_TTL},
		"from a multicast address":  {way: way{src: netip.MustParseAddrPort("224.0.0.9:9"), dst: at.far, proto: udp, change: last}, silent: true, reason: bpf.PodLabReasonREASON_TTL},
		"from no address":           {way: way{src: netip.MustParseAddrPort("0.0.0.0:9"), dst: at.far, proto: udp, change: last}, silent: true, reason: bpf.PodLabReasonREASON_TTL},
		"from a loopback address":   {way: way{src: netip.MustParseAddrPort("127.0.0.1:9"), dst: at.far, proto: udp, change: last}, silent: true, reason: bpf.PodLabReasonREASON_TTL},
	} {
		t.Run(name, func(t *testing.T) {
			frame := test.frame(t)
			before := m.counters(bpf.PodLabDirectionDIR_FROM_NETWORK)[test.reason]
			opts := m.testRun(m.nic(), frame)
			binary.NativeEndian.PutUint32(opts.Context.([]byte)[skbGSOSize:], test.gsoSize)
			opts.DataOut = make([]byte, len(frame)+256)
			var verdict uint32
			m.ns.Do(func() {
				var err error
				verdict, err = m.d.progs.services.fromNetwork.Run(opts)
				m.must(err)
			})
			if got := m.counters(bpf.PodLabDirectionDIR_FROM_NETWORK)[test.reason]; got != before+1 {
				t.Errorf("%s counts %d, want 1", reasons[test.reason], got-before)
			}
			if test.silent {
				if verdict != actShot {
					t.Errorf("verdict %d", int32(verdict))
				}
				return
			}
			if verdict != actRedirect {
				t.Fatalf("verdict %d", int32(verdict))
			}
			checkExplanation(t, m, opts.Data, opts.DataOut, test.kind, test.mtu, test.quote)
		})
	}
}

func checkExplanation(t *testing.T, m *model, frame, out []byte, kind layers.ICMPv4TypeCode, mtu uint16, quote int) {
	t.Helper()
	got := m.parse(out) // with right checksums
	if got.icmp == nil || got.icmp.TypeCode != kind {
		t.Fatalf("the answer is %v, want %s", got.icmp, kind)
	}
	src, _ := netip.AddrFromSlice(frame[ethernetHeader+12:][:4])
	if got.src.Addr() != m.ns.Addr || got.dst.Addr() != src {
		t.Errorf("it goes %s -> %s, want %s -> %s", got.src, got.dst, m.ns.Addr, src)
	}
	if got.icmp.Seq != mtu || got.icmp.Id != 0 {
		t.Errorf("it has MTU %d, want %d", got.icmp.Seq, mtu)
	}
	if quote == 0 {
		quote = int(binary.BigEndian.Uint16(frame[ethernetHeader+2:])) // the frame may be padded
	}
	if !slices.Equal(got.icmp.Payload, frame[ethernetHeader:][:quote]) {
		t.Errorf("it quotes\n% x, want\n% x", got.icmp.Payload, frame[ethernetHeader:][:quote])
	}
	if string(out[:6]) != string(frame[6:12]) || string(out[6:12]) != string(frame[:6]) {
		t.Errorf("it goes from %x to %x", out[6:12], out[:6])
	}
	if ip := gopacket.NewPacket(out, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeIPv4).(*layers.IPv4); ip.TTL != 64 || int(ip.Length) != len(out)-ethernetHeader {
		t.Errorf("its header is %+v in a frame of %d bytes", ip, len(out))
	}
}

// crossing is a model at whose NIC Services lead where they cannot be followed; each is TCP and UDP.
func crossing(t *testing.T) (m *model, at struct{ nowhere, unreachable, prohibited, hole, narrow, far end }) {
	t.Helper()
	m = router(t)
	for kind, addr := range map[string]string{"unreachable": "198.51.100.1", "prohibit": "198.51.100.2", "blackhole": "198.51.100.3"} {
		m.ns.Run("ip", "route", "add", kind, addr)
	}
	m.ns.Run("ip", "route", "add", "198.51.100.4", "via", "192.0.2.254", "mtu", "lock", "600")
	m.services = nil
	for i, way := range []struct {
		at *end
		to string
	}{
		{&at.nowhere, "198.51.100.9"}, {&at.unreachable, "198.51.100.1"}, {&at.prohibited, "198.51.100.2"},
		{&at.hole, "198.51.100.3"}, {&at.narrow, "198.51.100.4"}, {&at.far, remotePod.Addr().String()},
	} {
		for _, proto := range []string{"tcp", "udp"} {
			m.services = append(m.services, lb.Service{
				Namespace: "ways", Name: string(rune('a' + i)), Proto: proto, Frontends: []lb.Frontend{{Kind: lb.NodePort, Port: uint16(31000 + i)}},
				Backends: []lb.Backend{{Addr: netip.AddrPortFrom(netip.MustParseAddr(way.to), 8080), Node: "b", Ready: true}},
			})
		}
		*way.at = netip.AddrPortFrom(m.ns.Addr, uint16(31000+i))
	}
	m.apply()
	return m, at
}

// What may be cut up is given to the stack, where it does not mind who it is from; translated, with the hops
// that it has, for the stack takes one.
func TestNICHasPacketsCutUp(t *testing.T) {
	m, at := crossing(t)
	host, err := m.ns.Netlink().LinkByName(hostDevice)
	m.must(err)
	frame := way{src: netip.MustParseAddrPort("203.0.113.50:40000"), dst: at.narrow, proto: layers.IPProtocolUDP, size: 1400, change: func(ip *layers.IPv4) { ip.Flags = 0 }}.frame(t)
	got := m.check(t, bpf.PodLabDirectionDIR_FROM_NETWORK, stage{m.d.progs.services.fromNetwork, m.nic()},
		branch{frame: frame, verdict: actRedirect, reason: bpf.PodLabReasonREASON_TO_KERNEL, rewritten: true})
	if string(got[:6]) != string(host.Attrs().HardwareAddr) {
		t.Errorf("it goes to %x, not to %s", got[:6], hostDevice)
	}
	if to := m.parse(got).dst; to != netip.MustParseAddrPort("198.51.100.4:8080") {
		t.Errorf("it goes to %s", to)
	}
}

// A backend's answers that are too big for the way to the client are what the backend is told of, and an
// answer that has no hop left; errors and later fragments are told of to nobody.
func TestNICAnswersBackends(t *testing.T) {
	m, at := crossing(t)
	client := netip.MustParseAddrPort("198.51.100.4:40000") // where the way is narrow
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		_, sent := m.runOn(m.d.progs.services.fromNetwork, m.nic(), way{src: client, dst: at.far, proto: proto}.frame(t))
		asked := m.parse(sent)
		answer := func(size int, change func(*layers.IPv4)) []byte {
			return way{src: asked.dst, dst: asked.src, proto: proto, size: size, change: change}.frame(t)
		}
		tells := func(what string, frame []byte, kind layers.ICMPv4TypeCode, mtu uint16, quote int) {
			opts := m.testRun(m.nic(), frame)
			verdict, out := m.runOn(m.d.progs.services.fromNetwork, m.nic(), frame)
			if verdict != actRedirect {
				t.Fatalf("%s: verdict %d", what, int32(verdict))
			}
			checkExplanation(t, m, opts.Data, out, kind, mtu, quote)
		}
		tooBig, late := layers.CreateICMPv4TypeCode(3, 4), layers.CreateICMPv4TypeCode(11, 0)
		tells("too big", answer(601, nil), tooBig, 600, 548)
		if verdict, out := m.runOn(m.d.progs.services.fromNetwork, m.nic(), answer(600, nil)); verdict != actRedirect || m.parse(out).dst != client {
			t.Errorf("what fits: verdict %d", int32(verdict))
		}
		tells("too big, of a known flow", answer(601, nil), tooBig, 600, 548)
		tells("the last hop", answer(0, func(ip *layers.IPv4) { ip.TTL = 1 }), late, 0, 0)
		silent := map[string][]byte{
			"an error": edit(t, icmpPacket(asked.dst.Addr(), m.ns.Addr, 3, 0, quoted(sent)), func(ip *layers.IPv4) { ip.TTL = 1 }),
		}
		if proto == layers.IPProtocolUDP {
			m.runOn(m.d.progs.services.fromNetwork, m.nic(), answer(100, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }))
			silent["a later fragment"] = answer(100, func(ip *layers.IPv4) { ip.Flags, ip.FragOffset, ip.TTL = 0, 12, 1 })
		}
		for what, frame := range silent {
			if verdict, _ := m.runOn(m.d.progs.services.fromNetwork, m.nic(), frame); verdict != actShot {
				t.Errorf("%s: verdict %d", what, int32(verdict))
			}
		}
	}
}

// Who sends without an end is not told without an end; of what is too big, each time.
func TestNICAnswersAtAPace(t *testing.T) {
	m, at := crossing(t)
	from := netip.MustParseAddrPort("203.0.113.50:40000")
	tell := func(w way) (told int, took time.Duration) {
		frame, begun := w.frame(t), time.Now()
		onOneCPU(m, func() {
			for range 1000 {
				if verdict, _ := m.runInside(stage{m.d.progs.services.fromNetwork, m.nic()}, frame); verdict == actRedirect {
					told++
				}
			}
		})
		return told, time.Since(begun)
	}
	told, took := tell(way{src: from, dst: at.far, proto: layers.IPProtocolTCP, change: func(ip *layers.IPv4) { ip.TTL = 1 }})
	if most := 51 + int(took.Seconds()*100); told < 50 || told > most {
		t.Errorf("%d of 1000 packets in %s are told of, want 50 to %d", told, took, most)
	}
	// Others are told all the same.
	other := way{src: netip.MustParseAddrPort("203.0.113.51:40000"), dst: at.far, proto: layers.IPProtocolTCP, change: func(ip *layers.IPv4) { ip.TTL = 1 }}
	onOneCPU(m, func() {
		if verdict, _ := m.runInside(stage{m.d.progs.services.fromNetwork, m.nic()}, other.frame(t)); verdict != actRedirect {
			t.Errorf("another client: verdict %d", int32(verdict))
		}
	})
	if told, _ := tell(way{src: from, dst: at.narrow, proto: layers.IPProtocolTCP, size: 700}); told != 1000 {
		t.Errorf("%d of 1000 packets that are too big are told of", told)
	}
}
