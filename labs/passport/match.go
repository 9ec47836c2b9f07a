package passport

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/gopacket/gopacket/layers"
)

// matcher tells the probe and its answer from all other packets, by what no translation changes: payloads, the numbers of TCP,
// and of what answers a datagram the ends.
type matcher struct {
	probe Probe
	seqs  map[uint32]bool            // of the probe's SYN
	ends  map[[2]netip.AddrPort]bool // source and destination of the probe wherever it was seen
}

// newMatcher learns from all packets what the probe is.
func newMatcher(p Probe, all []Packet) *matcher {
	m := &matcher{probe: p, seqs: map[uint32]bool{}, ends: map[[2]netip.AddrPort]bool{}}
	for _, each := range all {
		sent := each.Src.Port() == p.Port && (!p.Source.IsValid() || each.Src.Addr() == p.Source) // others may have the same port
		if p.Protocol == TCP && each.mark.protocol == TCP && each.mark.flags == "S" && sent {
			m.seqs[each.mark.seq] = true
		}
	}
	for _, each := range all {
		if m.request(each) {
			m.ends[[2]netip.AddrPort{each.Src, each.Dst}] = true
		}
	}
	return m
}

// request says whether it is the probe.
func (m *matcher) request(p Packet) bool {
	if p.mark.protocol != m.probe.Protocol {
		return false
	}
	switch m.probe.Protocol {
	case TCP:
		return p.mark.flags == "S" && m.seqs[p.mark.seq]
	case ICMP:
		return p.mark.icmpType == layers.ICMPv4TypeEchoRequest && m.marked(p)
	}
	return m.marked(p) && !m.ends[[2]netip.AddrPort{p.Dst, p.Src}] // an echo server's answer has the same payload
}

func (m *matcher) marked(p Packet) bool {
	return bytes.HasPrefix(p.mark.payload, []byte(m.probe.Marker))
}

// answer says whether it answers the probe: a reply, or an error about it.
func (m *matcher) answer(p Packet) bool {
	if p.mark.error {
		return m.quoted(p)
	}
	if p.mark.protocol != m.probe.Protocol {
		return false
	}
	switch m.probe.Protocol {
	case TCP:
		return (p.mark.flags == "SA" || p.mark.flags == "RA" || p.mark.flags == "R") && m.seqs[p.mark.ack-1]
	case ICMP:
		return p.mark.icmpType == layers.ICMPv4TypeEchoReply && m.marked(p)
	}
	return m.ends[[2]netip.AddrPort{p.Dst, p.Src}]
}

// quoted says whether an ICMP error is about the probe.
func (m *matcher) quoted(p Packet) bool {
	if m.probe.Protocol != TCP {
		return p.mark.quotes([]byte(m.probe.Marker))
	}
	for seq := range m.seqs {
		if p.mark.quotes(binary.BigEndian.AppendUint32(nil, seq)) {
			return true
		}
	}
	return false
}
