package main

import (
	"context"
	"fmt"

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
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "down LAB",
		Short: "Remove a lab and everything it brought",
		Long: `down removes a lab, whole or half made: its nodes, volumes, node image and kubeconfig
context. A lab that is not there is no error. A kind cluster that lab did not make is
left alone.`,
		Example:           "  lab down kubeproxy",
		Args:              usageArgs(named("lab", labNames)),
		ValidArgsFunction: completeLabs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := profiles.CheckName(args[0]); err != nil {
				return usageError{err}
			}
			r, err := labs.Down(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), r, func() string {
				if !r.Removed {
					return fmt.Sprintf("lab %s is not there\n", r.Lab)
				}
				return fmt.Sprintf("lab %s is removed\n", r.Lab)
			})
		},
	}
	out.flag(cmd)
	return cmd
}
