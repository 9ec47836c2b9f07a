package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
)

func newLogsCmd() *cobra.Command {
	var of labName
	o := labs.LogOptions{Tail: 50}
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "logs [agent|coredns|demo|kube-proxy|relay]",
		Short: "Show what a lab's parts have logged",
		Long: `logs shows the logs of one part of a lab on every node, the agent's unless said otherwise, in the
order of time. Without --packets it leaves out what the agent logs of single packets.
With -o json each line is an object with time, node, pod and line.`,
		Example: `  lab logs
  lab logs agent --node worker -f
  lab logs coredns --tail -1 --name kubeproxy`,
		Args: usageArgs(oneOf("component")),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return labs.Components(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Component = "agent"
			if len(args) > 0 {
				o.Component = args[0]
			}
			if all := labs.Components(); !slices.Contains(all, o.Component) {
				return usageError{fmt.Errorf("no such thing as %q: there are %s", o.Component, strings.Join(all, ", "))}
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			return of.open(cmd, func(l *labs.Lab) error {
				var failed error
				err := l.Logs(cmd.Context(), o, func(line labs.LogLine) {
					var err error
					if out.value == "json" {
						err = enc.Encode(line)
					} else {
						_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", line.Node, line.Line)
					}
					failed = cmp.Or(failed, err)
				})
				return cmp.Or(err, failed)
			})
		},
	}
	f := cmd.Flags()
	of.flag(cmd)
	f.StringVar(&o.Node, "node", "", "only this node, by its full name or what follows the lab's")
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on as new lines come")
	f.BoolVar(&o.Packets, "packets", false, "with what the agent logs of every packet, where the profile has it do so (network.debug.verbose)")
	f.Int64Var(&o.Tail, "tail", o.Tail, "how many lines of each pod to begin with; -1: all")
	out.flag(cmd)
	must(cmd.RegisterFlagCompletionFunc("node", completeNodes))
	return cmd
}
