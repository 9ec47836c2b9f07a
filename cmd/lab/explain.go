package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/labs/passport"
)

func newExplainCmd() *cobra.Command {
	var of labName
	var o labs.ExplainOptions
	var steps, watch bool
	var timeout time.Duration
	var files passportFiles
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "explain SRC DST[:PORT] [-- COMMAND...]",
		Short: "Send one packet and say what became of it at each place, and why it was not elsewhere",
		Long: `explain sends one packet from a pod or a node to a pod, a node, a Service or an address, and prints its
passport: each device that it crossed, what the program there did with it, what changed, and the same of the
answer. Below a way it says at which devices and hooks the packet was not seen, and why: only of those where
a packet that was to be seen had been seen before.

Without a port the packet is an echo request, with one the first of a TCP connection, which is closed as soon
as it is open; --proto says otherwise. That nobody answers is a result, with exit status 0: the passport
ends where the packet ended.

With --watch it sends nothing and waits for the next packet that a pod sends there itself: an echo request, a
datagram, or one of TCP that is to be acknowledged, of a connection that begins or of one that is there. It
says on standard error when it watches, and runs the command behind -- then, with whose exit status it ends;
what the command prints goes to standard error.

It listens by sockets, and counts at the hooks of nodes' stacks in a table of nft's own, all of which the
kernel removes when explain ends, however it does. Programs are as they were.`,
		Example: `  lab explain cni demo:8080
  lab explain default/cni worker2
  lab explain cni 10.0.2.4 --proto udp -o json
  lab explain cni demo:8080 --svg way.svg --html way.html
  lab explain cni demo:8080 --watch -- lab shell cni -- curl -s demo:8080`,
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			args, command, err := splitCommand(cmd, args)
			switch {
			case err != nil:
				return err
			case command != nil && !watch:
				return errors.New("a command is run with --watch alone: without it lab explain sends a packet itself")
			case cmd.Flags().Changed("timeout") && !watch:
				return errors.New("--timeout is how long --watch waits: add it")
			case timeout <= 0:
				return fmt.Errorf("--timeout %s: want a time to wait, as 30s", timeout)
			}
			return given("who sends and to whom", cobra.ExactArgs(2))(cmd, args)
		}),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completePlaces(cmd, nil, typed)
		},
	}
	of.flag(cmd)
	cmd.Flags().StringVar(&o.Protocol, "proto", "", "what to send: "+strings.Join(protocols(), ", ")+" (default: tcp with a port, icmp without)")
	cmd.Flags().BoolVarP(&steps, "verbose", "v", false, "print each step of a program's decision; with -o json, all that the passport follows from")
	cmd.Flags().BoolVar(&watch, "watch", false, "send nothing: wait for the next such packet that a pod sends itself")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long --watch waits for a packet")
	files.flags(cmd)
	out.flag(cmd)
	must(cmd.RegisterFlagCompletionFunc("proto", cobra.FixedCompletions(protocols(), cobra.ShellCompDirectiveNoFileComp)))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Protocol != "" && !slices.Contains(protocols(), o.Protocol) {
			return usageError{fmt.Errorf("--proto %q: there are %s", o.Protocol, strings.Join(protocols(), ", "))}
		}
		args, run, err := behindDash(cmd, args)
		if err != nil {
			return err
		}
		if run != nil {
			o.Meanwhile = run.run
		}
		if err := files.prepare(); err != nil {
			return err
		}
		l, err := labs.Open(cmd.Context(), of.lab, waiting(cmd.ErrOrStderr()))
		if err != nil {
			return err
		}
		defer l.Close()
		o.From, o.To = args[0], args[1]
		if watch {
			o.Watch = timeout
			o.Watching = func() { waiting(cmd.ErrOrStderr())("watching for a packet from " + o.From + " to " + o.To) }
		}
		seen, err := l.Explain(cmd.Context(), o)
		if err != nil {
			return err
		}
		p := explained{Passport: passport.Make(seen)}
		if steps {
			p.Evidence = &seen
		}
		err = out.print(cmd.OutOrStdout(), p, func() string {
			text := passportText{lab: l.Name, steps: steps}
			if f, ok := fileOf(cmd.OutOrStdout()); ok {
				_, text.width = screen.Terminal(f)
			}
			return text.String(p.Passport)
		})
		if err := errors.Join(err, files.write(l.Name, p.Passport)); err != nil || run == nil {
			return err
		}
		return run.result()
	}
	return cmd
}

// explained is what -o json prints.
type explained struct {
	passport.Passport
	Evidence *passport.Input `json:"evidence,omitempty"`
}

func protocols() []string { return []string{passport.ICMP, passport.TCP, passport.UDP} }
