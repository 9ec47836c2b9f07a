package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func newLoadCmd() *cobra.Command {
	var of labName
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "load IMAGE...",
		Short: "Put images into all nodes of a lab",
		Long: `load puts images into the containerd of every node of a lab that runs, for pods to be made of
without a registry: none is asked. IMAGE is the name of an image that Docker has, or a file: what
docker save writes, or an OCI layout in a tar, also compressed with gzip or zstd. A word with / or
. in front, or an ending such as .tar, is a file; of any other Docker is asked first.

A pod takes what a node has where its imagePullPolicy is Never or IfNotPresent, which is the
default but for the tag latest.

No node is touched until every IMAGE has been read and is one for the nodes' platform. A node that
is stopped or paused is named, and the others get the images all the same; the exit status is 1 then.`,
		Example: `  lab load app:1
  lab load app:1 ./database.tar.zst --name ebpf
  lab load app:1 -o json`,
		Args: usageArgs(func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("say which image: the name of one that Docker has, or the file of an archive")
			}
			return nil
		}),
		ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			steps := newProgress(cmd.ErrOrStderr(), out.value == "json")
			r, err := labs.Load(cmd.Context(), labs.LoadOptions{
				Lab: of.lab, Sources: args, Progress: steps.event, Say: waiting(cmd.ErrOrStderr()),
			})
			steps.close()
			if errors.Is(err, labs.ErrNoSource) {
				return usageError{err}
			}
			if r == nil {
				return err
			}
			return errors.Join(err, out.print(cmd.OutOrStdout(), r, func() string { return loadText(r) }))
		},
	}
	of.flag(cmd)
	out.flag(cmd)
	return cmd
}

func loadText(r *labs.LoadResult) string {
	t := show.Table{Head: []string{"IMAGE", "NODE", "STATE"}}
	for _, n := range r.Nodes {
		t.Rows = append(t.Rows, []string{n.Image, n.Node, string(n.State)})
	}
	return t.Loose()
}

// completeImages completes with the names of images that Docker has, and with files.
func completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeDeadline)
	defer cancel()
	e, err := docker.Connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	defer e.Close()
	all, err := e.Images(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return slices.DeleteFunc(all, func(ref string) bool { return slices.Contains(args, ref) || strings.Contains(ref, "<none>") }), cobra.ShellCompDirectiveDefault
}
