package passport

import (
	"fmt"
	"net/netip"
	"strings"
)

// endText is an address, with its port where it has one.
type endText struct{ netip.AddrPort }

func (e endText) String() string {
	if e.Port() == 0 {
		return e.Addr().String()
	}
	return e.AddrPort.String()
}

// Place is where a hop is on its node, in a word.
func (h Hop) Place() string {
	switch {
	case h.Socket != nil:
		return "socket"
	case h.Device == "":
		return "stack"
	case h.Pod != "":
		return h.Pod + ":" + h.Device
	}
	return h.Device
}

// Words say what the packet is there, or what has changed since the hop before. First is the first hop at which it was captured.
func (h Hop) Words(first bool) string {
	var what []string
	switch {
	case h.Socket != nil:
		what = append(what, fmt.Sprintf("%s %s -> %s", h.Socket.Field, h.Socket.Was, h.Socket.Is))
	case h.Device == "":
		what = append(what, h.Hooks...)
	case h.Packet == nil:
		what = append(what, "before captures")
	case first:
		p := h.Packet
		if h.Changes != nil {
			what = append(what, h.Changes[0].Was+" was asked for")
		}
		what = append(what, p.Ends(), fmt.Sprintf("TTL %d", p.TTL), fmt.Sprintf("MACs %s > %s", p.SrcMAC, p.DstMAC))
	default:
		for _, c := range h.Changes {
			what = append(what, fmt.Sprintf("%s %s -> %s", c.Field, c.Was, c.Is))
		}
	}
	return strings.Join(what, ", ")
}

// Ends are from whom to whom the packet goes.
func (p Packet) Ends() string { return fmt.Sprintf("%s > %s", endText{p.Src}, endText{p.Dst}) }

// Outcome is what the program made of the packet.
func (p Program) Outcome() string {
	switch {
	case p.Dropped:
		return "DROP " + p.Verdict
	case p.Verdict == "":
		return "left as it is"
	case p.Helper != "":
		return p.Verdict + ", " + p.Helper
	}
	return p.Verdict
}

// Words say what the program did.
func (p Program) Words() string {
	parts := []string{fmt.Sprintf("%s, %s: %s", p.Name, p.Hook, p.Outcome())}
	add := func(wanted bool, format string, args ...any) {
		if wanted {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(p.State != "", "flow %s", p.State)
	add(p.Service != "", "Service %s", p.Service)
	add(p.SrcIdentity != 0 || p.DstIdentity != 0, "identity %s -> %s", identityText(p.SrcIdentity), identityText(p.DstIdentity))
	add(p.OrigSrc.IsValid(), "source was %s", endText{p.OrigSrc})
	add(p.OrigDst.IsValid(), "destination was %s", endText{p.OrigDst})
	add(p.Cached, "as decided before")
	return strings.Join(parts, ", ")
}

func identityText(n uint32) string {
	if n == 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// Place is where on its node the packet was not seen.
func (a Absence) Place() string {
	switch {
	case a.Hooks != nil:
		return "by " + strings.Join(a.Hooks, ", ")
	case a.Pod != "":
		return fmt.Sprintf("on %s of %s", a.Device, a.Pod)
	}
	return "on " + a.Device
}

// Answered is how the probe ended, in a word or by its error.
func (p Passport) Answered() string {
	if p.Failed != "" {
		return p.Failed
	}
	return "answered"
}
