package show

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/fatih/color"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/screen"
)

// EventText says how events are laid out, a line each. Its zero value has what is most important.
type EventText struct {
	Nodes  bool   // say on which node it was, by what follows
	Lab    string // the name of the lab, which begins its nodes' names
	Detail bool   // say more in the line: interface, MACs, TTL and endpoints
	Colors bool
	Width  int // of the screen, where lines are cut; 0: they are not
}

// On has events laid out for a terminal, if f is one.
func (t *EventText) On(f *os.File) { t.Colors, t.Width = screen.Terminal(f) }

// String is an event in a line, with its end.
func (t EventText) String(e api.Event) string {
	line := e.Time.Format("15:04:05.000000") + " "
	if t.Nodes {
		line += fmt.Sprintf("%-13s ", strings.TrimPrefix(e.Node, t.Lab+"-"))
	}
	what, text := t.words(e)
	line = screen.Cut(line+fmt.Sprintf("%-12s ", what)+text, t.Width)
	if shade := shadeOf(e); t.Colors && shade != nil {
		shade.EnableColor() // whether it is wanted has been decided
		line = shade.Sprint(line)
	}
	return line + "\n"
}

func shadeOf(e api.Event) *color.Color {
	switch e.Type {
	case api.EventDrop, api.EventLost:
		return color.New(color.FgRed)
	}
	return nil
}

// words are what kind of event it is, and what it tells.
func (t EventText) words(e api.Event) (what, text string) {
	if e.Type == api.EventLost {
		return "lost", fmt.Sprintf("lost %s (CPU %d)", Plural(e.Missed, "event"), e.CPU)
	}
	if e.Type == api.EventStep {
		return "step", step(e.Step)
	}
	return string(e.Point), t.packet(e)
}

// step is what a program did on the way to a decision.
func step(s *api.Step) string {
	parts := notEmpty(string(s.Kind), s.Table, protocol(s.Proto), flow(s.Src, s.Dst))
	if s.NewSrc.IsValid() {
		parts = append(parts, "becomes "+flow(s.NewSrc, s.NewDst))
	}
	if s.Address.IsValid() {
		parts = append(parts, s.Address.String())
	}
	if s.Identity != 0 {
		parts = append(parts, "identity "+number(s.Identity))
	}
	if s.Endpoint != 0 {
		parts = append(parts, "endpoint "+number(s.Endpoint))
	}
	if s.Kind == api.StepLookup {
		parts = append(parts, map[bool]string{true: "found", false: "not found"}[s.Found])
	}
	return strings.Join(notEmpty(append(parts, string(s.State), s.Iface, s.Service)...), " ")
}

// packet is what a trace or drop event tells.
func (t EventText) packet(e api.Event) string {
	parts := []string{strings.Join(notEmpty(ethernetOrIP(e), flow(e.Src, e.Dst), flags(e)), " "), Plural(e.Length, "byte")}
	add := func(wanted bool, format string, args ...any) {
		if wanted {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	if t.Detail {
		add(e.SrcEndpoint != 0 || e.DstEndpoint != 0, "endpoint %s->%s", number(e.SrcEndpoint), number(e.DstEndpoint))
		add(e.TTL != 0, "ttl %d", e.TTL)
		add(e.Iface != "", "%s", e.Iface)
		add(true, "%s > %s", e.SrcMAC, e.DstMAC)
	}
	text := strings.Join(parts, ", ")
	if e.Type == api.EventDrop {
		return text + ": DROP " + e.Reason
	}
	if e.Reason == "" {
		return text // it comes in, or is left as it is
	}
	return text + ": " + e.Reason
}

// flow leaves ports of 0 out: the packet had none.
func flow(src, dst netip.AddrPort) string {
	if !src.IsValid() && !dst.IsValid() {
		return ""
	}
	return hostPort(src) + " > " + hostPort(dst)
}

func hostPort(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

func number(n uint32) string {
	if n == 0 {
		return "?"
	}
	return strconv.FormatUint(uint64(n), 10)
}

func notEmpty(words ...string) (out []string) {
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

// Numbers of protocols, as in the headers of packets.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

func ethernetOrIP(e api.Event) string {
	switch e.EtherType {
	case etherARP:
		return "ARP"
	case etherIPv6:
		return "IPv6"
	case etherIPv4:
		return protocol(e.Proto)
	}
	return fmt.Sprintf("ethertype 0x%04x", e.EtherType)
}

func protocol(n uint8) string {
	switch n {
	case 0:
		return ""
	case protoTCP:
		return "TCP"
	case protoUDP:
		return "UDP"
	case protoICMP:
		return "ICMP"
	}
	return fmt.Sprintf("protocol %d", n)
}

// flags are those of a TCP segment, or what an ICMP packet is.
func flags(e api.Event) string {
	switch {
	case e.EtherType != etherIPv4:
	case e.Proto == protoTCP:
		return tcpFlags(e.TCPFlags)
	case e.Proto == protoICMP:
		return icmpType(e.ICMPType)
	}
	return ""
}
