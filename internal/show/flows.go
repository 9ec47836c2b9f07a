package show

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/screen"
)

// FlowUsage is the help of the flags that [api.FlowFilter.Set] takes, by name.
func FlowUsage(flag string) string {
	switch flag {
	case "pod":
		return "only flows from or to this pod: namespace/name, or a name in the namespace default"
	case "from-pod":
		return "only flows from this pod"
	case "to-pod":
		return "only flows to this pod"
	case "namespace":
		return "only flows from or to pods of this namespace"
	case "verdict":
		return "only flows with this verdict: " + strings.Join(api.FlowVerdicts(), " or ")
	case "protocol":
		return "only flows of this protocol: " + strings.Join(api.FlowProtocols(), ", ") + ", or its number"
	case "port":
		return "only flows from or to this port"
	}
	return "only flows from or to what has this identity, by its number"
}

// FlowsKept says how the buffer of a node's flows is.
func FlowsKept(f *api.FlowsKept) string {
	if f == nil {
		return "off"
	}
	text := fmt.Sprintf("%d of %d, %.1f/s", f.Kept, f.Capacity, f.PerSecond)
	if f.Lost > 0 {
		text += fmt.Sprintf(", %d lost", f.Lost)
	}
	return text
}

// FlowTable lays out flow records one by one, as they come.
type FlowTable struct {
	// Node is how wide the column of nodes is; 0: there is none.
	Node int
	// Width is how wide a line may be, and longer ones are folded; 0: none is.
	Width int
}

// On lays out for what f is: as wide as a terminal is, and without folding for a pipe.
func (t *FlowTable) On(f *os.File) { t.Width = screen.Width(f) }

// Head is the line above the table.
func (t FlowTable) Head() string { return t.row("TIME", "NODE", "VERDICT", "AT", "FLOW") }

// Line is a record, or a note that some are missing. node is the name to print.
func (t FlowTable) Line(l api.FlowLine, node string) string {
	const clock = "15:04:05.000"
	switch {
	case l.Flow != nil:
		r := l.Flow
		return t.row(r.Time.Local().Format(clock), node, r.Verdict, r.At, FlowText(*r))
	case l.Lost != nil:
		return t.row(l.Lost.Time.Local().Format(clock), node, "lost", "", lostText(*l.Lost))
	}
	return ""
}

func lostText(l api.LostFlows) string {
	n := Plural(int(l.Count), "flow") //nolint:gosec // fewer than there are nanoseconds
	if l.By == api.LostByAgent {
		return n + ": the agent did not read them in time"
	}
	return n + ": they were not taken from the agent in time"
}

func (t FlowTable) row(clock, node, verdict, at, text string) string {
	lead := pad(clock, len("15:04:05.000"))
	if t.Node > 0 {
		lead += pad(node, t.Node)
	}
	lead += pad(verdict, len(api.FlowForwarded)) + pad(at, len("from-network"))
	room := t.Width - utf8.RuneCountInString(lead)
	switch {
	case t.Width == 0:
		return lead + text + "\n"
	case room < foldable:
		return strings.Join(screen.Wrap(lead+text, t.Width), "\n  ") + "\n"
	}
	return lead + strings.Join(screen.Wrap(text, room), "\n"+strings.Repeat(" ", utf8.RuneCountInString(lead))) + "\n"
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s))+gap)
}

// FlowText says in a line who sent what to whom.
func FlowText(r api.FlowRecord) string {
	text := joined(" ", r.Protocol, flowEnd(r.Source), ">", flowEnd(r.Destination))
	if r.Protocol == "tcp" {
		text = joined(" ", text, tcpFlags(r.TCPFlags))
	}
	if r.Protocol == "icmp" {
		text = joined(" ", text, icmpType(r.ICMPType))
	}
	const reply = " reply"
	if r.Reply != nil && *r.Reply && !strings.HasSuffix(text, reply) { // as an echo has it
		text += reply
	}
	if r.Verdict == api.FlowDropped {
		text += ": " + r.Reason
	}
	return text
}

// flowEnd is the pod, or the address with whose it is, and the port.
func flowEnd(e api.FlowEnd) string {
	port := Prefixed(":", either(e.Port != 0, strconv.Itoa(int(e.Port)), ""))
	if e.Pod != "" {
		return e.Namespace + "/" + e.Pod + port
	}
	if !e.Addr.IsValid() {
		return "?"
	}
	at := e.Addr.String()
	if e.Port != 0 {
		at = netip.AddrPortFrom(e.Addr, e.Port).String()
	}
	if e.Name != "" {
		at += " (" + e.Name + ")"
	}
	return at
}

// tcpFlags are by name, in the order of their bits.
func tcpFlags(flags uint8) string {
	var names []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if flags&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

func icmpType(t uint8) string {
	switch t {
	case 0:
		return "echo reply"
	case 3:
		return "unreachable"
	case 8:
		return "echo"
	case 11:
		return "time exceeded"
	}
	return fmt.Sprintf("type %d", t)
}
