package profiles

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/settings"
)

// Problem is one thing wrong with a profile, an environment variable or a --set.
type Problem struct {
	// Source is a file's path, "profile <name>" for a shipped one, the name of an
	// environment variable, "--set", or empty when a default is at fault.
	Source string `json:"source,omitempty"`
	// Line is from 1; 0 when Source has no lines.
	Line int `json:"line,omitempty"`
	// Key is the full path such as network.bpf.monitorAggregation; empty for the file.
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
	// Nearest is the real key or word that was probably meant; may be empty.
	Nearest string `json:"nearest,omitempty"`

	cause error
}

// Error is one line: where, which key, what, and what was probably meant.
func (p *Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Source != "" && p.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", p.Source, p.Line)
	case p.Source != "":
		fmt.Fprintf(&b, "%s: ", p.Source)
	}
	if p.Key != "" {
		fmt.Fprintf(&b, "%s: ", p.Key)
	}
	b.WriteString(p.Message)
	if p.Nearest != "" {
		fmt.Fprintf(&b, "; did you mean %s?", p.Nearest)
	}
	return b.String()
}

// Unwrap is what caused the problem, such as [ErrUnknown]; nil for most.
func (p *Problem) Unwrap() error { return p.cause }

// Problems takes apart the error of [Load] or [Parse], in the order found; empty when
// it is about no profile's content.
func Problems(err error) []*Problem {
	switch e := err.(type) {
	case *Problem:
		return []*Problem{e}
	case interface{ Unwrap() []error }:
		var all []*Problem
		for _, part := range e.Unwrap() {
			all = append(all, Problems(part)...)
		}
		return all
	case interface{ Unwrap() error }:
		return Problems(e.Unwrap())
	default:
		return nil
	}
}

// maxProblems is how many problems of one file are told. A file with more is another's, or written by a machine.
const maxProblems = 100

// problems collects what is wrong while a profile is read.
type problems []*Problem

func (ps *problems) add(p *Problem) { *ps = append(*ps, p) }

// join is the problems as one error, nil when there are none: source by source, as
// first met, and by line within a source.
func (ps problems) join() error {
	rank := map[string]int{}
	for _, p := range ps {
		if _, ok := rank[p.Source]; !ok {
			rank[p.Source] = len(rank)
		}
	}
	sorted := slices.SortedStableFunc(slices.Values(ps), func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(rank[a.Source], rank[b.Source]), cmp.Compare(a.Line, b.Line))
	})
	errs := make([]error, len(ps))
	for i, p := range sorted {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// touches says whether a problem with key, with an item of it, or a slip for it was found.
func (ps problems) touches(key string) bool {
	for _, p := range ps {
		if p.Key == key || p.Nearest == key || strings.HasPrefix(p.Key, key+"[") {
			return true
		}
	}
	return false
}

// unknownKey describes the unknown name below n as a problem at path.
func unknownKey(n *settings.Key, path, name, value string) *Problem {
	if now := settings.InsteadOf(name, value); now != "" {
		return &Problem{Key: path, Message: now}
	}
	p := &Problem{Key: path, Message: "unknown key", Nearest: n.NearestBelow(path, name)}
	if p.Nearest == "" {
		p.Message += "; known here: " + n.Names()
	}
	return p
}
