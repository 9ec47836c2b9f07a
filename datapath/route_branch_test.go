package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
)

// Offsets in struct __sk_buff.
const (
	skbMark    = 8
	skbGSOSize = 176
)

// done is the mark of packets that the program at the NIC has nothing to do for. Others' bits of a mark are
// identities' and kube-proxy's.
const (
	done   = uint32(bpf.PodLabMarkMARK_DONE)
	others = ^uint32(bpf.PodLabMarkMARK_OWN)
)

// branch is one way through a program.
type branch struct {
	frame   []byte
	mark    uint32
	gsoSize uint32
	verdict uint32
	// reason is counted once; REASON_NONE: none is.
	reason bpf.Reason
	// outMark is on the packet afterwards; hop says that its TTL is one less.
	outMark uint32
	hop     bool
	// rewritten says that its addresses are not the same.
	rewritten bool
}

// router is a model whose other node is known as one, and which has a way to the outside. The neighbours'
// MACs are known: otherwise no decision to send to them would be remembered.
func router(t testing.TB) *model {
	t.Helper()
	m := newModelWith(t, inBPF)
	m.ns.Do(func() { m.must(m.d.Masquerade().Apply(context.Background(), []Node{{Name: "b", IP: otherNode}})) })
	m.ns.Run("ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.254")
	for _, next := range []string{otherNode.String(), "192.0.2.254"} {
		m.ns.Run("ip", "neigh", "add", next, "lladdr", "02:00:00:00:00:fe", "dev", "eth0", "nud", "permanent")
	}
	return m
}

var (
	otherNode = netip.MustParseAddr("192.0.2.2")
	far       = netip.MustParseAddrPort("203.0.113.9:80")
	remotePod = netip.MustParseAddrPort("10.244.1.2:80")
)

// check runs a branch and compares verdict, counters, mark and frame: of a packet that is decided about, and
// of another one that may find the decision remembered.
func (m *model) check(t *testing.T, dir bpf.Direction, at stage, b branch) []byte {
	t.Helper()
	m.checkOne(t, dir, at, b)
	return m.checkOne(t, dir, at, b)
}

func (m *model) checkOne(t *testing.T, dir bpf.Direction, at stage, b branch) []byte {
	t.Helper()
	before := m.counters(dir)
	opts := m.testRun(at.ifindex, b.frame)
	skb := opts.Context.([]byte)
	binary.NativeEndian.PutUint32(skb[skbMark:], b.mark)
	binary.NativeEndian.PutUint32(skb[skbGSOSize:], b.gsoSize)
	after := make([]byte, len(skb))
	opts.ContextOut, opts.DataOut = after, make([]byte, len(b.frame)+256)
	m.ns.Do(func() {
		verdict, err := at.prog.Run(opts)
		m.must(err)
		if verdict != b.verdict {
			t.Errorf("verdict %d, want %d", int32(verdict), int32(b.verdict))
		}
	})
	if mark := binary.NativeEndian.Uint32(after[skbMark:]); mark != b.outMark {
		t.Errorf("mark %#x, want %#x", mark, b.outMark)
	}
	for reason, n := range m.counters(dir) {
		want := before[reason]
		if reason == b.reason {
			want++
		}
		if n != want {
			t.Errorf("%s counts %d more, want %d", reasons[reason], n-before[reason], want-before[reason])
		}
	}
	m.compare(t, b, opts.DataOut)
	return opts.DataOut
}

func (m *model) compare(t *testing.T, b branch, out []byte) {
	t.Helper()
	ttl := func(frame []byte) byte { return frame[ethernetHeader+8] }
	want := ttl(b.frame)
	if b.hop {
		want--
	}
	if ttl(out) != want {
		t.Errorf("TTL %d, want %d", ttl(out), want)
	}
	p := gopacket.NewPacket(out, layers.LayerTypeEthernet, gopacket.Default)
	if ip := p.Layer(layers.LayerTypeIPv4); sum16(ip.LayerContents()) != 0xffff {
		t.Error("the header's checksum is wrong")
	}
	same := string(out[ethernetHeader+12:]) == string(b.frame[ethernetHeader+12:])
	if same == b.rewritten {
		t.Errorf("rewritten is %v:\n%s", !same, p.Dump())
	}
}

// sum16 is the one's complement sum of RFC 1071.
func sum16(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// sized is a UDP datagram whose IP packet has so many bytes.
func sized(t *testing.T, src, dst end, size int, flags layers.IPv4Flag) []byte {
	t.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip := &layers.IPv4{Version: 4, TTL: 64, Flags: flags, Protocol: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	buf := gopacket.NewSerializeBuffer()
	err := errors.Join(udp.SetNetworkLayerForChecksum(ip), gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(make([]byte, size-28))))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const pass = bpf.PodLabReasonREASON_NONE

func TestPacketsFromPodsAreRouted(t *testing.T) {
	m := router(t)
	for _, kind := range []string{"unreachable", "prohibit", "blackhole"} {
		m.ns.Run("ip", "route", "add", kind, map[string]string{"unreachable": "198.51.100.1", "prohibit": "198.51.100.2", "blackhole": "198.51.100.3"}[kind])
	}
	client := netip.AddrPortFrom(m.local[0], 40000)
	to := func(dst end) []byte { return packet(layers.IPProtocolTCP, client, dst, ackFlag) }
	dead := func(addr string) []byte { return to(netip.AddrPortFrom(netip.MustParseAddr(addr), 80)) }
	dont, may := layers.IPv4DontFragment, layers.IPv4Flag(0)
	for name, b := range map[string]branch{
		"to a pod beside it":       {frame: to(netip.AddrPortFrom(m.local[1], 80)), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
		"to a pod elsewhere":       {frame: to(remotePod), verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true},
		"marked by others":         {frame: to(remotePod), mark: others | 7, verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: others | done, hop: true},
		"marked as done already":   {frame: to(far), mark: done, outMark: 0, verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, hop: true},
		"to another node":          {frame: to(netip.AddrPortFrom(otherNode, 80)), verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true},
		"to the outside":           {frame: to(far), verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, hop: true},
		"a later fragment":         {frame: edit(t, to(remotePod), func(ip *layers.IPv4) { ip.FragOffset = 3 }), verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true},
		"SCTP":                     {frame: edit(t, to(remotePod), func(ip *layers.IPv4) { ip.Protocol = layers.IPProtocolSCTP }), verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true},
		"to its node":              {frame: to(netip.AddrPortFrom(m.ns.Addr, 22)), verdict: actNext, reason: bpf.PodLabReasonREASON_TO_KERNEL},
		"to the router":            {frame: to(netip.AddrPortFrom(m.d.cfg.Router(), 22)), verdict: actNext, reason: bpf.PodLabReasonREASON_TO_KERNEL},
		"multicast":                {frame: dead("224.0.0.251"), verdict: actNext, reason: bpf.PodLabReasonREASON_TO_KERNEL},
		"the last hop":             {frame: edit(t, to(remotePod), func(ip *layers.IPv4) { ip.TTL = 1 }), verdict: actNext, reason: bpf.PodLabReasonREASON_TO_KERNEL},
		"IP options":               {frame: edit(t, to(remotePod), func(ip *layers.IPv4) { ip.Options = []layers.IPv4Option{{OptionType: 1, OptionLength: 1}} }), verdict: actNext, reason: bpf.PodLabReasonREASON_TO_KERNEL},
		"no route":                 {frame: dead("198.51.100.4"), verdict: actNext, reason: bpf.PodLabReasonREASON_NO_ROUTE},
		"unreachable":              {frame: dead("198.51.100.1"), verdict: actNext, reason: bpf.PodLabReasonREASON_UNREACHABLE},
		"prohibited":               {frame: dead("198.51.100.2"), verdict: actNext, reason: bpf.PodLabReasonREASON_PROHIBITED},
		"blackhole":                {frame: dead("198.51.100.3"), verdict: actShot, reason: bpf.PodLabReasonREASON_BLACKHOLE},
		"as large as may be":       {frame: sized(t, client, remotePod, 1500, dont), verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true},
		"too large":                {frame: sized(t, client, remotePod, 1501, dont), verdict: actNext, reason: bpf.PodLabReasonREASON_TOO_BIG},
		"too large, may be cut":    {frame: sized(t, client, remotePod, 1501, may), verdict: actNext, reason: bpf.PodLabReasonREASON_TO_KERNEL},
		"segments that fit":        {frame: sized(t, client, remotePod, 3000, dont), gsoSize: 1472, verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true},
		"segments that do not fit": {frame: sized(t, client, remotePod, 3000, dont), gsoSize: 1473, verdict: actNext, reason: bpf.PodLabReasonREASON_TOO_BIG},
	} {
		t.Run(name, func(t *testing.T) {
			m.check(t, bpf.PodLabDirectionDIR_FROM_POD, stage{m.d.progs.fromPod, m.ifindex(m.local[0])}, b)
		})
	}
}

func TestPacketsIntoPods(t *testing.T) {
	m := router(t)
	pod := bpf.Endpoint{Ifindex: uint32(m.ifindex(m.local[0])), Id: 2, Mac: bpf.MAC{B: [6]uint8{2, 0, 0, 0, 0, 0xa}}, NodeMac: bpf.MAC{B: [6]uint8{2, 0, 0, 0, 0, 0xb}}}
	m.must(m.d.maps.enter(m.local[0], pod, ebpf.UpdateAny))
	at := netip.AddrPortFrom(m.local[0], 80)
	from := func(src end) []byte { return packet(layers.IPProtocolTCP, src, at, ackFlag) }
	own := func(addr netip.Addr) []byte { return from(netip.AddrPortFrom(addr, 40000)) }
	for name, b := range map[string]branch{
		"from a pod elsewhere":     {frame: from(remotePod), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
		"from another node":        {frame: own(otherNode), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
		"from outside":             {frame: from(far), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
		"a later fragment":         {frame: edit(t, from(remotePod), func(ip *layers.IPv4) { ip.FragOffset = 3 }), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
		"SCTP":                     {frame: edit(t, from(remotePod), func(ip *layers.IPv4) { ip.Protocol = layers.IPProtocolSCTP }), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
		"the last hop":             {frame: edit(t, from(remotePod), func(ip *layers.IPv4) { ip.TTL = 1 }), verdict: actNext, reason: pass},
		"IP options":               {frame: edit(t, from(remotePod), func(ip *layers.IPv4) { ip.Options = []layers.IPv4Option{{OptionType: 1, OptionLength: 1}} }), verdict: actNext, reason: pass},
		"to nobody":                {frame: packet(layers.IPProtocolTCP, remotePod, netip.MustParseAddrPort("10.244.0.99:80"), ackFlag), verdict: actNext, reason: pass},
		"in the node's name":       {frame: own(m.ns.Addr), verdict: actNext, reason: pass},
		"in a pod's of this node":  {frame: own(m.local[1]), verdict: actNext, reason: pass},
		"too large for the pod":    {frame: sized(t, remotePod, at, 1501, layers.IPv4DontFragment), verdict: actNext, reason: pass},
		"segments that fit":        {frame: sized(t, remotePod, at, 3000, layers.IPv4DontFragment), gsoSize: 1472, verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
		"segments that do not fit": {frame: sized(t, remotePod, at, 3000, layers.IPv4DontFragment), gsoSize: 1473, verdict: actNext, reason: pass},
	} {
		t.Run(name, func(t *testing.T) {
			out := m.check(t, bpf.PodLabDirectionDIR_FROM_NETWORK, stage{m.d.progs.services.fromNetwork, m.nic()}, b)
			if addressed := string(out[:12]) == string(pod.Mac.B[:])+string(pod.NodeMac.B[:]); addressed != (b.verdict == actRedirect) {
				t.Errorf("the frame goes from %x to %x", out[6:12], out[:6])
			}
		})
	}
}

// The node's rules see of a packet what they would see in the stack: protocol, ports, mark and DSCP, of
// flows that are known too, and as the packet is by then.
func TestRulesSeeThePacket(t *testing.T) {
	m := router(t)
	client := netip.AddrPortFrom(m.local[0], 40000)
	veth := stage{m.d.progs.fromPod, m.ifindex(m.local[0])}
	tos := func(frame []byte, tos uint8) []byte { return edit(t, frame, func(ip *layers.IPv4) { ip.TOS = tos }) }
	tcp := func(src, dst uint16) []byte {
		return packet(layers.IPProtocolTCP, netip.AddrPortFrom(client.Addr(), src), netip.AddrPortFrom(remotePod.Addr(), dst), ackFlag)
	}
	plain := packet(layers.IPProtocolTCP, client, remotePod, ackFlag)
	for name, test := range map[string]struct {
		rule      []string
		hit, miss []byte
		hitMark   uint32
	}{
		"protocol":    {rule: []string{"ipproto", "udp"}, hit: packet(layers.IPProtocolUDP, client, remotePod, 0), miss: plain},
		"ICMP":        {rule: []string{"ipproto", "icmp"}, hit: icmpPacket(client.Addr(), remotePod.Addr(), 8, 7, nil), miss: plain},
		"destination": {rule: []string{"ipproto", "tcp", "dport", "443"}, hit: tcp(40000, 443), miss: plain},
		"source":      {rule: []string{"ipproto", "tcp", "sport", "40001"}, hit: tcp(40001, 80), miss: plain},
		"DSCP":        {rule: []string{"tos", "0x10"}, hit: tos(plain, 0x10), miss: plain},
		"DSCP, ECN":   {rule: []string{"tos", "0x10"}, hit: tos(plain, 0x12), miss: tos(plain, 0x02)},
		"mark":        {rule: []string{"fwmark", "7"}, hit: plain, hitMark: 7, miss: plain},
	} {
		t.Run(name, func(t *testing.T) {
			rule := append([]string{"ip", "rule", "add"}, append(test.rule, "prohibit")...)
			m.ns.Run(rule...)
			defer func() {
				rule[2] = "del"
				m.ns.Run(rule...)
			}()
			hit := branch{frame: test.hit, mark: test.hitMark, outMark: test.hitMark, verdict: actNext, reason: bpf.PodLabReasonREASON_PROHIBITED}
			miss := branch{frame: test.miss, verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true}
			for range 2 {
				m.check(t, bpf.PodLabDirectionDIR_FROM_POD, veth, miss)
				m.check(t, bpf.PodLabDirectionDIR_FROM_POD, veth, hit)
			}
		})
	}
	t.Run("behind a Service", func(t *testing.T) {
		m, at := crossing(t)
		frame := packet(layers.IPProtocolTCP, netip.MustParseAddrPort("203.0.113.50:40000"), at.far, synFlag)
		nic := stage{m.d.progs.services.fromNetwork, m.nic()}
		m.checkOne(t, bpf.PodLabDirectionDIR_FROM_NETWORK, nic, branch{frame: frame, verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, outMark: done, hop: true, rewritten: true})
		m.ns.Run("ip", "rule", "add", "ipproto", "tcp", "dport", "8080", "prohibit")
		if verdict, out := m.runOn(nic.prog, nic.ifindex, frame); verdict != actRedirect || m.parse(out).icmp == nil {
			t.Errorf("verdict %d, and no answer", int32(verdict))
		}
	})
}
