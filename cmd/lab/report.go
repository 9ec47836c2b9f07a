package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/bugreport"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

func newReportCmd() *cobra.Command {
	var of labName
	var dir string
	var noVerify bool
	cmd := &cobra.Command{
		Use:   "report [LAB]",
		Short: "Write what one attaches to a bug about a lab",
		Long: `report gathers what there is to know about a lab, be it half made or partly away: versions, the
profile with all settings, the status of all nodes, links, routes, rules, BPF programs and maps,
flows, logs and Kubernetes objects, and then the results of the checks. It writes a page to read,
report.html, and an archive with all of it, report.tar.zst, into a folder.

Secrets, values of environment variables, and all that looks like a key, a token or a password are
left out. Look through it all the same before you hand it on: it tells names and addresses.

The exit status is 1 when something could not be had. The report, which is written all the same,
says what and why.`,
		Example: "  lab report\n  lab report kubeproxy -o /tmp/report\n  lab report kubeproxy --no-verify",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := labs.BugReportOptions{Verify: !noVerify, Progress: showChecks(cmd.ErrOrStderr())}
			progressLine(cmd.ErrOrStderr(), "report: gathering")
			written, err := writeReport(cmd.Context(), of.lab, cmp.Or(dir, "lab-report"+show.Prefixed("-", of.lab)), o)
			if written != "" {
				fmt.Fprintln(cmd.OutOrStdout(), written)
			}
			return err
		},
	}
	of.argument(cmd)
	f := cmd.Flags()
	f.StringVarP(&dir, "dir", "o", "", "the folder to write to (default: lab-report, with the lab's name behind it where it is given)")
	f.BoolVar(&noVerify, "no-verify", false, "do not run the checks")
	must(cmd.MarkFlagDirname("dir"))
	return cmd
}

// writeReport gathers a report, writes it, and says where it is. That it lacks something is an error, once it is written.
func writeReport(ctx context.Context, lab, dir string, o labs.BugReportOptions) (written string, err error) {
	if err := bugreport.Prepare(dir); err != nil {
		return "", err
	}
	o.Lists, o.Status = agentLists(), func(s *labs.Status) string { return statusText(s, true) }
	r, err := labs.BugReport(ctx, lab, o)
	if err != nil {
		return "", err
	}
	if err := bugreport.Write(dir, r, time.Now()); err != nil {
		return "", err
	}
	written = fmt.Sprintf("%s to read, %s to attach", filepath.Join(dir, bugreport.PageFile), filepath.Join(dir, bugreport.ArchiveFile))
	lacking := r.Lacking()
	if len(lacking) == 0 {
		return written, nil
	}
	l := lacking[0]
	return written, failedError{fmt.Errorf("the report lacks %d of %d parts, which %s names: %s: %s: %s", len(lacking), len(r.Parts), bugreport.PageFile, l.Section, l.Title, l.Lacking)}
}

// agentLists are what a report has of every agent: the lists that lab has commands for, and the flows of the last minutes.
func agentLists() []labs.AgentList {
	inBPF := func(p *profiles.Profile) bool { return p.Network.Roles().KubeProxyReplacement }
	tunnels := func(p *profiles.Profile) bool { _, _, ok := p.Network.Tunnel(); return ok }
	return []labs.AgentList{
		reported(show.ServiceList(), inBPF), reported(show.FrontendList(), inBPF),
		reported(show.FlowList(), inBPF), reported(show.TranslationList(), inBPF),
		reported(show.EndpointList(), nil), reported(show.LabeledEndpointList(), nil), reported(show.IdentityList(), nil),
		reported(show.IPCacheList(), nil), reported(show.TunnelList(), tunnels), reported(show.FeatureList(), nil),
		{
			Title: "Flows of the last 15 minutes", Args: []string{"flows", "--since", "15m", "--last", "1000"}, Show: flowsText,
			Of: func(p *profiles.Profile) bool { return p.Network.Flows.Capacity > 0 },
		},
	}
}

// reported is a list of the agents' as a report has it.
func reported[T any](l show.List[T], of func(*profiles.Profile) bool) labs.AgentList {
	return labs.AgentList{Title: l.About, Args: l.Args(), Of: of, Show: func(answer []byte) (string, error) {
		var entries []T
		if err := json.Unmarshal(answer, &entries); err != nil {
			return "", err
		}
		return l.Table(entries).Fit(0), nil
	}}
}

// flowsText lays out lines of flows.
func flowsText(answer []byte) (string, error) {
	table := show.FlowTable{Width: 100}
	text := table.Head()
	for line := range strings.Lines(string(answer)) {
		var l api.FlowLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			return "", err
		}
		text += table.Line(l, "")
	}
	return text, nil
}

// onFailure writes a report where a command fails, into the folder that --report names.
type onFailure struct {
	dir    string
	checks *verify.Report // of the command's run; nil where there is none
	// failed is why there is no report, or it is not whole.
	failed error
}

func (f *onFailure) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "report", "", "when it fails, write a report to this folder, as lab report does")
	must(cmd.MarkFlagDirname("report"))
}

// prepare is called before anything is made.
func (f *onFailure) prepare() error {
	if f.dir == "" {
		return nil
	}
	return bugreport.Prepare(f.dir)
}

// of writes the report where err is a failure of the lab's, and returns err.
func (f *onFailure) of(cmd *cobra.Command, lab string, err error) error {
	code := exitCode(err)
	if f.dir == "" || code == exitFine || code == exitUsage || cmd.Context().Err() != nil || errors.Is(err, labs.ErrNotFound) || errors.Is(err, labs.ErrTaken) {
		return err
	}
	progressLine(cmd.ErrOrStderr(), "report: gathering")
	written, failed := writeReport(cmd.Context(), lab, f.dir, labs.BugReportOptions{Failed: err, Checks: f.checks})
	for _, line := range []any{written, failed} {
		if line != "" && line != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "report:", line)
		}
	}
	return err
}

// up is what a lab that is being made tells of its failure, before it is undone. tell is told how the report gets on, as of a
// step.
func (f *onFailure) up(ctx context.Context, p *profiles.Profile, tell labs.Progress) func(*labs.UpResult, error) {
	if f.dir == "" {
		return nil
	}
	return func(r *labs.UpResult, err error) {
		start, e := time.Now(), labs.Event{Step: "report", State: labs.StepRunning}
		tell(e)
		e.State = labs.StepDone
		e.Note, err = writeReport(ctx, r.Lab, f.dir, labs.BugReportOptions{Failed: err, Checks: r.Report, Profile: p, Steps: r.Steps})
		if err != nil {
			f.failed = fmt.Errorf("report: %v", err) //nolint:errorlint // how the command ends is for the lab's own error to say
		}
		if e.Note == "" {
			e.State, e.Note = labs.StepFailed, err.Error()
		}
		e.Duration = time.Since(start)
		tell(e)
	}
}
