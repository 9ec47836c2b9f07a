package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

func newImageCmd() *cobra.Command {
	out := newFormat("text", "json")
	var set []string
	cmd := &cobra.Command{
		Use:   "image [PROFILE]",
		Short: "Find the node image a lab would be made of",
		Long: `image finds the node image of PROFILE (kubeproxy unless said otherwise): the one it asks for,
else kind's own, present or pulled, else the one that make node-image builds. It exits
with 1 when none can be had.`,
		Example:           "  lab image\n  lab image kubeproxy -o json",
		Args:              usageArgs(oneOf("profile")),
		ValidArgsFunction: completeProfiles(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := profiles.Load(profileArg(args), profiles.Options{Set: set, Env: os.Environ()})
			if err != nil {
				return err
			}
			e, err := docker.Connect(cmd.Context())
			if err != nil {
				return err
			}
			defer e.Close()
			show := newProgress(cmd.ErrOrStderr(), out.value != "text")
			n, err := image.EnsureNodeImage(cmd.Context(), e, p.Cluster.Image, func(note string) {
				show.event(labs.Event{Step: "node image", State: labs.StepRunning, Note: note})
			})
			show.close()
			if err == nil {
				err = image.CheckNode(cmd.Context(), e, n.Ref)
			}
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), n, func() string {
				s := fmt.Sprintf("%s (%s)\n", n.Ref, n.Origin)
				if n.Note != "" {
					s += n.Note + "\n"
				}
				return s
			})
		},
	}
	setFlag(cmd, &set)
	out.flag(cmd)
	return cmd
}
