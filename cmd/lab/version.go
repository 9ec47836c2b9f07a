package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/internal/version"
	"wirelab.dev/wirelab/profiles"
)

// labVersion is what a program can ask about a lab binary.
type labVersion struct {
	Version    string `json:"version"`
	Commit     string `json:"commit"` // empty where it was built without make
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	NodeImage  string `json:"nodeImage"`
	ProfileAPI string `json:"profileAPI"` // the apiVersion of profiles that it reads
	MapLayout  string `json:"mapLayout"`  // of the BPF maps that its agents pin
}

func newVersionCmd() *cobra.Command {
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of lab",
		Example: "  lab version -o json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := labVersion{
				Version:    version.Version,
				Commit:     version.Commit,
				Go:         runtime.Version(),
				Platform:   runtime.GOOS + "/" + runtime.GOARCH,
				NodeImage:  image.Short(image.DefaultNodeImage),
				ProfileAPI: profiles.APIVersion,
				MapLayout:  api.MapLayout,
			}
			return out.print(cmd.OutOrStdout(), v, func() string {
				return fmt.Sprintf("lab %s (%s, %s, node image %s)\n", v.Version, v.Go, v.Platform, v.NodeImage)
			})
		},
	}
	out.flag(cmd)
	return cmd
}
