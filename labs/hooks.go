package labs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/labs/passport"
)

// hookCounter counts packets of a probe at the hooks of a node's stack. The table that it does so with is nft's own: the kernel
// removes it as soon as nft ends, which is with its input, however lab ends.
type hookCounter struct {
	node  cluster.Node
	table string
	in    *io.PipeWriter
	lines *bufio.Scanner
	over  chan error
}

// counted says in nft's words what is counted.
type counted struct{ request, reply, control string }

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
				add(`add rule ip %s %s %s counter comment "%s %s %s"`, table, chain, match, hook, place, what)
			}
		}
	}
	return b.String()
}

// countHooks begins to count on a node. The caller ends it.
func countHooks(ctx context.Context, n cluster.Node, table string, c counted) (*hookCounter, error) {
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	h := &hookCounter{node: n, table: table, in: in, lines: bufio.NewScanner(out), over: make(chan error, 1)}
	go func() {
		var words strings.Builder
		code, err := n.Engine().ExecStream(ctx, n.Name, stdin, stdout, &words, "nft", "-i")
		if err == nil && code != 0 || words.Len() > 0 {
			err = fmt.Errorf("nft: %s", firstLine(words.String()))
		}
		_ = stdout.CloseWithError(errors.Join(err, io.EOF))
		_ = stdin.CloseWithError(io.ErrClosedPipe)
		h.over <- err
	}()
	counts, err := h.tell(c.script(table))
	if err == nil && len(counts) == 0 {
		err = errors.New("nft has no such rules")
	}
	if err != nil {
		return nil, errors.Join(h.end(), err)
	}
	return h, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// end takes the table away.
func (h *hookCounter) end() error {
	_ = h.in.Close()
	for h.lines.Scan() { // so that nft can write and end
	}
	return <-h.over
}

// tell has nft do what a script says, and returns what has been counted then, by the comments of the rules.
func (h *hookCounter) tell(script string) (map[string]int, error) {
	if _, err := io.WriteString(h.in, script+"list table ip "+h.table+"\n"); err != nil {
		return nil, fmt.Errorf("tell nft: %w", err)
	}
	out := map[string]int{}
	for h.lines.Scan() {
		if m := countedLine.FindStringSubmatch(h.lines.Text()); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return nil, fmt.Errorf("read what nft has counted: %w", err)
			}
			out[m[2]] = n
		}
		if h.lines.Text() == "}" {
			return out, nil
		}
	}
	return nil, errors.Join(errors.New("nft ended"), h.lines.Err())
}

var countedLine = regexp.MustCompile(`counter packets (\d+) bytes \d+ comment "([^"]+)"`)

// hooks are what has been counted.
func (h *hookCounter) hooks() ([]passport.Hook, error) {
	counts, err := h.tell("")
	if err != nil {
		return nil, err
	}
	var out []passport.Hook
	for _, name := range stackHooks() {
		count := func(what string) passport.Count {
			return passport.Count{In: counts[name+" in "+what], Out: counts[name+" out "+what]}
		}
		out = append(out, passport.Hook{Name: name, Request: count("request"), Reply: count("reply"), Proven: count("control").In > 0})
	}
	return out, nil
}
