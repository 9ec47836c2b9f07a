package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wirelab.dev/wirelab/internal/nearest"
	"wirelab.dev/wirelab/internal/show"
)

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "Make Kubernetes networking labs and prove what they claim",
		Long: `lab makes Kubernetes clusters whose network works as a profile says, and proves it.

A lab is a kind cluster with wirelab's own network agent and a small demo. Nothing but
Docker is needed: lab carries the programs it installs.

The exit status is 0 when all is fine, 2 when the request itself is wrong, as it is when it names
a profile, a setting, a lab, a node or a pod that is not there, 3 when up, install or verify has
looked and a claim does not hold, and 1 for all else: what could not be done, or not be looked at.
For down a lab that is not there is one that is down: 0. shell, and monitor, capture and explain
with a command, end with the command's own.`,
		Example: `  lab up kubeproxy          make a lab and verify it
  lab status                how it is
  lab verify                run the checks again
  lab shell worker          a shell on a node
  lab down kubeproxy        remove it`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(knownCommand),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// Of every command below, as none has a hook of its own.
		PersistentPreRunE: usageArgs(noneEmpty),
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{knownFlag(cmd, err)} })
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddGroup(&cobra.Group{ID: groupLife, Title: "A lab's life:"}, &cobra.Group{ID: groupLook, Title: "Looking into it:"},
		&cobra.Group{ID: groupBefore, Title: "Before there is one:"})
	for _, c := range []struct {
		group string
		cmd   *cobra.Command
	}{
		{groupLife, newUpCmd()},
		{groupLife, newDownCmd()},
		{groupLife, newInstallCmd()},
		{groupLife, newUninstallCmd()},
		{groupLife, newListCmd()},
		{groupLife, newLoadCmd()},
		{groupLook, newStatusCmd()},
		{groupLook, newVerifyCmd()},
		{groupLook, newBenchCmd()},
		{groupLook, newFlowsCmd()},
		{groupLook, newUICmd()},
		{groupLook, listCmd(show.LabeledEndpointList())},
		{groupLook, listCmd(show.IdentityList())},
		{groupLook, listCmd(show.ServiceList())},
		{groupLook, newBPFCmd()},
		{groupLook, listCmd(show.FeatureList())},
		{groupLook, newMonitorCmd()},
		{groupLook, newCaptureCmd()},
		{groupLook, newExplainCmd()},
		{groupLook, newLogsCmd()},
		{groupLook, newReportCmd()},
		{groupLook, newShellCmd()},
		{groupBefore, newProfileCmd()},
		{groupBefore, newDoctorCmd()},
		{groupBefore, newImageCmd()},
		{groupBefore, newMatrixCmd()},
		{groupBefore, newDocsCmd()},
		{"", newVersionCmd()},
	} {
		c.cmd.GroupID = c.group
		root.AddCommand(c.cmd)
	}
	return root
}

const (
	groupLife   = "life"
	groupLook   = "look"
	groupBefore = "before"
)

// knownCommand refuses what is no command, with those that were probably meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	near := cmd.SuggestionsFor(args[0])
	if len(near) == 0 {
		return fmt.Errorf("unknown command %q: %s --help lists those there are", args[0], cmd.CommandPath())
	}
	return fmt.Errorf("unknown command %q: did you mean %s?", args[0], strings.Join(near, " or "))
}

// knownFlag adds to the error of a flag that is not there the one that was probably meant, or where the flags are listed.
func knownFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest.Of(unknown.GetSpecifiedName(), names); near != "" && len(unknown.GetSpecifiedName()) > 1 {
		return fmt.Errorf("%w: did you mean --%s?", err, near)
	}
	return fmt.Errorf("%w: %s --help lists those there are", err, cmd.CommandPath())
}

// named wants one argument and says, where it is missing, what there is to choose from.
func named(what string, there func(*cobra.Command) []string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := cobra.ExactArgs(1)(cmd, args)
		if err == nil || len(args) > 0 {
			return err
		}
		all := there(cmd)
		if len(all) == 0 {
			return fmt.Errorf("%w: say which %s", err, what)
		}
		return fmt.Errorf("%w: say which %s: there are %s", err, what, strings.Join(all, ", "))
	}
}

// given checks arguments and, where some are missing or too many, says what they are, with the command's first example.
func given(what string, check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil {
			return nil
		}
		example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
		return fmt.Errorf("%w: give %s, as in: %s", err, what, example)
	}
}

// oneOf allows at most one argument and names what it is when there are more.
func oneOf(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("one %s at a time, not %d", what, len(args))
		}
		return nil
	}
}
