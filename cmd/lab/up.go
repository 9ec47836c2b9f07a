package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/checks"
)

func newUpCmd() *cobra.Command {
	var set []string
	var opts labs.UpOptions
	out := newFormat("text", "json")
	var files outFile
	var report onFailure
	var clock clock
	cmd := &cobra.Command{
		Use:   "up PROFILE",
		Short: "Make a lab, or bring one up to date, and verify it",
		Long: `up makes the lab that a profile describes and runs the checks against it. PROFILE is the
name of a shipped profile (see lab profile list) or a file.

A lab that is there already is brought up to date: images, network settings, demo. What
cannot change while it is up is refused before anything is touched; lab profile explain KEY
says of each key whether it can. One of another profile is left alone, and up says what would
change; with --switch it does that while the lab is up, where all of it can change then. A lab
whose making was interrupted is made anew. When making it fails, or is interrupted, everything
is removed again.

The lab's context goes into the user's kubeconfig and becomes the current one there. With
--keep-context the current one stays. With --kubeconfig no other file is written to, and the
lab remembers it: later runs of up use it, and down takes the context out of it.

With -o json standard error carries events, an object a line, and standard output the
result, also when up fails. The exit status is 3 when the lab is up and a check failed, 1 when
it could not be made or a check could not look.

With --output-file the results of the checks go to files, each in the format that its name
ends with. --timings writes the seconds of each step and check. A budget, of up or of a step,
that is exceeded is named, and makes the exit status 3; the lab stays.`,
		Example: `  lab up kubeproxy
  lab up kubeproxy --name two --set cluster.workers=1
  lab up ebpf --name two --switch
  lab up ./my-profile.yaml --retain
  lab up ebpf --kubeconfig ./kubeconfig --output-file report.xml --timings timings.json --budget up=90s
  lab up kubeproxy -o json`,
		Args:              usageArgs(oneProfile),
		ValidArgsFunction: completeProfiles(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := profiles.Load(args[0], profiles.Options{Set: set, Env: os.Environ()})
			if err != nil {
				return err
			}
			opts.Profile = p
			if opts.Name != "" {
				if err := profiles.CheckName(opts.Name); err != nil {
					return usageError{fmt.Errorf("--name: %w", err)}
				}
			}
			if opts.Kubeconfig != "" { // down and status may be run from another folder
				if opts.Kubeconfig, err = filepath.Abs(opts.Kubeconfig); err != nil {
					return err
				}
			}
			if opts.SkipVerify && (len(files.names) > 0 || clock.budgets.of("verify") > 0) {
				return usageError{errors.New("--no-verify leaves out the checks, which --output-file and a budget of verify are for")}
			}
			if err := errors.Join(report.prepare(), files.prepare(), clock.start()); err != nil {
				return err
			}
			return up(cmd, opts, out, &files, &report, &clock)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Name, "name", "", "the lab's name (default: the profile's)")
	f.BoolVar(&opts.Switch, "switch", false, "give a lab that is up this profile in place of another")
	f.StringVar(&opts.Kubeconfig, "kubeconfig", "", "the only kubeconfig to write to (default: the one the lab has, else the user's)")
	f.BoolVar(&opts.KeepContext, "keep-context", false, "leave the current context as it is")
	f.BoolVar(&opts.Retain, "retain", false, "leave what was made when something fails, to look at it")
	f.BoolVar(&opts.SkipVerify, "no-verify", false, "do not run the checks")
	f.DurationVar(&opts.ReadyTimeout, "wait", 3*time.Minute, "how long nodes, agent, DNS and demo may take to become ready")
	setFlag(cmd, &set)
	out.flag(cmd)
	files.flag(cmd)
	clock.flags(cmd, labs.StepNames()...)
	report.flag(cmd)
	must(cmd.RegisterFlagCompletionFunc("name", completeLabs))
	must(cmd.MarkFlagFilename("kubeconfig"))
	return cmd
}

// profileNames are the shipped profiles, and how a file is given.
func profileNames(*cobra.Command) []string {
	all, err := profiles.List()
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return append(names, "or the path of a file")
}

func up(cmd *cobra.Command, opts labs.UpOptions, out *format, files *outFile, report *onFailure, clock *clock) error {
	steps := newProgress(cmd.ErrOrStderr(), out.value == "json")
	opts.Progress = steps.event
	opts.Failed = report.up(cmd.Context(), opts.Profile, steps.event)
	result, err := labs.Up(cmd.Context(), opts)
	if err != nil && cmd.Context().Err() == nil && result.Report != nil && result.Report.Count(verify.Fail) > 0 {
		err = claimError{err} // what has been seen to be wrong is so, whatever came after it
	}
	var late error
	if exitCode(err) != exitUsage {
		late = errors.Join(writeChecks(files, opts.Profile, result, err), clock.stop(result.Lab, result.Steps, result.Report, err))
	}
	if late != nil && err == nil && opts.Failed != nil {
		opts.Failed(result, late)
	}
	err = errors.Join(err, report.failed)
	steps.close()
	if result.Report != nil && !result.Report.Passed() && out.value == "text" {
		if werr := result.Report.WriteText(cmd.ErrOrStderr(), false); werr != nil {
			err = errors.Join(err, werr)
		}
	}
	if err != nil && opts.Retain && result.Created && !errors.Is(err, labs.ErrNotVerified) {
		fmt.Fprintf(cmd.ErrOrStderr(), "what was made of lab %s is still there: lab down %s removes it\n", result.Lab, result.Lab)
	}
	if err != nil && out.value == "text" {
		return errors.Join(err, late)
	}
	err = errors.Join(err, late)
	if err != nil && out.value == "json" {
		steps.event(labs.Event{Step: "up", State: labs.StepFailed, Note: err.Error()})
		err = reportedError{err}
	}
	return errors.Join(err, out.print(cmd.OutOrStdout(), result, func() string { return upText(result) }))
}

// writeChecks writes the results of the checks to files, or where none has run that and why.
func writeChecks(files *outFile, p *profiles.Profile, r *labs.UpResult, why error) error {
	report := r.Report
	if report == nil && why != nil {
		report = verify.NotRun(r.Lab, labs.Claims(p), verify.Selection{Skip: p.Verify.Skip}, checks.All(nil), why)
	}
	if report == nil {
		return nil
	}
	return files.write(report, false)
}

func upText(r *labs.UpResult) string {
	s := fmt.Sprintf("lab %s is up", r.Lab)
	if r.Report != nil {
		s += " and verified"
	}
	if r.Switched != nil {
		s += fmt.Sprintf(", with profile %s in place of %s", r.Profile, r.Switched.From)
	}
	return s + fmt.Sprintf(": %s get pods -A, or lab status %s\n", kubectlOf(r.Kubeconfig, r.Context), r.Lab)
}

// kubectlOf is how kubectl asks the cluster of a context; a file that is not named is the user's.
func kubectlOf(kubeconfig, context string) string {
	return "kubectl" + show.Prefixed(" --kubeconfig ", kubeconfig) + " --context " + context
}

// oneProfile wants a profile, and says where a lab's name goes to whom has given it behind that, as other commands take it.
func oneProfile(cmd *cobra.Command, args []string) error {
	err := named("profile", profileNames)(cmd, args)
	if len(args) == 2 {
		return fmt.Errorf("%w: a lab's name goes in --name, as in: lab up %s --name %s", err, args[0], args[1])
	}
	return err
}
