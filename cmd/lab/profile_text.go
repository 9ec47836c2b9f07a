package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/profiles"
)

// format is the -o flag of a command: one of the formats it can print.
type format struct {
	value   string
	allowed []string
}

// newFormat allows these formats; the first is the default.
func newFormat(allowed ...string) *format { return &format{value: allowed[0], allowed: allowed} }

func (f *format) String() string { return f.value }
func (f *format) Type() string   { return "format" }

// Set is what a flag's value goes through.
func (f *format) Set(value string) error {
	if !slices.Contains(f.allowed, value) {
		return fmt.Errorf("allowed: %s", strings.Join(f.allowed, ", "))
	}
	f.value = value
	return nil
}

func (f *format) flag(cmd *cobra.Command) {
	cmd.Flags().VarP(f, "output", "o", "how to print: "+strings.Join(f.allowed, ", "))
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(f.allowed, cobra.ShellCompDirectiveNoFileComp)))
}

// print writes v in the format chosen; text is called for "text".
func (f *format) print(w io.Writer, v any, text func() string) error {
	switch f.value {
	case "text":
		_, err := io.WriteString(w, text())
		return err
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	default:
		encoder := yaml.NewEncoder(w)
		encoder.SetIndent(2)
		if err := encoder.Encode(v); err != nil {
			return err
		}
		return encoder.Close()
	}
}

// printYAML writes what is YAML already, in the format chosen.
func (f *format) printYAML(w io.Writer, data []byte) error {
	if f.value == "yaml" {
		_, err := w.Write(data)
		return err
	}
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return err
	}
	return f.print(w, v, nil)
}

// must stops on mistakes in how commands are put together, which any test run shows.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// setFlag adds --set. Its value is not split: a comma belongs to the setting.
func setFlag(cmd *cobra.Command, set *[]string) {
	cmd.Flags().StringArrayVar(set, "set", nil, "a setting that counts more than the profile: key=value (repeat for more)")
	must(cmd.RegisterFlagCompletionFunc("set", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var keys []string
		for _, key := range profiles.Keys() {
			if doc, err := profiles.Explain(key); err == nil && doc.Set != "" {
				keys = append(keys, key+"=")
			}
		}
		return keys, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}))
}

// completeProfiles completes up to count arguments, any number when it is negative, with
// the names of shipped profiles, and with files.
func completeProfiles(count int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if count >= 0 && len(args) >= count {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, err := profiles.List()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names := make([]string, len(all))
		for i, s := range all {
			names[i] = cobra.CompletionWithDesc(s.Name, s.Description)
		}
		return names, cobra.ShellCompDirectiveDefault
	}
}

// explainable are all keys and sections.
func explainable() []string {
	doc, err := profiles.Explain("")
	if err != nil {
		return nil
	}
	var keys []string
	var add func([]profiles.Doc)
	add = func(docs []profiles.Doc) {
		for _, d := range docs {
			keys = append(keys, cobra.CompletionWithDesc(strings.ReplaceAll(d.Key, "[]", ""), d.Type))
			add(d.Children)
		}
	}
	add(doc.Children)
	return keys
}

func listText(all []profiles.Summary) string {
	t := show.Table{Head: []string{"NAME", "MODE", "DESCRIPTION"}}
	for _, s := range all {
		t.Rows = append(t.Rows, []string{s.Name, string(s.Mode), s.Description})
	}
	return t.Loose()
}

func verdictText(verdicts []verdict) string {
	var b strings.Builder
	for _, v := range verdicts {
		if v.Valid {
			fmt.Fprintf(&b, "%s: valid\n", v.Profile)
		}
		for _, p := range v.Problems {
			fmt.Fprintln(&b, p)
		}
	}
	return b.String()
}

func diffText(a, b string, changes []profiles.Change) string {
	if len(changes) == 0 {
		return fmt.Sprintf("%s and %s lead to the same lab\n", a, b)
	}
	t := show.Table{Head: []string{"KEY", a, b}}
	for _, c := range changes {
		t.Rows = append(t.Rows, []string{c.Key, cmp.Or(c.A, `""`), cmp.Or(c.B, `""`)})
	}
	return t.Loose()
}
