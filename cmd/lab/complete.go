package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
)

// completeDeadline keeps a shell's completion from hanging on a lab that does not answer.
const completeDeadline = 3 * time.Second

// completeLabs completes one argument, or a flag, with the names of labs.
func completeLabs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeDeadline)
	defer cancel()
	all, err := labs.List(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = cobra.CompletionWithDesc(l.Name, l.Profile+", "+l.State)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNodes completes with the nodes of the lab that was named.
func completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return places(cmd, args, false)
}

// completePlaces completes one argument with nodes and pods.
func completePlaces(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return places(cmd, args, true)
}

func places(cmd *cobra.Command, args []string, pods bool) ([]string, cobra.ShellCompDirective) {
	return completeFromLab(cmd, args, func(ctx context.Context, l *labs.Lab) ([]string, error) {
		var out []string
		for _, n := range l.Nodes {
			out = append(out, cobra.CompletionWithDesc(strings.TrimPrefix(n.Name, l.Name+"-"), "node"))
		}
		if !pods {
			return out, nil
		}
		all, err := l.Pods(ctx)
		for _, p := range all {
			out = append(out, cobra.CompletionWithDesc(strings.TrimPrefix(p, "default/"), "pod"))
		}
		return out, err
	})
}

// completeFromLab completes with what ask finds in the lab that was named, were it only a part. args are those before.
func completeFromLab(cmd *cobra.Command, args []string, ask func(context.Context, *labs.Lab) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeDeadline)
	defer cancel()
	name, err := cmd.Flags().GetString("name")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	if _, is := cmd.Annotations[labArgument]; is && len(args) > 0 {
		name = args[0]
	}
	l, err := labs.Open(ctx, name, nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer l.Close()
	found, err := ask(ctx, l)
	if err != nil && len(found) == 0 {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
