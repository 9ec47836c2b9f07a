package main

import (
	"fmt"
	"net/netip"
	"strings"

	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs/passport"
)

// passportText says how a passport is laid out.
type passportText struct {
	lab   string // whose name begins its nodes' names
	steps bool
	width int // of the screen, where lines are cut; 0: they are not

	b strings.Builder
}

// String is the passport, with its end of line.
func (t *passportText) String(p passport.Passport) string {
	t.line("%s to %s, %s: %s", t.end(p.Probe.From), t.end(p.Probe.To), p.Probe.Protocol, answered(p))
	t.way("request", *p.Request)
	if p.Answer != nil {
		t.way("answer", *p.Answer)
	}
	if len(p.Notes) > 0 {
		t.line("")
	}
	for _, n := range p.Notes {
		t.line("note: %s", strings.ReplaceAll(n, "node "+t.lab+"-", "node "))
	}
	return t.b.String()
}

func answered(p passport.Passport) string {
	if p.Failed != "" {
		return p.Failed
	}
	return "answered"
}

func (t *passportText) end(e passport.End) string {
	name := t.node(e.Name)
	if e.Kind == passport.Service && e.Node != "" {
		return fmt.Sprintf("Service %s at node %s", name, t.node(e.Node))
	}
	if e.Kind == passport.Service {
		return "Service " + name
	}
	if e.Node != "" && e.Kind == passport.Pod {
		return fmt.Sprintf("%s (%s)", name, t.node(e.Node))
	}
	return name
}

func (t *passportText) node(name string) string { return strings.TrimPrefix(name, t.lab+"-") }

func (t *passportText) line(format string, args ...any) {
	t.b.WriteString(strings.TrimRight(screen.Cut(fmt.Sprintf(format, args...), t.width), " ") + "\n")
}

// way prints a packet's.
func (t *passportText) way(which string, w passport.Way) {
	t.line("")
	t.line("%s: %s", which, w.Kind)
	nodes, devices := 0, 0
	for _, h := range w.Hops {
		nodes, devices = max(nodes, len(t.node(h.Node))), max(devices, len(place(h)))
	}
	first := true // that was captured
	for _, h := range w.Hops {
		t.hop(h, first, nodes, devices)
		first = first && h.Packet == nil
	}
	if !w.Arrived {
		t.line("  %s", t.words(w.End))
		if w.Why != "" {
			t.line("  why: %s", t.words(w.Why))
		}
		if w.WayOut != "" {
			t.line("  way out: %s", w.WayOut)
		}
	}
	if len(w.Absences) == 0 {
		return
	}
	t.line("  not seen")
	for _, a := range w.Absences {
		t.line("    %s %s: %s", t.node(a.Node), absentAt(a), a.Reason)
	}
}

// words are a sentence with the names of nodes as the table has them.
func (t *passportText) words(s string) string {
	return strings.ReplaceAll(s, "node "+t.lab+"-", "node ")
}

func absentAt(a passport.Absence) string {
	switch {
	case a.Hooks != nil:
		return "by " + strings.Join(a.Hooks, ", ")
	case a.Pod != "":
		return fmt.Sprintf("on %s of %s", a.Device, a.Pod)
	}
	return "on " + a.Device
}

// place is where a hop is on its node.
func place(h passport.Hop) string {
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

func (t *passportText) hop(h passport.Hop, first bool, nodes, devices int) {
	head := fmt.Sprintf("  %-*s  %-*s  %-3s", nodes, t.node(h.Node), devices, place(h), h.Direction)
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
		what = append(what, fmt.Sprintf("%s > %s", addr(p.Src), addr(p.Dst)), fmt.Sprintf("TTL %d", p.TTL), fmt.Sprintf("MACs %s > %s", p.SrcMAC, p.DstMAC))
	default:
		for _, c := range h.Changes {
			what = append(what, fmt.Sprintf("%s %s -> %s", c.Field, c.Was, c.Is))
		}
	}
	t.line("%s  %s", head, strings.Join(what, ", "))
	if h.Unknown != "" {
		t.line("      unknown: %s", h.Unknown)
	}
	if h.Program != nil {
		t.program(*h.Program)
	}
}

func addr(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// program prints what a program did.
func (t *passportText) program(p passport.Program) {
	verdict := p.Verdict
	switch {
	case p.Dropped:
		verdict = "DROP " + verdict
	case verdict == "":
		verdict = "left as it is"
	}
	parts := []string{fmt.Sprintf("%s, %s: %s", p.Name, p.Hook, verdict)}
	add := func(wanted bool, format string, args ...any) {
		if wanted {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(p.Helper != "", "%s", p.Helper)
	add(p.State != "", "flow %s", p.State)
	add(p.Service != "", "Service %s", p.Service)
	add(p.SrcIdentity != 0 || p.DstIdentity != 0, "identity %s -> %s", identity(p.SrcIdentity), identity(p.DstIdentity))
	add(p.OrigSrc.IsValid(), "source was %s", addr(p.OrigSrc))
	add(p.OrigDst.IsValid(), "destination was %s", addr(p.OrigDst))
	add(p.Cached, "as decided before")
	t.line("      %s", strings.Join(parts, ", "))
	if !t.steps {
		return
	}
	for i := range p.Steps {
		t.line("        %-12s %s", p.Steps[i].Kind, show.StepText(&p.Steps[i]))
	}
}

func identity(n uint32) string {
	if n == 0 {
		return "?"
	}
	return fmt.Sprint(n)
}
