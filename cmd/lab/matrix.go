package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

func newMatrixCmd() *cobra.Command {
	var of axes
	workflow := newFormat("none", "github", "gitlab")
	cmd := &cobra.Command{
		Use:   "matrix [PROFILE]...",
		Short: "Write the rows of a CI matrix, or a whole workflow",
		Long: `matrix writes one row for each combination of the profiles, of the values that --set gives a key,
and of the versions of Kubernetes, as a JSON object {"include": [...]} in one line, which the
fromJson of a workflow reads. Without PROFILE it takes those that come with lab. A row has name,
the lab's, title, profile, set, kubernetes, and args, what lab up is to be given.

With --workflow it prints a workflow for GitHub Actions or GitLab CI that makes each lab,
verifies it, keeps results, summary, timings and, of a lab that failed, a report, and takes
the lab down.

Every row is read as lab up would read it, so that a profile that there is not, or a setting
that it cannot have, is refused here. The environment does not count.`,
		Example: `  lab matrix
  lab matrix ebpf vxlan --set cluster.workers=1 --set cluster.workers=2
  lab matrix ebpf --kubernetes v1.36.1 --kubernetes v1.37.0
  lab matrix kubeproxy ebpf --workflow github >.github/workflows/labs.yml`,
		ValidArgsFunction: completeProfiles(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			of.profiles = args
			rows, err := of.rows()
			if err != nil {
				return err
			}
			if workflow.value == "none" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(matrix{rows})
			}
			return writeWorkflow(cmd.OutOrStdout(), workflow.value, of.line(workflow.value), rows)
		},
	}
	f := cmd.Flags()
	setFlag(cmd, &of.set)
	f.Lookup("set").Usage = "a setting of every row: key=value; given a key more than once, there are rows with each value"
	f.StringArrayVar(&of.kubernetes, "kubernetes", nil, "a version of Kubernetes, such as v1.37.0, whose kind image the nodes have (repeat for more)")
	f.Var(workflow, "workflow", "print a workflow with the rows: github, gitlab")
	must(cmd.RegisterFlagCompletionFunc("workflow", cobra.FixedCompletions([]string{"github", "gitlab"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// matrix is what fromJson reads.
type matrix struct {
	Include []row `json:"include"`
}

// row is one lab of a matrix.
type row struct {
	Name       string   `json:"name"`
	Title      string   `json:"title"`
	Profile    string   `json:"profile"`
	Set        []string `json:"set"`
	Kubernetes string   `json:"kubernetes,omitempty"`
	// Args are what lab up is given, for a shell.
	Args string `json:"args"`
}

// axes are what the rows of a matrix are made of.
type axes struct {
	profiles, set, kubernetes []string
}

// line is the command that writes these rows as a workflow.
func (a axes) line(workflow string) string {
	line := append([]string{"lab", "matrix"}, a.profiles...)
	line = append(line, flagged("--set", a.set)...)
	return words(append(append(line, flagged("--kubernetes", a.kubernetes)...), "--workflow", workflow))
}

// imageKey is the setting that a version of Kubernetes amounts to.
const imageKey = "cluster.image"

var kubernetesForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`)

// rows are all combinations, in the order of what they are made of. Each is a lab that lab up would take.
func (a axes) rows() ([]row, error) {
	if len(a.profiles) == 0 {
		all, err := profiles.List()
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			a.profiles = append(a.profiles, p.Name)
		}
	}
	settings, err := a.settings()
	if err != nil {
		return nil, usageError{err}
	}
	var rows []row
	for _, ref := range a.profiles {
		for i, set := range settings {
			r, err := rowOf(ref, set)
			if err != nil {
				return nil, err
			}
			if len(settings) > 1 {
				r.Name = fmt.Sprintf("%s-%d", r.Name, i+1)
			}
			if err := profiles.CheckName(r.Name); err != nil {
				return nil, usageError{err}
			}
			r.Args = words(append([]string{ref, "--name", r.Name}, flagged("--set", set)...))
			rows = append(rows, r)
		}
	}
	return rows, unique(rows)
}

// settings are all combinations of a value for each key and a version.
func (a axes) settings() ([][]string, error) {
	var keys []string
	values := map[string][]string{}
	add := func(key, setting string) {
		if values[key] == nil {
			keys = append(keys, key)
		}
		values[key] = append(values[key], setting)
	}
	for _, s := range a.set {
		key, _, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: want key=value", s)
		}
		add(key, s)
	}
	if len(a.kubernetes) > 0 && values[imageKey] != nil {
		return nil, errors.New("--kubernetes and --set " + imageKey + " both say which image nodes have: give one of them")
	}
	for _, v := range a.kubernetes {
		if !kubernetesForm.MatchString(v) {
			return nil, fmt.Errorf("--kubernetes %s: want a version such as v1.37.0", v)
		}
		add(imageKey, imageKey+"="+image.KindNode+v)
	}
	all := [][]string{{}}
	for _, key := range keys {
		var more [][]string
		for _, one := range all {
			for _, setting := range values[key] {
				more = append(more, append(one[:len(one):len(one)], setting))
			}
		}
		all = more
	}
	return all, nil
}

// rowOf reads a profile with settings as lab up would.
func rowOf(ref string, set []string) (row, error) {
	p, err := profiles.Load(ref, profiles.Options{Set: set})
	if err == nil {
		err = labs.Check(p)
	}
	if err != nil {
		return row{}, err
	}
	r := row{Name: p.Metadata.Name, Title: ref, Profile: ref, Set: []string{}}
	for _, s := range set {
		if version, ok := strings.CutPrefix(s, imageKey+"="+image.KindNode); ok {
			r.Kubernetes = version
			r.Title += ", " + version
			continue
		}
		r.Title += ", " + s
	}
	r.Set = append(r.Set, set...)
	return r, nil
}

// unique refuses two labs of one name: files of one name in several folders have that.
func unique(rows []row) error {
	seen := map[string]string{}
	for _, r := range rows {
		if other, ok := seen[r.Name]; ok {
			return usageError{fmt.Errorf("two rows make a lab called %s: %s and %s: give the profiles names of their own", r.Name, other, r.Title)}
		}
		seen[r.Name] = r.Title
	}
	return nil
}

func flagged(flag string, values []string) (out []string) {
	for _, v := range values {
		out = append(out, flag, v)
	}
	return out
}

// harmless is a word that a shell, and a template of a CI system, takes as it is.
var harmless = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// words are words for a shell.
func words(all []string) string {
	quoted := make([]string, len(all))
	for i, w := range all {
		if !harmless.MatchString(w) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		quoted[i] = w
	}
	return strings.Join(quoted, " ")
}
