package passport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket/layers"
)

// matcher tells the probe and its answer from all other packets, by what no translation changes: payloads, the numbers of TCP,
// and of what answers a datagram the ends.
type matcher struct {
	probe      Probe
	seqs       map[uint32]bool            // of the probe's SYN
	ends       map[[2]netip.AddrPort]bool // source and destination of the probe wherever it was seen
	srcs, dsts map[netip.Addr]bool        // of these
	reply      *Watched                   // what answered a packet that was watched for; nil: nothing was seen
}

// newMatcher learns from all packets what the probe is.
func newMatcher(p Probe, all []Packet) *matcher {
	m := &matcher{probe: p, seqs: map[uint32]bool{}, ends: map[[2]netip.AddrPort]bool{}, srcs: map[netip.Addr]bool{}, dsts: map[netip.Addr]bool{}}
	for _, each := range all {
		sent := each.Src.Port() == p.Port && (!p.Source.IsValid() || each.Src.Addr() == p.Source) // others may have the same port
		if p.Protocol == TCP && each.mark.protocol == TCP && each.mark.flags == "S" && sent {
			m.seqs[each.mark.seq] = true
		}
	}
	for _, each := range all {
		if m.request(each) {
			m.ends[[2]netip.AddrPort{each.Src, each.Dst}] = true
			m.srcs[each.Src.Addr()], m.dsts[each.Dst.Addr()] = true, true
		}
	}
	if p.Watched != nil {
		m.findReply(all)
	}
	return m
}

// findReply finds the first packet that answers the one that was watched for.
func (m *matcher) findReply(all []Packet) {
	first := slices.IndexFunc(all, m.request)
	if first < 0 {
		return
	}
	var reply *Packet
	for i := range all {
		p := &all[i]
		if m.ends[[2]netip.AddrPort{p.Dst, p.Src}] && answered(all[first], *p) && !p.at.Before(m.probe.Watched.At) && (reply == nil || p.at.Before(reply.at)) {
			reply = p
		}
	}
	if reply != nil {
		is := watched(*reply)
		m.reply = &is
	}
}

// request says whether it is the probe.
func (m *matcher) request(p Packet) bool {
	if p.mark.protocol != m.probe.Protocol {
		return false
	}
	if w := m.probe.Watched; w != nil {
		return w.is(p) && (m.probe.Protocol != ICMP || isEcho(p))
	}
	switch m.probe.Protocol {
	case TCP:
		return p.mark.flags == "S" && m.seqs[p.mark.seq]
	case ICMP:
		return isEcho(p) && m.marked(p)
	}
	return m.marked(p) && !m.ends[[2]netip.AddrPort{p.Dst, p.Src}] // an echo server's answer has the same payload
}

func isEcho(p Packet) bool { return p.mark.icmpType == layers.ICMPv4TypeEchoRequest }

func isReply(p Packet) bool { return !p.mark.error && p.mark.icmpType == layers.ICMPv4TypeEchoReply }

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
	if m.probe.Watched != nil {
		return m.reply != nil && m.reply.is(p) && (m.probe.Protocol != ICMP || isReply(p))
	}
	switch m.probe.Protocol {
	case TCP:
		return (p.mark.flags == "SA" || p.mark.flags == "RA" || p.mark.flags == "R") && m.seqs[p.mark.ack-1]
	case ICMP:
		return isReply(p) && m.marked(p)
	}
	return m.ends[[2]netip.AddrPort{p.Dst, p.Src}]
}

// quoted says whether an ICMP error is about the probe.
func (m *matcher) quoted(p Packet) bool {
	if m.probe.Watched != nil {
		return m.probe.Watched.quotedBy(p)
	}
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
