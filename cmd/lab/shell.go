package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs"
)

func newShellCmd() *cobra.Command {
	var of labName
	cmd := &cobra.Command{
		Use:   "shell NODE|POD [-- COMMAND...]",
		Short: "A shell on a node or in a pod",
		Long: `shell opens a shell on a node or in a pod, or runs a command there. A node goes by its full
name or by what follows the lab's name; a pod by namespace/name, by its name, or by the
start of it when that fits just one. The exit status is the command's.`,
		Example: `  lab shell worker
  lab shell cni -- ip route
  lab shell kube-system/coredns-0 --name kubeproxy`,
		Args:              usageArgs(given("a node or a pod", cobra.MinimumNArgs(1))),
		ValidArgsFunction: completePlaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case dash == 0:
				return usageError{fmt.Errorf("say where before the --: lab shell NODE|POD -- %s", strings.Join(args, " "))}
			case dash != 1 && len(args) > 1:
				return usageError{fmt.Errorf("put -- between the place and the command: lab shell %s -- %s, or, if %s is the command, lab shell NODE|POD -- %s",
					args[0], strings.Join(args[1:], " "), args[0], strings.Join(args, " "))}
			}
			say := waiting(cmd.ErrOrStderr())
			if _, _, ok := terminals(cmd); ok { // it is raw by the time that a pod is waited for
				say = func(what string) { progressLine(cmd.ErrOrStderr(), "%s\r", what) }
			}
			l, err := labs.Open(cmd.Context(), of.lab, say)
			if err != nil {
				return err
			}
			defer l.Close()
			return shell(cmd, l, args[0], args[1:])
		},
	}
	of.flag(cmd)
	return cmd
}

// shell connects the command's streams. With a terminal on both ends the far end gets one too. A command whose output goes
// elsewhere gets nothing that is typed: what waits in the terminal is for the shell that reads the output.
func shell(cmd *cobra.Command, l *labs.Lab, place string, argv []string) error {
	s := kube.Streams{Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()}
	if len(argv) > 0 && isTerminal(cmd.InOrStdin()) && !isTerminal(cmd.OutOrStdout()) {
		s.Stdin = nil
	}
	var sizes chan labs.Size
	if in, out, ok := terminals(cmd); ok {
		state, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("set up terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), state) }()
		s.TTY = true
		var stop func()
		sizes, stop = watchSize(cmd.Context(), out)
		defer stop()
	}
	code, err := l.Shell(cmd.Context(), place, s, sizes, argv...)
	if err != nil {
		return err
	}
	if code != 0 {
		return statusError{code}
	}
	return nil
}

func terminals(cmd *cobra.Command) (in, out *os.File, ok bool) {
	in, _ = fileOf(cmd.InOrStdin())
	out, _ = fileOf(cmd.OutOrStdout())
	return in, out, isTerminal(cmd.InOrStdin()) && isTerminal(cmd.OutOrStdout())
}

// watchSize sends the terminal's size now and whenever it changes. stop ends it and waits for it.
func watchSize(ctx context.Context, t *os.File) (sizes chan labs.Size, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	sizes = make(chan labs.Size, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer signal.Stop(changed)
		for {
			if w, h, err := term.GetSize(int(t.Fd())); err == nil {
				select {
				case sizes <- labs.Size{Width: uint16(w), Height: uint16(h)}: //nolint:gosec // a screen's size
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sizes, func() { cancel(); <-ended }
}
