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

// in tells whether c holds in mode; the empty mode stands for any.
func (c Check) in(mode string) bool {
	return mode == "" || len(c.Modes) == 0 || slices.Contains(c.Modes, mode)
}

// claimedOf tells whether c says anything about a lab with these settings, by
// their keys.
func (c Check) claimedOf(settings map[string]string) bool {
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

// Modes a profile can choose, as everywhere in wirelab.
const (
	ModeKubeProxy            = "kubeproxy"
	ModeKubeProxyReplacement = "kubeproxy-replacement"
	ModeEBPF                 = "ebpf"
)
