package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/internal/version"
)

func newVersionCmd() *cobra.Command {
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of lab",
		Example: "  lab version -o json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version   string `json:"version"`
				Go        string `json:"go"`
				NodeImage string `json:"nodeImage"`
			}{version.Version, runtime.Version(), image.Short(image.DefaultNodeImage)}
			return out.print(cmd.OutOrStdout(), v, func() string {
				return fmt.Sprintf("lab %s (%s, node image %s)\n", v.Version, v.Go, v.NodeImage)
			})
		},
	}
	out.flag(cmd)
	return cmd
}
