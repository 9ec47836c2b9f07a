package main

import (
	"fmt"
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
	t.line("%s to %s, %s: %s", t.end(p.Probe.From), t.end(p.Probe.To), p.Probe.Protocol, p.Answered())
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
		nodes, devices = max(nodes, len(t.node(h.Node))), max(devices, len(h.Place()))
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
		t.line("    %s %s: %s", t.node(a.Node), a.Place(), a.Reason)
	}
}

// words are a sentence with the names of nodes as the table has them.
func (t *passportText) words(s string) string {
	return strings.ReplaceAll(s, "node "+t.lab+"-", "node ")
}

func (t *passportText) hop(h passport.Hop, first bool, nodes, devices int) {
	t.line("  %-*s  %-*s  %-3s  %s", nodes, t.node(h.Node), devices, h.Place(), h.Direction, h.Words(first))
	if h.Unknown != "" {
		t.line("      unknown: %s", h.Unknown)
	}
	if h.Program == nil {
		return
	}
	t.line("      %s", h.Program.Words())
	if !t.steps {
		return
	}
	for i := range h.Program.Steps {
		t.line("        %-12s %s", h.Program.Steps[i].Kind, show.StepText(&h.Program.Steps[i]))
	}
}
