package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newEndpointCmd() *cobra.Command {
	parent := &cobra.Command{Use: "endpoint", Short: "Pod interfaces of this node"}
	q := &question{}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the pod interfaces of this node by address",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			eps, err := q.client().Endpoints(ctx)
			if err != nil {
				return err
			}
			return q.print(cmd.OutOrStdout(), eps, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tADDRESS\tPOD\tINTERFACE\tIFINDEX\tPOD MAC\tNODE MAC\tMTU\tPROGRAM")
				for _, ep := range eps {
					program := "attached"
					if !ep.Attached {
						program = "missing"
					}
					fmt.Fprintf(w, "%d\t%s\t%s/%s\t%s\t%d\t%s\t%s\t%d\t%s\n", ep.ID, ep.Addr, ep.Namespace, ep.Pod,
						ep.HostIf, ep.HostIndex, ep.PodMAC, ep.HostMAC, ep.MTU, program)
				}
			})
		},
	}
	q.flags(list)
	parent.AddCommand(list)
	return parent
}
