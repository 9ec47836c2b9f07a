package flows

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
)

// Keep puts what events tell of flows into the buffer, and has m count it, until they end. It returns why they did; nil when
// ctx is done.
func (b *Buffer) Keep(ctx context.Context, lines iter.Seq2[api.MonitorLine, error], who *Who, m *Metrics) error {
	defer b.Mark(time.Time{})
	for line, err := range lines {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case line.Event == nil:
			b.Mark(line.UpTo)
			continue
		}
		switch e := *line.Event; {
		case e.Type == api.EventLost:
			b.Lost(e.Time, uint64(e.Missed)) //nolint:gosec // a count
			m.missed(e.Missed)
		case isFlow(e):
			r := record(e, who)
			b.Put(r)
			m.count(r)
		}
	}
	return nil
}

// isFlow says whether an event tells what became of a packet that went from one end to another, or should have. What an agent
// is told of a packet's arrival it is told again, with more, when the packet leaves.
func isFlow(e api.Event) bool {
	if e.Type == api.EventDrop {
		return true
	}
	return e.Type == api.EventTrace && e.Reason != "" && e.EtherType == unix.ETH_P_IP
}

func record(e api.Event, who *Who) api.FlowRecord {
	r := api.FlowRecord{
		Time: e.Time, Node: e.Node, Verdict: api.FlowForwarded, Reason: e.Reason, At: string(e.Point), Reply: reply(e.State), Protocol: protocol(e),
		Source: end(e.Src, e.SrcEndpoint, who), Destination: end(e.Dst, e.DstEndpoint, who),
		SrcMAC: e.SrcMAC, DstMAC: e.DstMAC, TCPFlags: e.TCPFlags, ICMPType: e.ICMPType,
		Length: e.Length, Iface: e.Iface, IfIndex: e.IfIndex,
	}
	if e.Type == api.EventDrop {
		r.Verdict = api.FlowDropped
	}
	r.Direction = direction(r)
	return r
}

// reply says whether a packet in that state answers. An ICMP error may come from either side.
func reply(s api.State) *bool {
	switch s {
	case api.StateNew, api.StateEstablished:
		return new(false)
	case api.StateReply:
		return new(true)
	}
	return nil
}

// direction is the connection's, seen from the endpoint of this node that sent the packet or, where none did, gets it.
func direction(r api.FlowRecord) string {
	answers := r.Reply != nil && *r.Reply
	switch {
	case r.Source.Endpoint != 0 && !answers, r.Source.Endpoint == 0 && r.Destination.Endpoint != 0 && answers:
		return api.FlowEgress
	case r.Source.Endpoint != 0, r.Destination.Endpoint != 0:
		return api.FlowIngress
	}
	return ""
}

func end(a netip.AddrPort, endpoint uint32, who *Who) api.FlowEnd {
	e := api.FlowEnd{Addr: a.Addr(), Port: a.Port(), Endpoint: endpoint}
	if a.Addr().IsValid() {
		who.fill(&e)
	}
	return e
}

func protocol(e api.Event) string {
	switch e.EtherType {
	case unix.ETH_P_IP:
		return api.ProtocolName(e.Proto)
	case unix.ETH_P_ARP:
		return "arp"
	}
	return fmt.Sprintf("0x%04x", e.EtherType)
}
