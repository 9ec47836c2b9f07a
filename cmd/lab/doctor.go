package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

func newDoctorCmd() *cobra.Command {
	out := newFormat("text", "json")
	var set []string
	cmd := &cobra.Command{
		Use:   "doctor [PROFILE]",
		Short: "Look whether this machine can run a lab",
		Long: `doctor looks at everything a lab of PROFILE (kubeproxy unless said otherwise) needs, and says
how to mend what is missing. It exits with 1 when something is. What it may not try, as
without root, is unknown and stops nobody.`,
		Example:           "  lab doctor\n  lab doctor kubeproxy -o json",
		Args:              usageArgs(oneOf("profile")),
		ValidArgsFunction: completeProfiles(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := profiles.Load(profileArg(args), profiles.Options{Set: set, Env: os.Environ()})
			if err == nil {
				err = labs.Check(p)
			}
			if err != nil {
				return err
			}
			found := labs.Examine(cmd.Context(), p)
			if err := out.print(cmd.OutOrStdout(), found, func() string { return doctorText(found) }); err != nil {
				return err
			}
			if doctor.Worst(found) == doctor.Missing {
				return failedError{fmt.Errorf("%w: mend what is missing", labs.ErrRequirements)}
			}
			return nil
		},
	}
	setFlag(cmd, &set)
	out.flag(cmd)
	return cmd
}

func profileArg(args []string) string {
	if len(args) == 0 {
		return "kubeproxy"
	}
	return args[0]
}

func doctorText(found []doctor.Finding) string {
	t := show.Table{Head: []string{"REQUIREMENT", "STATE", "FOUND"}}
	for _, f := range found {
		t.Rows = append(t.Rows, []string{f.Name, string(f.State), f.Found})
		if f.Mend != "" {
			t.Rows = append(t.Rows, []string{"", "", "mend: " + f.Mend})
		}
	}
	return t.Loose()
}
