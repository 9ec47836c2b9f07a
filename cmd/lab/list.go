package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/internal/show"
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
	t := show.Table{Head: []string{"NAME", "PROFILE", "STATE", "NODES", "IMAGE", "AGE"}}
	for _, l := range all {
		age := duration.HumanDuration(time.Since(l.Created))
		t.Rows = append(t.Rows, []string{l.Name, l.Profile, l.State, strconv.Itoa(len(l.Nodes)), l.Image, age})
	}
	text := t.Loose()
	for _, l := range all {
		if l.State == labs.StateDegraded {
			text += screen.Paragraph(fmt.Sprintf("%s: %s: lab up starts or resumes nodes", l.Name, strings.Join(l.Down, ", ")), "  ")
		}
	}
	return text
}
