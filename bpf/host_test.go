package bpf_test

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
)

// hostRows are what the stack may send out of lab_host.
func hostRows() map[string]packet {
	from := func(src netip.Addr, proto layers.IPProtocol, payload []byte) ipv4 {
		return ipv4{src: src, dst: addrB, srcMAC: podA, dstMAC: podA, ttl: 63, proto: proto, payload: payload}
	}
	fragment := func(offset uint16) func(*ipv4) { return func(p *ipv4) { p.flags, p.offset = more, offset } }
	quoted := ipv4{src: addrB, dst: addrA, ttl: 64, proto: udpProto, payload: udp(53, 1000)}
	return map[string]packet{
		// From elsewhere.
		"TCP":              {frame: from(addrFar, tcpProto, tcp(1000, 80)).build(), reason: toPod, sport: 1000, dport: 80},
		"UDP":              {frame: from(addrFar, udpProto, udp(1000, 53)).build(), reason: toPod, sport: 1000, dport: 53},
		"echo":             {frame: from(addrFar, icmpProto, echo(8, 7)).build(), reason: toPod},
		"another protocol": {frame: from(addrFar, sctpProto, ports(1000, 80)).build(), reason: toPod},
		"later fragment":   {frame: with(from(addrFar, udpProto, udp(1000, 53)), fragment(3)), reason: toPod},
		"IP options":       {frame: with(from(addrFar, tcpProto, tcp(1000, 80)), func(p *ipv4) { p.options = true }), reason: toPod},
		"TTL 1":            {frame: with(from(addrFar, tcpProto, tcp(1000, 80)), func(p *ipv4) { p.ttl = 1 }), reason: toPod, sport: 1000, dport: 80},

		// From a pod of this node, through the stack: answers have to go there too.
		"TCP from a local pod":            {frame: from(addrA, tcpProto, tcp(1000, 80)).build(), reason: toPod, sport: 1000, dport: 80, remembered: []bpf.KernelFlow{flow(tcpProto, 1000, 80)}},
		"UDP from a local pod":            {frame: from(addrA, udpProto, udp(1000, 53)).build(), reason: toPod, sport: 1000, dport: 53, remembered: []bpf.KernelFlow{flow(udpProto, 1000, 53)}},
		"echo from a local pod":           {frame: from(addrA, icmpProto, echo(8, 7)).build(), reason: toPod, remembered: []bpf.KernelFlow{flow(icmpProto, 7, 7)}},
		"again":                           {frame: from(addrA, tcpProto, tcp(1000, 80)).build(), reason: toPod, sport: 1000, dport: 80, tracked: []bpf.KernelFlow{flow(tcpProto, 1000, 80)}},
		"first fragment from a local pod": {frame: with(from(addrA, udpProto, udp(1000, 53)), fragment(0)), reason: toPod, sport: 1000, dport: 53, remembered: []bpf.KernelFlow{flow(udpProto, 1000, 53)}},
		"later fragment from a local pod": {frame: with(from(addrA, udpProto, udp(1000, 53)), fragment(3)), reason: toPod},
		"error from a local pod":          {frame: from(addrA, icmpProto, icmpError(3, quoted)).build(), reason: toPod},
		"SCTP from a local pod":           {frame: from(addrA, sctpProto, ports(1000, 80)).build(), reason: toPod},

		// Nowhere to go.
		"nobody's address":  {frame: with(from(addrFar, tcpProto, tcp(1000, 80)), func(p *ipv4) { p.dst = addrNone }), reason: noEndpoint, sport: 1000, dport: 80},
		"half a TCP header": {frame: from(addrFar, tcpProto, tcp(1000, 80)[:10]).build(), reason: malformed},
		"IPv6":              {frame: build(&layers.Ethernet{SrcMAC: podA, DstMAC: podA, EthernetType: layers.EthernetTypeIPv6}, gopacket.Payload(make([]byte, 60))), reason: dropProto},
		"ARP":               {frame: arpFrame(arp(1, addrA.AsSlice(), addrB.AsSlice())), reason: dropProto},
	}
}

func TestToPod(t *testing.T) {
	for setting, what := range tellings {
		if what.aggregation == bpf.PodLabAggregationLAB_AGGREGATE_MEDIUM {
			continue // packets of a flow are told once
		}
		shared := newFixture(t, what)
		for name, row := range hostRows() {
			t.Run(setting+"/"+name, func(t *testing.T) {
				f := shared.at(t)
				verdict, frame := uint32(shot), row.frame
				if row.reason == toPod {
					verdict, frame = redirect, delivered(row.frame, false)
				}
				f.checkRow(f.LabToPod, bpf.PodLabDirectionDIR_TO_POD, f.ifA, row, verdict, frame)
				f.checkEvent(row, what, bpf.PodLabDirectionDIR_TO_POD)
			})
		}
	}
}

// Both directions of a flow have one key, so what lab_host remembers the pods' program finds.
func TestRememberedFlowsAreFound(t *testing.T) {
	f := newFixture(t, drops)
	request := ipv4{src: addrA, dst: addrB, srcMAC: podA, dstMAC: podA, ttl: 63, proto: tcpProto, payload: tcp(1000, 80)}.build()
	f.checkRow(f.LabToPod, bpf.PodLabDirectionDIR_TO_POD, f.ifA,
		packet{frame: request, reason: toPod, remembered: []bpf.KernelFlow{flow(tcpProto, 1000, 80)}}, redirect, delivered(request, false))
	answer := ipv4{src: addrB, dst: addrA, srcMAC: podB, dstMAC: nodeB, ttl: 64, proto: tcpProto, payload: tcp(80, 1000)}.build()
	f.checkRow(f.LabFromPod, bpf.PodLabDirectionDIR_FROM_POD, f.ifB, packet{frame: answer, reason: toKernel}, next, answer)
}
