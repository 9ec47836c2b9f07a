package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

// labNames are the labs there are, as far as Docker tells at once.
func labNames(cmd *cobra.Command) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeDeadline)
	defer cancel()
	all, err := labs.List(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	return names
}

func newDownCmd() *cobra.Command {
	var of labName
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "down LAB",
		Short: "Remove a lab and everything it brought",
		Long: `down removes a lab, whole or half made: its nodes, volumes, node image and its context, also
from files that up was given with --kubeconfig. A lab that is not there is no error. A kind
cluster that lab did not make is left alone.`,
		Example: "  lab down kubeproxy",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := profiles.CheckName(of.lab); err != nil {
				return usageError{err}
			}
			r, err := labs.Down(cmd.Context(), of.lab)
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), r, func() string {
				if names := labNames(cmd); !r.Removed && len(names) > 0 {
					return fmt.Sprintf("lab %s is not there: there are %s\n", r.Lab, strings.Join(names, ", "))
				}
				if !r.Removed {
					return fmt.Sprintf("lab %s is not there\n", r.Lab)
				}
				return fmt.Sprintf("lab %s is removed\n", r.Lab)
			})
		},
	}
	of.argument(cmd)
	cmd.Args = usageArgs(func(cmd *cobra.Command, args []string) error {
		if of.lab == "" || len(args) > 1 { // one that is not named is never removed
			if err := named("lab", labNames)(cmd, args); err != nil {
				return err
			}
		}
		return of.take(cmd, args)
	})
	out.flag(cmd)
	return cmd
}
