package show

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fatih/color"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/dissect"
	"wirelab.dev/wirelab/internal/screen"
)

// EventText says how events are laid out. Its zero value is a line for each, with what is most important.
type EventText struct {
	Nodes  bool   // say on which node it was, by what follows
	Lab    string // the name of the lab, which begins its nodes' names
	Detail int    // 1 has interfaces, MACs and endpoints in the line, 2 the layers of packets below it
	Hex    bool   // have the bytes of packets below the line
	Colors bool
	Width  int // of the screen, where lines are cut; 0: they are not
}

// On has events laid out for a terminal, if f is one.
func (t *EventText) On(f *os.File) { t.Colors, t.Width = screen.Terminal(f) }

// String is an event in one line, or with more below it, each line with its end.
func (t EventText) String(e api.Event) string {
	line := e.Time.Local().Format("15:04:05.000000") + " "
	if t.Nodes {
		line += fmt.Sprintf("%-13s ", strings.TrimPrefix(e.Node, t.Lab+"-"))
	}
	what, text := t.words(e)
	line = screen.Cut(line+fmt.Sprintf("%-12s ", what)+text, t.Width)
	if shade := shadeOf(e); t.Colors && shade != nil {
		shade.EnableColor() // whether it is wanted has been decided
		line = shade.Sprint(line)
	}
	var b strings.Builder
	b.WriteString(line + "\n")
	if len(e.Data) == 0 {
		return b.String()
	}
	if t.Detail >= 2 {
		for _, l := range dissect.Frame(e.Data) {
			b.WriteString(screen.Cut("    "+l, t.Width) + "\n")
		}
	}
	if t.Hex {
		for l := range strings.Lines(hex.Dump(e.Data)) {
			b.WriteString("    " + l)
		}
	}
	return b.String()
}

func shadeOf(e api.Event) *color.Color {
	switch e.Type {
	case api.EventDrop, api.EventLost:
		return color.New(color.FgRed)
	case api.EventStep:
		return color.New(color.Faint)
	}
	return nil
}

// words are what kind of event it is, and what it tells.
func (t EventText) words(e api.Event) (what, text string) {
	switch e.Type {
	case api.EventLost:
		return "lost", fmt.Sprintf("lost %s (CPU %d)", Plural(e.Missed, "event"), e.CPU)
	case api.EventStep:
		return string(e.Step.Kind), StepText(e.Step)
	}
	return string(e.Point), t.packet(e)
}

// packet is what a trace or drop event tells.
func (t EventText) packet(e api.Event) string {
	parts := []string{joined(" ", ethernetOrIP(e), flow(e.Src, e.Dst), flags(e)), Plural(e.Length, "byte")}
	add := func(wanted bool, format string, args ...any) {
		if wanted {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(e.State != "", "%s", e.State)
	add(e.SrcIdentity != 0 || e.DstIdentity != 0, "identity %s->%s", number(e.SrcIdentity), number(e.DstIdentity))
	add(e.OrigSrc.IsValid() && e.OrigSrc != e.Src || e.OrigDst.IsValid() && e.OrigDst != e.Dst, "was %s", flow(cmp.Or(e.OrigSrc, e.Src), cmp.Or(e.OrigDst, e.Dst)))
	add(e.Service != "", "%s", e.Service)
	add(e.Occasion != "", "%s of the flow", e.Occasion)
	add((t.Detail >= 1 || e.Occasion != "") && (e.Sent != api.Volume{} || e.Returned != api.Volume{}), "flow sent %s, got %s", volume(e.Sent), volume(e.Returned))
	if t.Detail >= 1 {
		add(e.SrcEndpoint != 0 || e.DstEndpoint != 0, "endpoint %s->%s", number(e.SrcEndpoint), number(e.DstEndpoint))
		add(e.TTL != 0, "ttl %d", e.TTL)
		add(e.Age != 0, "flow of %s", Ago(e.Age))
		add(e.Cached, "decided %s ago", Ago(e.Decided))
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

// StepText is what a program did with a packet on its way.
func StepText(s *api.Step) string {
	ends := joined(" ", protocol(s.Proto), flow(s.Src, s.Dst))
	switch s.Kind {
	case api.StepLookup:
		text := fmt.Sprintf("%s: %s, %s", s.Table, ends, either(s.Found, "entry found", "no entry"))
		if s.State != "" {
			text += ", verdict " + string(s.State)
		}
		if s.Age != 0 {
			text += ", created " + Ago(s.Age) + " ago"
		}
		if s.Idle != 0 {
			text += ", last used " + Ago(s.Idle) + " ago"
		}
		return text
	case api.StepCreated:
		return fmt.Sprintf("%s: %s", s.Table, ends)
	case api.StepIdentity:
		return fmt.Sprintf("%s has identity %d", s.Address, s.Identity)
	case api.StepTranslation:
		return fmt.Sprintf("%s becomes %s%s", ends, flow(s.NewSrc, s.NewDst), inBrackets(s.Service))
	case api.StepRoute:
		return fmt.Sprintf("via %s dev %s, MTU %d%s", s.Address, device(s), s.MTU, either(s.Found, " (remembered)", ""))
	case api.StepTunnel:
		return fmt.Sprintf("to node %s, VNI %d", s.Address, s.Identity)
	case api.StepDelivery:
		return fmt.Sprintf("to endpoint %d by %s", s.Endpoint, device(s))
	case api.StepStack:
		return "to the node's stack"
	case api.StepCache:
		return fmt.Sprintf("as decided %s ago", Ago(s.Age))
	}
	return ends
}

func device(s *api.Step) string { return cmp.Or(s.Iface, "index "+strconv.Itoa(s.IfIndex)) }

// Ago is a time that has passed, in three digits or so.
func Ago(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return d.String()
	case d < time.Millisecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

func volume(v api.Volume) string {
	return fmt.Sprintf("%s of %s", Plural(int(v.Packets), "packet"), Plural(int(v.Bytes), "byte")) //nolint:gosec // for a person
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

func inBrackets(text string) string { return either(text != "", " ("+text+")", "") }

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
