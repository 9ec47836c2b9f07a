package main

import (
	"context"
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
		Short: "Find the node image a lab would be made of, save it, load it",
		Long: `image finds the node image of PROFILE (kubeproxy unless said otherwise): the one it asks for,
else kind's own, present or pulled, else the one that make node-image builds. It exits
with 1 when none can be had.

What another machine needs to make labs without a network is lab and a node image:
save writes one to a file, and load reads it there.`,
		Example:           "  lab image\n  lab image kubeproxy -o json\n  lab image save node.tar.zst",
		Args:              usageArgs(oneOf("profile")),
		ValidArgsFunction: completeProfiles(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := profiles.Load(profileArg(args), profiles.Options{Set: set, Env: os.Environ()})
			if err != nil {
				return err
			}
			var n image.NodeImage
			err = withImages(cmd, out, func(ctx context.Context, e *docker.Engine, say func(string)) (err error) {
				n, err = findNodeImage(ctx, e, p.Cluster.Image, say)
				return err
			})
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), n, func() string { return fmt.Sprintf("%s (%s)\n%s", n.Ref, n.Origin, noteLine(n.Note)) })
		},
	}
	cmd.AddCommand(newImageSaveCmd(), newImageLoadCmd())
	setFlag(cmd, &set)
	out.flag(cmd)
	return cmd
}

func newImageSaveCmd() *cobra.Command {
	out := newFormat("text", "json")
	var set []string
	cmd := &cobra.Command{
		Use:   "save FILE [PROFILE]",
		Short: "Write the node image to a file, to copy it to other machines",
		Long: `save finds the node image of PROFILE (kubeproxy unless said otherwise) as lab image does, and
writes it to FILE, a docker image archive compressed with zstd. FILE.sha256 says what it has
to be. Copy both and lab to a machine without a network, and run lab image load there.`,
		Example: "  lab image save node.tar.zst\n  lab image save node.tar.zst ebpf --set cluster.image=kindest/node:v1.36.0",
		Args:    usageArgs(given("the file to write", cobra.RangeArgs(1, 2))),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return completeProfiles(2)(cmd, args, to)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := profiles.Load(profileArg(args[1:]), profiles.Options{Set: set, Env: os.Environ()})
			if err != nil {
				return err
			}
			var a image.Archive
			err = withImages(cmd, out, func(ctx context.Context, e *docker.Engine, say func(string)) error {
				n, err := findNodeImage(ctx, e, p.Cluster.Image, say)
				if err != nil {
					return err
				}
				a, err = image.Save(ctx, e, n.Ref, args[0], say)
				return err
			})
			return printArchive(cmd, out, a, err)
		},
	}
	setFlag(cmd, &set)
	out.flag(cmd)
	return cmd
}

func newImageLoadCmd() *cobra.Command {
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "load FILE",
		Short: "Read a node image from a file that lab image save has written",
		Long: `load compares FILE with FILE.sha256, looks whether it has a node image in it, and gives that to
Docker. lab up then takes it where it is the one that a lab is made of, and asks no registry.`,
		Example: "  lab image load node.tar.zst",
		Args:    usageArgs(given("the file", cobra.ExactArgs(1))),
		RunE: func(cmd *cobra.Command, args []string) error {
			var a image.Archive
			err := withImages(cmd, out, func(ctx context.Context, e *docker.Engine, say func(string)) (err error) {
				a, err = image.Load(ctx, e, args[0], say)
				return err
			})
			return printArchive(cmd, out, a, err)
		},
	}
	out.flag(cmd)
	return cmd
}

// withImages runs what takes time with images, with Docker and somebody to tell how far it is.
func withImages(cmd *cobra.Command, out *format, do func(ctx context.Context, e *docker.Engine, say func(string)) error) error {
	e, err := docker.Connect(cmd.Context())
	if err != nil {
		return err
	}
	defer e.Close()
	show := newProgress(cmd.ErrOrStderr(), out.value != "text")
	defer show.close()
	return do(cmd.Context(), e, func(note string) {
		show.event(labs.Event{Step: "node image", State: labs.StepRunning, Note: note})
	})
}

// findNodeImage finds the node image that a profile asks for, which nodes can be made of.
func findNodeImage(ctx context.Context, e *docker.Engine, want string, say func(string)) (image.NodeImage, error) {
	n, err := image.EnsureNodeImage(ctx, e, want, say)
	if err != nil {
		return n, err
	}
	return n, image.CheckNode(ctx, e, n.Ref)
}

func printArchive(cmd *cobra.Command, out *format, a image.Archive, err error) error {
	if err != nil {
		return err
	}
	return out.print(cmd.OutOrStdout(), a, func() string {
		return fmt.Sprintf("%s: %s, %d MB\nimage  %s\nsha256 %s\n%s", a.File, a.Image, a.Bytes>>20, a.ID, a.SHA256, noteLine(a.Note))
	})
}

func noteLine(note string) string {
	if note == "" {
		return ""
	}
	return note + "\n"
}
