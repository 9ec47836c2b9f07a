package passport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Watched is a packet that was not sent for its passport but came by. It has what no translation and no node on its way changes.
type Watched struct {
	At      time.Time `json:"at"`
	Length  int       `json:"length"` // of the IP packet, in bytes
	ID      uint16    `json:"id"`     // of IP
	Flags   string    `json:"flags,omitempty"`
	Seq     uint32    `json:"seq"` // of TCP, or of the echo
	Ack     uint32    `json:"ack"`
	Payload []byte    `json:"payload,omitempty"` // its first bytes, at most maxPayload

	next uint32 // the number of TCP that acknowledges it
}

// maxPayload is how many bytes of a payload a packet is known by.
const maxPayload = 32

// watched is how a packet is known again.
func watched(p Packet) Watched {
	m := p.mark
	w := Watched{At: p.at, Length: m.length, ID: m.id, Flags: m.flags, Seq: m.seq, Ack: m.ack, next: m.next}
	w.Payload = bytes.Clone(m.payload[:min(len(m.payload), maxPayload)])
	return w
}

// is says whether a packet, of the same protocol, is that one.
func (w Watched) is(p Packet) bool {
	m := p.mark
	if m.length != w.Length || m.id != w.ID || m.flags != w.Flags || m.seq != w.Seq || m.ack != w.Ack || m.error {
		return false
	}
	n := min(len(m.payload), len(w.Payload))
	return bytes.Equal(m.payload[:n], w.Payload[:n])
}

// quotedBy says whether an ICMP error is about it.
func (w Watched) quotedBy(p Packet) bool {
	const length, id = 2, 4 // in the IP header, RFC 791
	quote := p.mark.payload
	return p.mark.error && len(quote) >= id+2 && int(binary.BigEndian.Uint16(quote[length:])) == w.Length && binary.BigEndian.Uint16(quote[id:]) == w.ID
}

// answered says whether a packet of the other direction answers p.
func answered(p, by Packet) bool {
	if p.mark.protocol != by.mark.protocol || by.mark.error {
		return false
	}
	switch p.mark.protocol {
	case TCP:
		reset := by.mark.flags == "R" && by.mark.seq == p.mark.ack
		return reset || by.mark.ack != 0 && int32(by.mark.ack-p.mark.next) >= 0 //nolint:gosec // numbers of TCP are modulo 2^32
	case ICMP:
		return isReply(by) && by.mark.seq == p.mark.seq && bytes.Equal(head(p), head(by))
	}
	return true
}

func head(p Packet) []byte { return p.mark.payload[:min(len(p.mark.payload), maxPayload)] }

// asks says whether a packet is one that is to be answered.
func asks(p Packet) bool {
	switch p.mark.protocol {
	case TCP: // not what acknowledges alone, or resets
		return p.mark.next != p.mark.seq
	case ICMP:
		return isEcho(p)
	}
	return true
}

// Watcher waits for the next packet of a pod to whom a probe would go.
type Watcher struct {
	probe   Probe
	targets []netip.AddrPort
	packet  *Packet // nil: none has come yet
	by      *Packet // what answered it; nil: nothing has yet
}

// NewWatcher waits for a packet to one of the targets, whose ports are 0 for ICMP: the one that p asks for and, as what is asked
// of a Service may have become that at the socket, its backends.
func NewWatcher(p Probe, targets []netip.AddrPort) *Watcher {
	return &Watcher{probe: p, targets: targets}
}

// See takes what was captured. It returns whether the packet has come by now, and whether it was answered, at least by an error.
func (w *Watcher) See(at Point, s Sight) (came, answer bool) {
	if w.by == nil && inPod(at) && at.Pod == w.probe.From.Name {
		if p, ok := read(s.Data, at.Raw); ok {
			p.at = s.Time
			w.see(p, s.Out)
		}
	}
	return w.packet != nil, w.by != nil
}

func (w *Watcher) see(p Packet, out bool) {
	switch {
	case w.packet == nil:
		if out && p.mark.protocol == w.probe.Protocol && !p.mark.error && p.Src.Addr() == w.probe.Source && slices.Contains(w.targets, p.Dst) && asks(p) {
			w.packet = &p
		}
	case out:
	case watched(*w.packet).quotedBy(p), p.Src == w.packet.Dst && p.Dst == w.packet.Src && answered(*w.packet, p):
		w.by = &p
	}
}

// Failed is what the sender got instead of an answer; empty: it was answered.
func (w *Watcher) Failed() string {
	switch {
	case w.by == nil:
		return "no answer"
	case w.by.mark.error || strings.Contains(w.by.mark.flags, "R"):
		return w.by.Kind + " from " + endText{w.by.Src}.String()
	}
	return ""
}

// Probe is what a passport is made for: the packet that came.
func (w *Watcher) Probe() Probe {
	p := w.probe
	p.Port = w.packet.Src.Port()
	is := watched(*w.packet)
	p.Watched = &is
	return p
}

// HookPacket is a packet at a hook of a node's stack, as its counter knows it.
type HookPacket struct {
	Behind bool       `json:"behind,omitempty"` // the hook's rules; false: before them
	Src    netip.Addr `json:"src,omitzero"`     // of TCP and UDP
	Dst    netip.Addr `json:"dst,omitzero"`
	Reply  bool       `json:"reply,omitempty"` // of ICMP
	Seq    uint32     `json:"seq"`             // of TCP, or of the echo; of UDP something else
	Length int        `json:"length"`          // of the IP packet
	ID     uint16     `json:"id"`              // of IP
}

// countHooks counts what passed the hooks: the packet that was watched for, and its answer.
func (m *matcher) countHooks(nodes []OnNode) []OnNode {
	nodes = slices.Clone(nodes)
	for i := range nodes {
		nodes[i].Hooks = slices.Clone(nodes[i].Hooks)
		for k := range nodes[i].Hooks {
			h := &nodes[i].Hooks[k]
			for _, p := range h.Packets {
				switch {
				case m.atHook(p, *m.probe.Watched, m.srcs, m.dsts) && !p.Reply:
					h.Request.add(p.Behind)
				case m.reply != nil && m.atHook(p, *m.reply, m.dsts, m.srcs) && p.Reply == (m.probe.Protocol == ICMP):
					h.Reply.add(p.Behind)
				}
			}
		}
	}
	return nodes
}

func (c *Count) add(behind bool) {
	if behind {
		c.Out++
	} else {
		c.In++
	}
}

// atHook says whether a packet at a hook is that one. Of its ends one at least is as it was somewhere on the way.
func (m *matcher) atHook(p HookPacket, w Watched, srcs, dsts map[netip.Addr]bool) bool {
	if p.Length != w.Length || p.ID != w.ID {
		return false
	}
	switch m.probe.Protocol {
	case ICMP:
		return p.Seq == w.Seq
	case TCP:
		return p.Seq == w.Seq && (srcs[p.Src] || dsts[p.Dst])
	}
	return srcs[p.Src] || dsts[p.Dst]
}

// firstOfEach leaves the first of each place: who sends the same datagram again and again sends packets that are alike.
func firstOfEach[T any, K comparable](all []T, place func(T) K) []T {
	had := map[K]bool{}
	return slices.DeleteFunc(all, func(each T) bool {
		at := place(each)
		again := had[at]
		had[at] = true
		return again
	})
}
