package labs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/labs/passport"
)

// hookCounter counts packets of a probe at the hooks of a node's stack. The table that it does so with is nft's own: the kernel
// removes it as soon as nft ends, which is with its input, however lab ends.
type hookCounter struct {
	table string
	notes bool // packets one by one
	in    *io.PipeWriter
	lines *bufio.Scanner
	over  chan error
}

// counted says in nft's words what is counted.
type counted struct {
	request, reply, control string
	// noted are packets that are noted one by one, by key, which says what they are known by; none: no packet is.
	noted []string
	key   string
}

// Keys of packets that are noted: parts of their headers by bit and length, from the layers' begin on. nft tells no more of a set
// than two such parts beside those that have a name.
const (
	keyOfPorts = "ip saddr . ip daddr . @th,32,32 . @nh,16,32"
	keyOfEcho  = "icmp type . @th,32,32 . @nh,16,32"
	// notedFor is how long a noted packet is kept, in nft's words, mostNoted how many of a hook are.
	notedFor  = "10s"
	mostNoted = 65535
)

// controlType is the type of the control in nft's words, controlSource who seems to send it: nobody, by RFC 5737.
const controlType = "info-request"

func controlSource() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 1}) }

// stackHooks are the hooks in the order in which a packet passes them, and their names for nft.
func stackHooks() []string {
	return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
}

// Priorities in front of all rules about IPv4 and behind them.
const (
	firstPriority = -500
	lastPriority  = 1000
)

// script is what nft is told. At the front of each hook it counts what comes, at the end what is left.
func (c counted) script(table string) string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	add("add table ip %s { flags owner; }", table)
	for _, hook := range stackHooks() {
		for place, priority := range map[string]int{"in": firstPriority, "out": lastPriority} {
			chain := strings.ToLower(hook) + "_" + place
			add("add chain ip %s %s { type filter hook %s priority %d; }", table, chain, strings.ToLower(hook), priority)
			for what, match := range map[string]string{"request": c.request, "reply": c.reply, "control": c.control} {
				if match != "" {
					add(`add rule ip %s %s %s counter comment "%s %s %s"`, table, chain, match, hook, place, what)
				}
			}
			if c.key == "" {
				continue
			}
			add("add set ip %s %s { typeof %s; flags dynamic,timeout; timeout %s; size %d; }", table, chain, c.key, notedFor, mostNoted)
			for _, match := range append([]string{c.control}, c.noted...) {
				add("add rule ip %s %s %s update @%s { %s }", table, chain, match, chain, c.key)
			}
		}
	}
	return b.String()
}

// countHooks begins to count on a node. The caller ends it.
func countHooks(ctx context.Context, n cluster.Node, table string, c counted) (*hookCounter, error) {
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	h := &hookCounter{table: table, notes: c.key != "", in: in, lines: bufio.NewScanner(out), over: make(chan error, 1)}
	go func() {
		var words strings.Builder
		code, err := n.Engine().ExecStream(ctx, n.Name, stdin, stdout, &words, "nft", "-i")
		if err == nil && code != 0 || words.Len() > 0 {
			first, _, _ := strings.Cut(strings.TrimSpace(words.String()), "\n")
			err = fmt.Errorf("nft: %s", first)
		}
		_ = stdout.CloseWithError(errors.Join(err, io.EOF))
		_ = stdin.CloseWithError(io.ErrClosedPipe)
		h.over <- err
	}()
	had, err := h.tell(c.script(table))
	if err == nil && len(had.counts) == 0 {
		err = errors.New("nft has no such rules")
	}
	if err != nil {
		return nil, errors.Join(h.end(), err)
	}
	return h, nil
}

// end takes the table away.
func (h *hookCounter) end() error {
	_ = h.in.Close()
	for h.lines.Scan() { // so that nft can write and end
	}
	return <-h.over
}

// listed is what a table has counted, by the comments of its rules, and noted, by the chains; controlled are those that have noted
// the control.
type listed struct {
	counts     map[string]int
	noted      map[string][]passport.HookPacket
	controlled map[string]bool
}

// tell has nft do what a script says, and returns what has been counted then.
func (h *hookCounter) tell(script string) (listed, error) {
	if _, err := io.WriteString(h.in, script+"list table ip "+h.table+"\n"); err != nil {
		return listed{}, fmt.Errorf("tell nft: %w", err)
	}
	out := listed{map[string]int{}, map[string][]passport.HookPacket{}, map[string]bool{}}
	set := ""
	for h.lines.Scan() {
		line := h.lines.Text()
		if m := setLine.FindStringSubmatch(line); m != nil {
			set = m[1]
		}
		if m := countedLine.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return listed{}, fmt.Errorf("read what nft has counted: %w", err)
			}
			out.counts[m[2]] = n
		}
		if m := notedLine.FindStringSubmatch(line); m != nil {
			p, err := notedPacket(m[1:])
			if err != nil {
				return listed{}, fmt.Errorf("read what nft has noted: %w", err)
			}
			if m[3] == controlType || p.Src == controlSource() {
				out.controlled[set] = true
			} else {
				out.noted[set] = append(out.noted[set], p)
			}
		}
		if line == "}" {
			return out, nil
		}
	}
	return listed{}, errors.Join(errors.New("nft ended"), h.lines.Err())
}

var (
	countedLine = regexp.MustCompile(`counter packets (\d+) bytes \d+ comment "([^"]+)"`)
	setLine     = regexp.MustCompile(`^\tset (\w+) {$`)
	notedLine   = regexp.MustCompile(`(?:([0-9.]+) \. ([0-9.]+)|([a-z]+-[a-z]+)) \. 0x([0-9a-f]+) \. 0x([0-9a-f]+)`)
)

// notedPacket reads an element of a set: the ends or the type of ICMP, 32 bits at offset 4 of the transport's header, and the IP
// header's length and ID.
func notedPacket(element []string) (p passport.HookPacket, err error) {
	if p.Reply = element[2] == "echo-reply"; element[2] == "" {
		if p.Src, err = netip.ParseAddr(element[0]); err != nil {
			return p, err
		}
		if p.Dst, err = netip.ParseAddr(element[1]); err != nil {
			return p, err
		}
	}
	var words [2]uint32
	for i, text := range element[3:] {
		n, err := strconv.ParseUint(text, 16, 32)
		if err != nil {
			return p, err
		}
		words[i] = uint32(n)
	}
	p.Seq, p.Length, p.ID = words[0], int(words[1]>>16), uint16(words[1]) //nolint:gosec // the low half
	if element[2] != "" {
		p.Seq &= 0xffff // behind the ID of who pings
	}
	return p, nil
}

// hooks are what has been counted and noted.
func (h *hookCounter) hooks() ([]passport.Hook, error) {
	had, err := h.tell("")
	if err != nil {
		return nil, err
	}
	var out []passport.Hook
	for _, name := range stackHooks() {
		count := func(what string) passport.Count {
			return passport.Count{In: had.counts[name+" in "+what], Out: had.counts[name+" out "+what]}
		}
		hook := passport.Hook{Name: name, Request: count("request"), Reply: count("reply"), Proven: count("control").In > 0}
		for _, place := range []string{"in", "out"} {
			chain := strings.ToLower(name) + "_" + place
			for _, p := range had.noted[chain] {
				p.Behind = place == "out"
				hook.Packets = append(hook.Packets, p)
			}
			if h.notes && len(had.noted[chain]) >= mostNoted-1 { // what there was no room for is not absent
				hook.Proven = false
			}
		}
		if h.notes {
			hook.Proven = hook.Proven && had.controlled[strings.ToLower(name)+"_in"]
		}
		out = append(out, hook)
	}
	return out, nil
}
