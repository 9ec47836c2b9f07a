package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/labs"
)

func newListCmd() *cobra.Command {
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the labs of this machine",
		Example: "  lab list\n  lab list -o json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := labs.List(cmd.Context())
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), all, func() string { return labsText(all) })
		},
	}
	out.flag(cmd)
	return cmd
}

func labsText(all []labs.Summary) string {
	if len(all) == 0 {
		return "no labs: make one with lab up kubeproxy\n"
	}
	rows := []string{"NAME\tPROFILE\tSTATE\tNODES\tIMAGE\tAGE"}
	for _, l := range all {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s", l.Name, l.Profile, l.State, len(l.Nodes), l.Image,
			duration.HumanDuration(time.Since(l.Created))))
	}
	text := columns(rows...)
	for _, l := range all {
		if l.State == labs.StateDegraded {
			text += screen.Paragraph(fmt.Sprintf("%s: %s: lab up starts or resumes nodes", l.Name, strings.Join(l.Down, ", ")), "  ")
		}
	}
	return text
}
