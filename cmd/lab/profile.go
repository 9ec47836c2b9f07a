package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

// newProfileCmd is `lab profile`, which needs neither Docker nor a lab.
func newProfileCmd() *cobra.Command {
	cmd := parent("profile", "Look at profiles: what a lab can be and what it will be",
		newProfileListCmd(), newProfileShowCmd(), newProfileValidateCmd(),
		newProfileExplainCmd(), newProfileDiffCmd(), newProfileSchemaCmd())
	cmd.Long = `A profile says in one file how a lab's cluster and network shall work. It is named
(one of those that come with lab) or given as the path of a file.

What a lab is made from is, each counting more than the one before: the defaults, the
profile that the file extends, the file, the environment (WIRELAB_NETWORK_MTU=1400),
and --set network.mtu=1400.`
	cmd.Example = `  lab profile list
  lab profile explain network.mtu
  lab profile validate my-lab.yaml`
	return cmd
}

func newProfileListCmd() *cobra.Command {
	out := newFormat("text", "json", "yaml")
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the profiles that come with lab",
		Example: "  lab profile list",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := profiles.List()
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), all, func() string { return listText(all) })
		},
	}
	out.flag(cmd)
	return cmd
}

func newProfileShowCmd() *cobra.Command {
	var set []string
	var kind, values bool
	out := newFormat("yaml", "json")
	cmd := &cobra.Command{
		Use:   "show PROFILE",
		Short: "Print a profile with everything merged, or what it leads to",
		Long: `Prints the profile as a lab would be made from it: defaults, extended profiles, the
environment and --set merged in. With --kind it prints the configuration of the kind
cluster instead, with --values the values of the chart, both for a lab that has the
profile's name. The output of a plain show is itself a profile.`,
		Example: `  lab profile show kubeproxy
  lab profile show ./my-lab.yaml --set cluster.workers=3 --kind`,
		Args:              usageArgs(given("a profile", cobra.ExactArgs(1))),
		ValidArgsFunction: completeProfiles(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind && values {
				return usageError{errors.New("--kind and --values ask for different things; give one of them")}
			}
			p, err := profiles.Load(args[0], profiles.Options{Set: set, Env: os.Environ()})
			if err != nil {
				return err
			}
			return showProfile(cmd, out, p, kind, values)
		},
	}
	out.flag(cmd)
	setFlag(cmd, &set)
	cmd.Flags().BoolVar(&kind, "kind", false, "print the configuration of the kind cluster")
	cmd.Flags().BoolVar(&values, "values", false, "print the values of the chart")
	return cmd
}

func showProfile(cmd *cobra.Command, out *format, p *profiles.Profile, kind, values bool) error {
	stdout := cmd.OutOrStdout()
	switch {
	case kind:
		config, err := p.KindConfig(profiles.Target{})
		if err != nil {
			return err
		}
		return out.printYAML(stdout, config)
	case values:
		return out.print(stdout, p.Values(profiles.Install{}), nil)
	default:
		return out.print(stdout, p, nil)
	}
}

func newProfileValidateCmd() *cobra.Command {
	out := newFormat("text", "json", "yaml")
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Say everything that is wrong with profiles",
		Long: `Reads each profile and says everything that is wrong with it at once, with the line
and the real key that was probably meant. The environment does not count here. It exits
with 0 when all are fine, with 1 when one is not, and with 2 when one does not exist.`,
		Example: `  lab profile validate my-lab.yaml
  lab profile validate *.yaml -o json`,
		Args:              usageArgs(given("the files of profiles", cobra.MinimumNArgs(1))),
		ValidArgsFunction: completeProfiles(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			verdicts, err := validateAll(args)
			printed := out.print(cmd.OutOrStdout(), verdicts, func() string { return verdictText(verdicts) })
			return errors.Join(err, printed)
		},
	}
	out.flag(cmd)
	return cmd
}

// verdict is what `lab profile validate` says of one profile.
type verdict struct {
	Profile  string              `json:"profile" yaml:"profile"`
	Valid    bool                `json:"valid" yaml:"valid"`
	Problems []*profiles.Problem `json:"problems" yaml:"problems"`
}

// validateAll reads every profile. The error says how many are not fine; it is one of
// the request when a profile does not exist.
func validateAll(refs []string) ([]verdict, error) {
	verdicts := make([]verdict, len(refs))
	invalid, missing := 0, 0
	for i, ref := range refs {
		p, err := profiles.Load(ref, profiles.Options{})
		if err == nil {
			err = labs.Check(p)
		}
		verdicts[i] = verdict{Profile: refs[i], Valid: err == nil, Problems: append([]*profiles.Problem{}, profiles.Problems(err)...)}
		if err != nil {
			invalid++
		}
		if len(verdicts[i].Problems) == 1 && errors.Is(err, profiles.ErrUnknown) && verdicts[i].Problems[0].Source == "" {
			missing++
		}
	}
	switch {
	case missing > 0:
		return verdicts, usageError{fmt.Errorf("%d of %d profiles do not exist", missing, len(refs))}
	case invalid > 0:
		return verdicts, failedError{fmt.Errorf("%d of %d profiles are not valid", invalid, len(refs))}
	}
	return verdicts, nil
}

func newProfileExplainCmd() *cobra.Command {
	out := newFormat("text", "json", "yaml")
	cmd := &cobra.Command{
		Use:   "explain [KEY]",
		Short: "Say what a key of a profile does and what it may be",
		Example: `  lab profile explain
  lab profile explain network
  lab profile explain network.mtu`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return explainable(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := profiles.Explain(strings.Join(args, ""))
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), doc, func() string { return explainText(doc) })
		},
	}
	out.flag(cmd)
	return cmd
}

func newProfileDiffCmd() *cobra.Command {
	var set []string
	out := newFormat("text", "json", "yaml")
	cmd := &cobra.Command{
		Use:   "diff PROFILE PROFILE",
		Short: "Print the settings in which two profiles differ",
		Long: `Prints the settings in which two profiles differ after everything is merged, and
nothing else: not their names, and not what their files write differently but mean alike.`,
		Example:           "  lab profile diff kubeproxy ./my-lab.yaml",
		Args:              usageArgs(given("two profiles", cobra.ExactArgs(2))),
		ValidArgsFunction: completeProfiles(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts := profiles.Options{Set: set, Env: os.Environ()}
			a, errA := profiles.Load(args[0], opts)
			b, errB := profiles.Load(args[1], opts)
			if err := errors.Join(errA, errB); err != nil {
				return err
			}
			changes := append([]profiles.Change{}, profiles.Diff(a, b)...)
			return out.print(cmd.OutOrStdout(), changes, func() string { return diffText(args[0], args[1], changes) })
		},
	}
	out.flag(cmd)
	setFlag(cmd, &set)
	return cmd
}

func newProfileSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of profiles, for editors",
		Long: `Prints a JSON Schema with which an editor completes keys, shows what they do and marks
what is wrong. For the YAML language server, write it to a file and start a profile with
  # yaml-language-server: $schema=<path of that file>`,
		Example: "  lab profile schema > wirelab.schema.json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := profiles.JSONSchema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}
