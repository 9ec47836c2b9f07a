package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
)

func newStatusCmd() *cobra.Command {
	var of labName
	out := newFormat("text", "json")
	var verbose bool
	cmd := &cobra.Command{
		Use:   "status [LAB]",
		Short: "Show how a lab is, node by node",
		Long: `status asks the cluster and the agent on each node how they are now. It exits with 1 when
the lab is not ready. Without LAB it shows the only one there is.`,
		Example: "  lab status\n  lab status kubeproxy --verbose\n  lab status kubeproxy -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return of.open(cmd, func(l *labs.Lab) error {
				s, err := l.Status(cmd.Context())
				if err != nil {
					return err
				}
				if err := out.print(cmd.OutOrStdout(), s, func() string { return statusText(s, verbose) }); err != nil {
					return err
				}
				if !s.Ready {
					return failedError{fmt.Errorf("lab %s is not ready: %s: %s", s.Lab, s.Problems[0].Want, s.Problems[0].Why)}
				}
				return nil
			})
		},
	}
	of.argument(cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show all that the agent of every node reports")
	out.flag(cmd)
	return cmd
}
