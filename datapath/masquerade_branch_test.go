package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// icmpPacket is an ICMP message of a kind, with an id where it has one.
func icmpPacket(src, dst netip.Addr, kind uint8, id uint16, data []byte) []byte {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: id, Seq: 1}, gopacket.Payload(data))
	if err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func (m *model) out() stage { return stage{m.d.progs.services.toNetwork, m.nic()} }

func TestPacketsOut(t *testing.T) {
	m := router(t)
	client := netip.AddrPortFrom(m.local[0], 40000)
	to := func(dst end, flags uint8) []byte { return packet(layers.IPProtocolTCP, client, dst, flags) }
	echo := func(kind uint8) []byte { return icmpPacket(client.Addr(), far.Addr(), kind, 7, []byte("data")) }
	stray := icmpPacket(client.Addr(), far.Addr(), layers.ICMPv4TypeDestinationUnreachable, 0, packet(layers.IPProtocolUDP, far, netip.AddrPortFrom(m.local[0], 9), 0)[ethernetHeader:][:28])
	drop, taken := bpf.PodLabReasonREASON_MASQUERADE, bpf.PodLabReasonREASON_FORWARDED
	for name, b := range map[string]branch{
		"marked":                  {frame: to(far, ackFlag), mark: done, verdict: actNext, reason: pass},
		"marked by others, too":   {frame: to(far, ackFlag), mark: others | done, outMark: others, verdict: actNext, reason: pass},
		"marked by others":        {frame: to(remotePod, ackFlag), mark: 7, outMark: 7, verdict: actNext, reason: pass},
		"marked by them as done":  {frame: to(far, synFlag), mark: 1, outMark: 1, verdict: actNext, reason: taken, rewritten: true},
		"to a pod elsewhere":      {frame: to(remotePod, ackFlag), verdict: actNext, reason: pass},
		"to another node":         {frame: to(netip.AddrPortFrom(otherNode, 80), ackFlag), verdict: actNext, reason: pass},
		"of the node's own":       {frame: packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.ns.Addr, 50000), far, synFlag), verdict: actNext, reason: pass},
		"of the outside":          {frame: packet(layers.IPProtocolTCP, far, remotePod, synFlag), verdict: actNext, reason: pass},
		"TCP":                     {frame: to(far, synFlag), verdict: actNext, reason: taken, rewritten: true},
		"UDP":                     {frame: packet(layers.IPProtocolUDP, client, far, 0), verdict: actNext, reason: taken, rewritten: true},
		"echo request":            {frame: echo(layers.ICMPv4TypeEchoRequest), verdict: actNext, reason: taken, rewritten: true},
		"echo reply":              {frame: echo(layers.ICMPv4TypeEchoReply), verdict: actShot, reason: drop},
		"answer of nobody's":      {frame: packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.local[0], 81), far, synFlag|ackFlag), verdict: actShot, reason: drop},
		"another kind of ICMP":    {frame: echo(layers.ICMPv4TypeTimestampRequest), verdict: actShot, reason: drop},
		"error about nobody's":    {frame: stray, verdict: actShot, reason: drop},
		"SCTP":                    {frame: edit(t, to(far, 0), func(ip *layers.IPv4) { ip.Protocol = layers.IPProtocolSCTP }), verdict: actShot, reason: drop},
		"IP options":              {frame: edit(t, to(far, 0), func(ip *layers.IPv4) { ip.Options = []layers.IPv4Option{{OptionType: 1, OptionLength: 1}} }), verdict: actShot, reason: drop},
		"fragment without first":  {frame: edit(t, to(far, 0), func(ip *layers.IPv4) { ip.FragOffset, ip.Id = 3, 99 }), verdict: actShot, reason: bpf.PodLabReasonREASON_FRAGMENT},
		"fragment to a pod":       {frame: edit(t, to(remotePod, 0), func(ip *layers.IPv4) { ip.FragOffset, ip.Id = 3, 98 }), verdict: actNext, reason: pass},
		"first fragment":          {frame: edit(t, to(far, synFlag), func(ip *layers.IPv4) { ip.Flags, ip.Id = layers.IPv4MoreFragments, 97 }), verdict: actNext, reason: taken, rewritten: true},
		"SCTP to a pod elsewhere": {frame: edit(t, to(remotePod, 0), func(ip *layers.IPv4) { ip.Protocol = layers.IPProtocolSCTP }), verdict: actNext, reason: pass},
	} {
		t.Run(name, func(t *testing.T) {
			out := m.check(t, bpf.PodLabDirectionDIR_TO_NETWORK, m.out(), b)
			if !b.rewritten {
				return
			}
			if src := netip.AddrFrom4([4]byte(out[ethernetHeader+12:])); src != m.ns.Addr {
				t.Errorf("it leaves as %s", src)
			}
		})
	}
}

// A flow out and its answer in, of every protocol: the answer gets the pod's address and port back.
func TestAnswersToMasqueraded(t *testing.T) {
	m := router(t)
	client := netip.AddrPortFrom(m.local[0], 40000)
	nic := stage{m.d.progs.services.fromNetwork, m.nic()}
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		_, frame := m.runOn(m.out().prog, m.nic(), packet(proto, client, far, synFlag))
		sent := m.parse(frame)
		verdict, frame := m.runOn(nic.prog, nic.ifindex, packet(proto, far, sent.src, ackFlag))
		if got := m.parse(frame); verdict != actRedirect || got.src != far || got.dst != client {
			t.Errorf("%s: the answer came as %s -> %s, verdict %d", proto, got.src, got.dst, int32(verdict))
		}
	}
	_, frame := m.runOn(m.out().prog, m.nic(), icmpPacket(client.Addr(), far.Addr(), layers.ICMPv4TypeEchoRequest, 7, []byte("data")))
	id := binary.BigEndian.Uint16(frame[ethernetHeader+24:])
	if id < natMin || m.parse(frame).icmp == nil {
		t.Errorf("the request left with id %d", id)
	}
	verdict, frame := m.runOn(nic.prog, nic.ifindex, icmpPacket(far.Addr(), m.ns.Addr, layers.ICMPv4TypeEchoReply, id, []byte("data")))
	if got := m.parse(frame); verdict != actRedirect || got.icmp.Id != 7 || got.dst.Addr() != client.Addr() {
		t.Errorf("the reply came to %s with id %d, verdict %d", got.dst, got.icmp.Id, int32(verdict))
	}
	// Replies that nobody waits for are the node's.
	if verdict, _ := m.runOn(nic.prog, nic.ifindex, icmpPacket(far.Addr(), m.ns.Addr, layers.ICMPv4TypeEchoReply, id-1, nil)); verdict != actNext {
		t.Errorf("a stray reply: verdict %d", int32(verdict))
	}
}

// All ports towards a destination are taken by flows that live: the next one is dropped and counted. One
// that ends leaves its port, without anybody collecting.
func TestMasqueradePortsRunOut(t *testing.T) {
	m := router(t)
	client := netip.AddrPortFrom(m.local[0], 40000)
	syn := branch{frame: packet(layers.IPProtocolTCP, client, far, synFlag), verdict: actShot, reason: bpf.PodLabReasonREASON_NAT_PORTS}
	fill := func(live bool) {
		for port := natMin; port <= natMax; port++ {
			key := bpf.Tuple{Src: bpf.IPOf(far.Addr()), Dst: bpf.IPOf(m.ns.Addr), Sport: bpf.PortOf(far.Port()), Dport: bpf.PortOf(uint16(port)), Proto: unix.IPPROTO_TCP, Direction: bpf.PodTupleDirectionTUPLE_BACK}
			other := bpf.FlowEntry{
				To:   bpf.Translation{Src: bpf.IPOf(far.Addr()), Dst: bpf.IPOf(m.local[1]), Sport: bpf.PortOf(far.Port()), Dport: bpf.PortOf(uint16(port))},
				Flow: bpf.Flow{Answered: 1, Seen: monotonicSeconds(), Kind: bpf.PodCtKindCT_MASQUERADE},
			}
			if !live {
				other.Flow.Fin, other.Flow.FinBack = 1, 1
			}
			m.must(m.d.maps.services.nat.Put(key, other))
		}
	}
	fill(true)
	m.check(t, bpf.PodLabDirectionDIR_TO_NETWORK, m.out(), syn)
	fill(false)
	syn.verdict, syn.reason, syn.rewritten = actNext, bpf.PodLabReasonREASON_FORWARDED, true
	m.check(t, bpf.PodLabDirectionDIR_TO_NETWORK, m.out(), syn)
}

// Where the port that follows from a tuple is taken, the next one in its order is free.
func TestMasqueradePortsClash(t *testing.T) {
	m := router(t)
	seen := map[end]end{}
	for _, pod := range m.local {
		for port := range uint16(3000) {
			client := netip.AddrPortFrom(pod, 10000+port)
			_, frame := m.runOn(m.out().prog, m.nic(), packet(layers.IPProtocolUDP, client, far, 0))
			src := m.parse(frame).src
			if other, taken := seen[src]; taken {
				t.Fatalf("%s and %s are both %s", client, other, src)
			}
			seen[src] = client
		}
	}
}

// The states of a masqueraded flow, and how long each lasts, in both maps.
func TestMasqueradedStates(t *testing.T) {
	m := router(t)
	client := netip.AddrPortFrom(m.local[0], 40000)
	var as end
	send := func(flags uint8) {
		_, frame := m.runOn(m.out().prog, m.nic(), packet(layers.IPProtocolTCP, client, far, flags))
		as = m.parse(frame).src
	}
	back := func(flags uint8) {
		m.runOn(m.d.progs.services.fromNetwork, m.nic(), packet(layers.IPProtocolTCP, far, as, flags))
	}
	for _, step := range []struct {
		name    string
		do      func()
		state   string
		expires time.Duration
	}{
		{"SYN", func() { send(synFlag) }, "opening", 60 * time.Second},
		{"SYN, ACK", func() { back(synFlag | ackFlag) }, "answered", 60 * time.Second},
		{"ACK", func() { send(ackFlag) }, "answered", 6 * time.Hour},
		{"FIN", func() { send(finFlag | ackFlag) }, "answered", 6 * time.Hour},
		{"FIN back", func() { back(finFlag | ackFlag) }, "closing", 75 * time.Second},
		{"the same port again", func() { send(synFlag) }, "opening", 60 * time.Second},
		{"RST back", func() { back(rstFlag) }, "reset", 75 * time.Second},
	} {
		step.do()
		sent, err := m.d.Services().Flows(t.Context())
		m.must(err)
		answers, err := m.d.Services().Translations(t.Context())
		m.must(err)
		if len(sent) != 1 || len(answers) != 1 {
			t.Fatalf("%s: %+v, %+v", step.name, sent, answers)
		}
		for _, f := range slices.Concat(sent, answers) {
			if f.Kind != "masquerade" || f.State != step.state || f.Expires > step.expires || f.Expires < step.expires-2*time.Second {
				t.Errorf("%s: %+v, want state %s for %s", step.name, f, step.state, step.expires)
			}
		}
	}
}
