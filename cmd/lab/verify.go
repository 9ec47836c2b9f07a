package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/checks"
)

func newVerifyCmd() *cobra.Command {
	var of labName
	var sel verify.Selection
	var list bool
	out := &checkOutput{printed: newFormat("text", "json", "junit", "markdown")}
	var failing onFailure
	var clock clock
	cmd := &cobra.Command{
		Use:   "verify [LAB]",
		Short: "Prove what a lab claims",
		Long: `verify runs checks against a lab that is up. Each check is one claim, and looks for itself:
with packets it sends and packets it sees arrive. A check that was not able to look has not
passed. What the checks need is made in the lab for the run and removed after it, as is what
an interrupted run left behind.

A check is picked by its name, by its group, or by a pattern of either. The exit status is 3
when one that was picked failed, and 1 when none failed and one could not look.

With --output-file the results go to files too, each in the format that its name ends with.
--timings writes the seconds of the steps setup and checks, and of each check. A budget that
is exceeded is named, and makes the exit status 3.`,
		Example: `  lab verify
  lab verify kubeproxy --only services,dns
  lab verify kubeproxy --skip 'paths/*' --verbose
  lab verify kubeproxy -o junit >report.xml
  lab verify kubeproxy --output-file report.xml --output-file summary.md --budget verify=30s
  lab verify --list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				for _, flag := range []string{"output-file", "timings", "budget", "report"} {
					if cmd.Flags().Changed(flag) {
						return usageError{fmt.Errorf("--%s is for checks that run, and --list runs none", flag)}
					}
				}
				return listChecks(cmd, sel, out.printed)
			}
			if err := errors.Join(failing.prepare(), out.files.prepare(), clock.start()); err != nil {
				return err
			}
			err := verifyLab(cmd, of.lab, sel, out, &failing.checks)
			if exitCode(err) == exitUsage {
				return err
			}
			name := of.lab
			if failing.checks != nil {
				name = failing.checks.Lab
			}
			if late := clock.stop(name, verifySteps(failing.checks), failing.checks, err); late != nil {
				err = errors.Join(err, late)
			}
			return failing.of(cmd, of.lab, err)
		},
	}
	of.argument(cmd)
	f := cmd.Flags()
	f.Var(patterns{&sel.Only}, "only", "run only these checks")
	f.Var(patterns{&sel.Skip}, "skip", "leave these checks out")
	f.BoolVar(&list, "list", false, "list the checks and run none")
	f.BoolVarP(&out.verbose, "verbose", "v", false, "print what speaks for the claims, too")
	out.printed.flag(cmd)
	out.files.flag(cmd)
	clock.flags(cmd, stepSetUp, stepChecks)
	failing.flag(cmd)
	must(cmd.RegisterFlagCompletionFunc("only", completeChecks))
	must(cmd.RegisterFlagCompletionFunc("skip", completeChecks))
	return cmd
}

func verifyLab(cmd *cobra.Command, name string, sel verify.Selection, out *checkOutput, results **verify.Report) error {
	// A pattern that is wrong for every mode is wrong before anything is looked for.
	if _, _, err := sel.Select(checks.All(nil), verify.Kind{}); err != nil {
		return usageError{err}
	}
	l, err := labs.Open(cmd.Context(), name, waiting(cmd.ErrOrStderr()))
	if errors.Is(err, labs.ErrNotFound) || errors.Is(err, labs.ErrTaken) {
		return err // there is no lab to report on
	}
	if err != nil {
		return notVerified(cmd, cmp.Or(name, "unknown"), verify.Kind{}, sel, out, err)
	}
	defer l.Close()
	sel.Skip = slices.Concat(l.Profile.Verify.Skip, sel.Skip)
	report, err := l.Verify(cmd.Context(), sel, showChecks(cmd.ErrOrStderr()))
	*results = report
	if report == nil {
		return notVerified(cmd, l.Name, labs.Claims(l.Profile), sel, out, err)
	}
	err = errors.Join(err, out.report(cmd.OutOrStdout(), report))
	switch {
	case err == nil:
		return passed(report)
	case report.Count(verify.Fail) > 0 && cmd.Context().Err() == nil:
		return errors.Join(passed(report), err) // what has been seen to be wrong is so, whatever came after it
	}
	return err
}

// passed is the error of a report with a check that has not.
func passed(report *verify.Report) error {
	if report.Passed() {
		return nil
	}
	err := fmt.Errorf("lab %s: %s", report.Lab, report.Verdict())
	if report.Count(verify.Fail) > 0 {
		return claimError{err}
	}
	return failedError{err}
}

// notVerified writes the report of a run that could not begin: whoever reads reports shall not have to guess from their
// absence.
func notVerified(cmd *cobra.Command, lab string, kind verify.Kind, sel verify.Selection, out *checkOutput, why error) error {
	report := verify.NotRun(lab, kind, sel, checks.All(nil), why)
	if report == nil {
		return why
	}
	return errors.Join(why, out.report(cmd.OutOrStdout(), report))
}

// showChecks prints a line a step, and one for each check that did not pass as
// soon as that is known.
func showChecks(w io.Writer) func(verify.Progress) {
	return func(p verify.Progress) {
		switch {
		case p.Result == nil:
			progressLine(w, "verify: %s", p.Step)
		case p.Result.Status != verify.Pass:
			progressLine(w, "verify: %s: %s (%d of %d)", p.Result.Name, p.Result.Status, p.Done, p.Total)
		}
	}
}

// listChecks needs no lab: it shows the checks of every mode, and what a lab is like that has to pass each.
func listChecks(cmd *cobra.Command, sel verify.Selection, out *format) error {
	selected, _, err := sel.Select(checks.All(nil), verify.Kind{})
	if err != nil {
		return usageError{err}
	}
	type entry struct {
		Name     string        `json:"name"`
		Claim    string        `json:"claim"`
		Modes    []string      `json:"modes,omitempty"`
		Settings []string      `json:"settings,omitempty"`
		MinNodes int           `json:"minNodes,omitempty"`
		Needs    []verify.Part `json:"needs"`
	}
	var entries []entry
	t := show.Table{Head: []string{"CHECK", "MODES", "WITH", "CLAIM"}}
	for _, c := range selected {
		entries = append(entries, entry{c.Name, c.Claim, c.Modes, c.Settings, c.MinNodes, c.Needs})
		with := slices.Clone(c.Settings)
		if c.MinNodes > 1 {
			with = append(with, fmt.Sprintf("%d nodes", c.MinNodes))
		}
		modes, settings := cmp.Or(strings.Join(c.Modes, ","), "all"), cmp.Or(strings.Join(with, ","), "any")
		t.Rows = append(t.Rows, []string{c.Name, modes, settings, c.Claim})
	}
	if out.value != "text" && out.value != "json" {
		return usageError{errors.New("a list of checks is no report of results: use -o text or -o json with --list")}
	}
	return out.print(cmd.OutOrStdout(), entries, t.Loose)
}

func completeChecks(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, c := range checks.All(nil) {
		group, _, _ := strings.Cut(c.Name, "/")
		if len(names) == 0 || !slices.Contains(names, group) {
			names = append(names, group)
		}
		names = append(names, cobra.CompletionWithDesc(c.Name, c.Claim))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
