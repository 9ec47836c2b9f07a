// Package verify is what a check is, and how checks run and are reported. A
// [Check] states one claim about the network of a running lab, looks for
// itself, and hands over what it saw; [Run] lays out what the checks need, runs
// them, and leaves nothing behind. What they look with is package field, the
// checks are package checks.
//
// They ask the network, never wirelab's own agent: a datapath's word
// about itself proves nothing.
package verify

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Check is one claim and the way to see whether it holds.
type Check struct {
	// Name is "group/name", unique, as --only and --skip take it.
	Name string
	// Claim is one sentence, true when the check passes.
	Claim string
	// Modes are the profile modes it holds in; empty means in all.
	Modes []string
	// MinNodes is how many nodes a lab must have for the claim to say anything
	// about it; smaller labs are spared the check, and their reports do not list it.
	MinNodes int
	// Settings are those of a profile that makes the claim, as they are typed
	// after --set; a key alone stands for any value but an empty one. Labs of
	// other profiles are spared the check as well.
	Settings []string
	// Needs are what a run has to lay out for it.
	Needs []Part
	// Run looks. What it saw goes into the evidence, for the claim by Saw,
	// against it by Wrong. An error means that it was not able to look.
	Run func(ctx context.Context, ev *Evidence) error
}

// In tells whether c holds in mode; the empty mode stands for any.
func (c Check) In(mode string) bool {
	return mode == "" || len(c.Modes) == 0 || slices.Contains(c.Modes, mode)
}

// ClaimedOf tells whether c says anything about a lab with these settings, by
// their keys.
func (c Check) ClaimedOf(settings map[string]string) bool {
	return !slices.ContainsFunc(c.Settings, func(setting string) bool {
		key, want, one := strings.Cut(setting, "=")
		if !one {
			return settings[key] == ""
		}
		return settings[key] != want
	})
}

// Part is something that a run lays out for its checks.
type Part string

const (
	// Nodes is a way to send from every node.
	Nodes Part = "nodes"
	// Pods are two pods of the run's own on every node.
	Pods Part = "pods"
	// Services are the run's own, in front of its pods. They are waited for from
	// the nodes, so they come with both.
	Services Part = "services"
	// Outside is a host outside the cluster.
	Outside Part = "outside"
	// Native is an address of that host inside the native-routing CIDR, which
	// the nodes get routes to: it comes with both.
	Native Part = "native"
	// Demo is a way to send from the demo's pods.
	Demo Part = "demo"
)

// Whole is parts with those that they come with, each once, sorted.
func Whole(parts []Part) []Part {
	with := map[Part][]Part{Services: {Nodes, Pods}, Native: {Nodes, Outside}}
	all := slices.Clone(parts)
	for _, part := range parts {
		all = append(all, with[part]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Status is how a check ended.
type Status string

// A check that was not able to look is an Error, which counts as not passed.
const (
	Pass  Status = "pass"
	Fail  Status = "fail"
	Error Status = "error"
)

// Result is one check's outcome.
type Result struct {
	Name   string `json:"name"`
	Claim  string `json:"claim"`
	Status Status `json:"status"`
	// Seen speaks for the claim, Wrong against it. Error is set with Status Error.
	Seen  []string  `json:"seen,omitempty"`
	Wrong []Finding `json:"wrong,omitempty"`
	Error string    `json:"error,omitempty"`
	// Cells are those of the path table that the check fills in; a cell is
	// there more than once where pairs of pods differ.
	Cells []Cell `json:"cells,omitempty"`
	// Duration includes no waiting for a turn. In JSON it is in nanoseconds.
	Duration time.Duration `json:"durationNs"`
}

// Selection picks checks by pattern. A pattern is a whole name, a group
// ("services"), or either with *, ? and [] as in [path.Match].
type Selection struct {
	Only []string // empty: all
	Skip []string
}

// Select returns those of checks that hold in mode and that s picks, in their
// order. It returns an error for a pattern that is malformed or picks nothing:
// a misspelt name must not pass by running less.
func (s Selection) Select(checks []Check, mode string) ([]Check, error) {
	checks = slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return !c.In(mode) })
	for _, pattern := range slices.Concat(s.Only, s.Skip) {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("select checks by %q: %w", pattern, err)
		}
		if !slices.ContainsFunc(checks, func(c Check) bool { return matches(pattern, c.Name) }) {
			return nil, fmt.Errorf("select checks: %q picks none: lab verify --list prints their names, and the modes and settings of each", pattern)
		}
	}
	picked := slices.DeleteFunc(checks, func(c Check) bool {
		only := len(s.Only) == 0 || matchesAny(s.Only, c.Name)
		return !only || matchesAny(s.Skip, c.Name)
	})
	if len(picked) == 0 {
		return nil, fmt.Errorf("select checks: what --only picks, --skip takes away; no check is left to run")
	}
	return picked, nil
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// matches expects a well-formed pattern.
func matches(pattern, name string) bool {
	if whole, _ := path.Match(pattern, name); whole {
		return true
	}
	group, _, _ := strings.Cut(name, "/")
	inGroup, _ := path.Match(pattern, group)
	return inGroup
}

// Modes a profile can choose, as everywhere in wirelab.
const (
	ModeKubeProxy            = "kubeproxy"
	ModeKubeProxyReplacement = "kubeproxy-replacement"
	ModeEBPF                 = "ebpf"
)
