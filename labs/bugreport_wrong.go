package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/bugreport"
	"wirelab.dev/wirelab/verify"
)

// nodesTable is how the nodes are, as Docker, their agents, and the API server where it answers say.
func (b *bugReporter) nodesTable() bugreport.Table {
	t := bugreport.Table{Title: "Nodes", Head: []string{"NODE", "ROLE", "ADDRESS", "CONTAINER", "READY", "AGENT"}}
	for _, n := range b.lab.Cluster.Nodes {
		address, ready, agent := "", "not known", "not known"
		if n.IP.IsValid() {
			address = n.IP.String()
		}
		bad := n.Down() != ""
		if a := b.agents[n.Name]; a != nil {
			agent = "ready"
			if !a.Ready {
				agent, bad = strings.Join(a.NotReady, "; "), true
			}
		}
		if b.status != nil {
			if i := slices.IndexFunc(b.status.Nodes, func(s NodeStatus) bool { return s.Name == n.Name }); i >= 0 {
				ready = fmt.Sprint(b.status.Nodes[i].Ready)
				bad = bad || !b.status.Nodes[i].Ready
			}
		}
		t.Rows = append(t.Rows, bugreport.Row{Cells: []string{n.Name, n.Role, address, cmp.Or(n.Down(), "runs"), ready, agent}, Bad: bad})
	}
	return t
}

// checks runs the checks, or takes the results that there are.
func (b *bugReporter) checks(ctx context.Context) {
	if b.Verify {
		var why error
		switch {
		case b.lab == nil:
			return // which the report says already
		case b.half:
			why = errors.New("the lab is half made")
		case b.away != nil:
			why = b.away
		case b.lab.Profile == nil:
			why = errors.New("the profile is not known")
		default:
			vctx, cancel := context.WithTimeoutCause(ctx, checksTimeout, fmt.Errorf("the checks did not end within %s", checksTimeout))
			defer cancel()
			b.Checks, why = b.lab.Verify(vctx, verify.Selection{Skip: b.lab.Profile.Verify.Skip}, b.Progress)
			if why != nil && vctx.Err() != nil && ctx.Err() == nil {
				why = context.Cause(vctx)
			}
		}
		if why != nil {
			b.lack("Checks", "results of all checks", "checks", why)
		}
	}
	if b.Checks == nil {
		return
	}
	t := bugreport.Table{Title: "Checks", Head: []string{"CHECK", "STATUS", "CLAIM"}}
	for _, r := range verify.WorstFirst(b.Checks.Results) {
		t.Rows = append(t.Rows, bugreport.Row{Cells: []string{r.Name, string(r.Status), r.Claim}, Bad: r.Status != verify.Pass})
	}
	b.report.Tables = append([]bugreport.Table{t}, b.report.Tables...)
	var text, machine strings.Builder
	err := errors.Join(b.Checks.WriteText(&text, true), b.Checks.WriteJSON(&machine))
	part := bugreport.Part{Section: "Checks", Title: "Results with evidence", Path: "checks/results.json", Content: []byte(machine.String()), Shown: text.String()}
	if err != nil {
		part.Lacking = oneSentence(err)
	}
	b.add(part)
}

// wrong lists what is wrong: what failed, nodes and agents, checks, the machine.
func (b *bugReporter) wrong() {
	red := func(what, why string) {
		if r := (bugreport.Red{What: what, Why: why}); !slices.Contains(b.report.Red, r) {
			b.report.Red = append(b.report.Red, r)
		}
	}
	for _, s := range b.Steps {
		if s.State == StepFailed {
			red("step "+s.Name, s.Note)
		}
	}
	if b.Failed != nil && len(b.report.Red) == 0 {
		red("lab "+b.report.Lab, oneSentence(b.Failed))
	}
	if b.half && len(b.Steps) == 0 {
		red("lab "+b.report.Lab, "is half made: its making was interrupted or goes on")
	}
	if b.lab != nil {
		for _, p := range b.lab.downProblems() {
			red(p.Want, p.Why)
		}
		if b.away != nil {
			red("API server", oneSentence(b.away))
		}
	}
	if b.status != nil {
		for _, p := range b.status.Problems {
			red(p.Want, p.Why)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(b.agents)) {
		for _, why := range b.agents[node].NotReady {
			red("agent of node "+node, why)
		}
	}
	if b.Checks != nil {
		for _, r := range verify.WorstFirst(b.Checks.Results) {
			for _, f := range r.Wrong {
				red("check "+r.Name, f.String())
			}
			if r.Error != "" {
				red("check "+r.Name, r.Error)
			}
		}
	}
	for _, f := range b.findings {
		if b.missing(f) {
			red("machine: "+f.Name, f.Found+": "+f.Mend)
		}
	}
}
