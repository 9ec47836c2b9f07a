package bpf_test

import (
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
)

const (
	toKernel   = bpf.PodLabReasonREASON_TO_KERNEL
	toPod      = bpf.PodLabReasonREASON_DELIVERED
	arpReply   = bpf.PodLabReasonREASON_ARP_REPLY
	arpIgnored = bpf.PodLabReasonREASON_ARP_IGNORED
	dropSource = bpf.PodLabReasonREASON_SOURCE_ADDR
	dropProto  = bpf.PodLabReasonREASON_PROTOCOL
	malformed  = bpf.PodLabReasonREASON_MALFORMED
	noEndpoint = bpf.PodLabReasonREASON_NO_ENDPOINT

	tcpProto  = layers.IPProtocolTCP
	udpProto  = layers.IPProtocolUDP
	icmpProto = layers.IPProtocolICMPv4
	sctpProto = layers.IPProtocolSCTP

	more = layers.IPv4MoreFragments
)

func with(p ipv4, change func(*ipv4)) []byte {
	change(&p)
	return p.build()
}

// cut shortens a frame, patched overwrites one byte of it.
func cut(frame []byte, size int) []byte { return frame[:size] }

func patched(frame []byte, at int, value byte) []byte {
	frame[at] = value
	return frame
}

func arp(op uint16, sender, target []byte) *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: op, SourceHwAddress: podA, SourceProtAddress: sender, DstHwAddress: make([]byte, 6), DstProtAddress: target,
	}
}

func arpFrame(a *layers.ARP) []byte {
	return build(&layers.Ethernet{SrcMAC: podA, DstMAC: all, EthernetType: layers.EthernetTypeARP}, a)
}

// podRows are what pod A may send.
func podRows() map[string]packet {
	ab := func(proto layers.IPProtocol, payload []byte) ipv4 { return fromA(addrB, proto, payload) }
	ba := func(proto layers.IPProtocol, payload []byte) ipv4 {
		return ipv4{src: addrB, dst: addrA, ttl: 64, proto: proto, payload: payload}
	}
	return map[string]packet{
		// Straight to the other pod.
		"TCP":           {frame: ab(tcpProto, tcp(1000, 80)).build(), reason: toPod, sport: 1000, dport: 80},
		"UDP":           {frame: ab(udpProto, udp(1000, 53)).build(), reason: toPod, sport: 1000, dport: 53},
		"echo request":  {frame: ab(icmpProto, echo(8, 7)).build(), reason: toPod},
		"echo reply":    {frame: ab(icmpProto, echo(0, 7)).build(), reason: toPod},
		"TTL 2":         {frame: with(ab(tcpProto, tcp(1000, 80)), func(p *ipv4) { p.ttl = 2 }), reason: toPod, sport: 1000, dport: 80},
		"TTL 255":       {frame: with(ab(tcpProto, tcp(1000, 80)), func(p *ipv4) { p.ttl = 255 }), reason: toPod, sport: 1000, dport: 80},
		"DF":            {frame: with(ab(udpProto, udp(1000, 53)), func(p *ipv4) { p.flags = layers.IPv4DontFragment }), reason: toPod, sport: 1000, dport: 53},
		"trailing data": {frame: append(ab(udpProto, udp(1000, 53)).build(), make([]byte, 18)...), reason: toPod, sport: 1000, dport: 53},
		"another flow is tracked": {frame: ab(tcpProto, tcp(1000, 80)).build(), reason: toPod, sport: 1000, dport: 80,
			tracked: []bpf.KernelFlow{flow(tcpProto, 1001, 80), flow(udpProto, 1000, 80), flow(tcpProto, 80, 1000)}},

		// Errors about packets that went straight go straight too.
		"error about TCP":         {frame: ab(icmpProto, icmpError(3, ba(tcpProto, tcp(80, 1000)))).build(), reason: toPod},
		"error about UDP":         {frame: ab(icmpProto, icmpError(3, ba(udpProto, udp(53, 1000)))).build(), reason: toPod},
		"error about an echo":     {frame: ab(icmpProto, icmpError(11, ba(icmpProto, echo(8, 7)))).build(), reason: toPod},
		"parameter problem":       {frame: ab(icmpProto, icmpError(12, ba(udpProto, udp(53, 1000)))).build(), reason: toPod},
		"error in a tracked flow": {frame: ab(icmpProto, icmpError(3, ba(udpProto, udp(53, 1000)))).build(), reason: toKernel, tracked: []bpf.KernelFlow{flow(udpProto, 1000, 53)}},
		"error about an echo in a tracked flow": {frame: ab(icmpProto, icmpError(3, ba(icmpProto, echo(8, 7)))).build(), reason: toKernel,
			tracked: []bpf.KernelFlow{flow(icmpProto, 7, 7)}},

		// To the stack.
		"to another node":            {frame: fromA(addrFar, tcpProto, tcp(1000, 80)).build(), reason: toKernel, sport: 1000, dport: 80},
		"to nobody in the pod CIDR":  {frame: fromA(addrNone, tcpProto, tcp(1000, 80)).build(), reason: toKernel, sport: 1000, dport: 80},
		"TTL 1":                      {frame: with(ab(tcpProto, tcp(1000, 80)), func(p *ipv4) { p.ttl = 1 }), reason: toKernel, sport: 1000, dport: 80},
		"TTL 0":                      {frame: with(ab(tcpProto, tcp(1000, 80)), func(p *ipv4) { p.ttl = 0 }), reason: toKernel, sport: 1000, dport: 80},
		"first fragment":             {frame: with(ab(udpProto, udp(1000, 53)), func(p *ipv4) { p.flags = more }), reason: toKernel, sport: 1000, dport: 53},
		"later fragment":             {frame: with(ab(udpProto, udp(1000, 53)), func(p *ipv4) { p.flags, p.offset = more, 3 }), reason: toKernel},
		"last fragment":              {frame: with(ab(udpProto, udp(1000, 53)), func(p *ipv4) { p.offset = 3 }), reason: toKernel},
		"last fragment of two bytes": {frame: with(ab(udpProto, []byte("xy")), func(p *ipv4) { p.offset = 3 }), reason: toKernel},
		"IP options":                 {frame: with(ab(tcpProto, tcp(1000, 80)), func(p *ipv4) { p.options = true }), reason: toKernel},
		"another protocol":           {frame: ab(sctpProto, ports(1000, 80)).build(), reason: toKernel},
		"another ICMP type":          {frame: ab(icmpProto, echo(13, 7)).build(), reason: toKernel},
		"redirect":                   {frame: ab(icmpProto, icmpError(5, ba(udpProto, udp(53, 1000)))).build(), reason: toKernel},
		"tracked TCP":                {frame: ab(tcpProto, tcp(1000, 80)).build(), reason: toKernel, sport: 1000, dport: 80, tracked: []bpf.KernelFlow{flow(tcpProto, 1000, 80)}},
		"tracked UDP":                {frame: ab(udpProto, udp(1000, 53)).build(), reason: toKernel, sport: 1000, dport: 53, tracked: []bpf.KernelFlow{flow(udpProto, 1000, 53)}},
		"tracked echo":               {frame: ab(icmpProto, echo(0, 7)).build(), reason: toKernel, tracked: []bpf.KernelFlow{flow(icmpProto, 7, 7)}},
		"error about another's packet": {frame: ab(icmpProto, icmpError(3, ipv4{src: addrB, dst: addrFar, ttl: 1, proto: udpProto, payload: udp(53, 1000)})).build(),
			reason: toKernel},
		"error about a later fragment": {frame: ab(icmpProto, icmpError(3, ipv4{src: addrB, dst: addrA, ttl: 1, offset: 3, proto: udpProto, payload: udp(53, 1000)})).build(),
			reason: toKernel},
		"error about an error":      {frame: ab(icmpProto, icmpError(3, ba(icmpProto, icmpError(3, ab(udpProto, udp(1, 2)))))).build(), reason: toKernel},
		"error about SCTP":          {frame: ab(icmpProto, icmpError(3, ba(sctpProto, udp(1, 2)))).build(), reason: toKernel},
		"error that quotes nothing": {frame: ab(icmpProto, []byte{3, 3, 0, 0, 0, 0, 0, 0}).build(), reason: toKernel},

		// Not with this address.
		"another pod's address":  {frame: with(ab(tcpProto, tcp(1000, 80)), func(p *ipv4) { p.src, p.dst = addrB, addrFar }), reason: dropSource, sport: 1000, dport: 80},
		"nobody's address":       {frame: with(ab(tcpProto, tcp(1000, 80)), func(p *ipv4) { p.src = addrNone }), reason: dropSource, sport: 1000, dport: 80},
		"a far address":          {frame: with(ab(udpProto, udp(1000, 53)), func(p *ipv4) { p.src = addrFar }), reason: dropSource, sport: 1000, dport: 53},
		"no address":             {frame: with(ab(udpProto, udp(68, 67)), func(p *ipv4) { p.src = zero }), reason: dropSource, sport: 68, dport: 67},
		"another's, in fragment": {frame: with(ab(udpProto, udp(1000, 53)), func(p *ipv4) { p.src, p.offset = addrB, 3 }), reason: dropSource},

		// Nothing that makes sense.
		"IP version 6 in an IPv4 frame": {frame: patched(ab(tcpProto, tcp(1000, 80)).build(), 14, 0x65), reason: malformed},
		"header of 16 bytes":            {frame: patched(ab(tcpProto, tcp(1000, 80)).build(), 14, 0x44), reason: malformed},
		"total length beyond the frame": {frame: patched(ab(tcpProto, tcp(1000, 80)).build(), 17, 200), reason: malformed},
		"total length below the header": {frame: patched(ab(tcpProto, tcp(1000, 80)).build(), 17, 19), reason: malformed},
		"half a TCP header":             {frame: ab(tcpProto, tcp(1000, 80)[:10]).build(), reason: malformed},
		"half a UDP header":             {frame: ab(udpProto, udp(1000, 53)[:4]).build(), reason: malformed},
		"half an ICMP header":           {frame: ab(icmpProto, echo(8, 7)[:4]).build(), reason: malformed},

		// Not carried.
		"IPv6": {frame: build(&layers.Ethernet{SrcMAC: podA, DstMAC: nodeA, EthernetType: layers.EthernetTypeIPv6}, gopacket.Payload(make([]byte, 60))), reason: dropProto},
		"LLDP": {frame: build(&layers.Ethernet{SrcMAC: podA, DstMAC: all, EthernetType: 0x88cc}, gopacket.Payload(make([]byte, 60))), reason: dropProto},

		// ARP.
		"who has B":                {frame: arpFrame(arp(1, addrA.AsSlice(), addrB.AsSlice())), reason: arpReply},
		"who has a far address":    {frame: arpFrame(arp(1, addrA.AsSlice(), addrFar.AsSlice())), reason: arpReply},
		"probe for B":              {frame: arpFrame(arp(1, zero.AsSlice(), addrB.AsSlice())), reason: arpReply},
		"who has A":                {frame: arpFrame(arp(1, addrA.AsSlice(), addrA.AsSlice())), reason: arpIgnored},
		"probe for A":              {frame: arpFrame(arp(1, zero.AsSlice(), addrA.AsSlice())), reason: arpIgnored},
		"an answer":                {frame: arpFrame(arp(2, addrA.AsSlice(), addrB.AsSlice())), reason: arpIgnored},
		"who has B, tell B":        {frame: arpFrame(arp(1, addrB.AsSlice(), addrB.AsSlice())), reason: dropSource},
		"B's answer":               {frame: arpFrame(arp(2, addrB.AsSlice(), addrFar.AsSlice())), reason: dropSource},
		"ARP for another hardware": {frame: patched(arpFrame(arp(1, addrA.AsSlice(), addrB.AsSlice())), 15, 6), reason: malformed},
		"ARP for another protocol": {frame: patched(arpFrame(arp(1, addrA.AsSlice(), addrB.AsSlice())), 16, 0x86), reason: malformed},
		"ARP with long addresses":  {frame: patched(arpFrame(arp(1, addrA.AsSlice(), addrB.AsSlice())), 18, 8), reason: malformed},
		"half an ARP":              {frame: cut(arpFrame(arp(1, addrA.AsSlice(), addrB.AsSlice())), 14+20), reason: malformed},
	}
}

func TestFromPod(t *testing.T) {
	for setting, what := range tellings {
		if what.aggregation == bpf.PodLabAggregationLAB_AGGREGATE_MEDIUM {
			continue // packets of a flow are told once
		}
		shared := newFixture(t, what)
		for name, row := range podRows() {
			t.Run(setting+"/"+name, func(t *testing.T) {
				f := shared.at(t)
				verdict, frame := uint32(shot), row.frame
				switch row.reason {
				case toKernel:
					verdict = next
				case toPod:
					verdict, frame = redirect, delivered(row.frame, true)
				case arpReply:
					verdict, frame = redirect, answered(row.frame)
				}
				f.checkRow(f.LabFromPod, bpf.PodLabDirectionDIR_FROM_POD, f.ifA, row, verdict, frame)
				f.checkEvent(row, what, bpf.PodLabDirectionDIR_FROM_POD)
			})
		}
	}
}

// An interface whose endpoint is not entered, or not any more, passes nothing.
func TestFromPodOfNoEndpoint(t *testing.T) {
	for name, frame := range map[string][]byte{
		"IPv4": fromA(addrB, tcpProto, tcp(1000, 80)).build(),
		"ARP":  arpFrame(arp(1, addrA.AsSlice(), addrB.AsSlice())),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, drops)
			must(t, f.LabEndpoints.Delete(ip(addrA)))
			f.checkRow(f.LabFromPod, bpf.PodLabDirectionDIR_FROM_POD, f.ifA, packet{frame: frame, reason: dropSource}, shot, frame)
			must(t, f.LabIfaces.Delete(uint32(f.ifA)))
			f.checkRow(f.LabFromPod, bpf.PodLabDirectionDIR_FROM_POD, f.ifA, packet{frame: frame, reason: dropSource}, shot, frame)
		})
	}
}

// delivered is the frame as pod B gets it.
func delivered(frame []byte, forwarded bool) []byte {
	out := append([]byte(nil), frame...)
	copy(out[0:6], podB)
	copy(out[6:12], nodeB)
	if forwarded {
		out[14+8]--
		out[14+10], out[14+11] = 0, 0
		sum := checksum(out[14 : 14+20])
		out[14+10], out[14+11] = byte(sum>>8), byte(sum)
	}
	return out
}

// checksum is that of RFC 1071.
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(header[i])<<8 | uint32(header[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// answered is the ARP request turned into the answer that pod A gets.
func answered(frame []byte) []byte {
	target, sender := frame[38:42], frame[28:32]
	return build(&layers.Ethernet{SrcMAC: nodeA, DstMAC: podA, EthernetType: layers.EthernetTypeARP}, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
		SourceHwAddress: nodeA, SourceProtAddress: target, DstHwAddress: podA, DstProtAddress: sender,
	})[:len(frame)]
}

// checkEvent looks for the event of the row: one for every packet, or for dropped ones only.
func (f *fixture) checkEvent(row packet, what telling, dir bpf.Direction) {
	t := f.t
	t.Helper()
	e, reported := f.lastEvent()
	trace := what.aggregation == bpf.PodLabAggregationLAB_AGGREGATE_NONE
	if want := trace || !slices.Contains([]bpf.Reason{toKernel, toPod, arpReply, arpIgnored}, row.reason); reported != want {
		t.Fatalf("reported: %v, want %v", reported, want)
	}
	if !reported {
		return
	}
	if e.Reason != row.reason || e.Direction != dir || int(e.Length) != len(row.frame) {
		t.Errorf("the event is %+v", e)
	}
	if sport, dport := swap(e.Sport), swap(e.Dport); sport != row.sport || dport != row.dport {
		t.Errorf("the event has ports %d and %d, want %d and %d", sport, dport, row.sport, row.dport)
	}
	if string(e.DstMac.B[:]) != string(row.frame[0:6]) || string(e.SrcMac.B[:]) != string(row.frame[6:12]) {
		t.Errorf("the event has MACs %x and %x, not those that the frame had", e.SrcMac.B, e.DstMac.B)
	}
}

func swap(port uint16) uint16 { return port<<8 | port>>8 }
