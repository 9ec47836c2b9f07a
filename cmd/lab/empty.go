package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// noneEmpty refuses flags and arguments that were given without a value, as by a script whose variable is not set: to take
// them for not given would widen what the command does. Of a command line after -- every word counts.
func noneEmpty(cmd *cobra.Command, args []string) error {
	if strings.HasPrefix(cmd.Name(), "__") { // a shell asks for completions of nothing yet
		return nil
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && isEmpty(f.Value) {
			err = fmt.Errorf("--%s: its value is empty: give one, or leave the flag out", f.Name)
		}
	})
	if err != nil {
		return err
	}
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args = args[:dash]
	}
	if i := slices.IndexFunc(args, blank); i >= 0 {
		return fmt.Errorf("argument %d of %s is empty: give one, or leave it out", i+1, cmd.CommandPath())
	}
	return nil
}

// isEmpty tells whether a flag's value, or one of several, is empty.
func isEmpty(v pflag.Value) bool {
	if list, ok := v.(pflag.SliceValue); ok {
		all := list.GetSlice()
		return len(all) == 0 || slices.ContainsFunc(all, blank)
	}
	return blank(v.String())
}

// patterns is a flag that takes several words, separated by commas or one at a time.
type patterns struct{ words *[]string }

func (p patterns) String() string {
	if p.words == nil {
		return ""
	}
	return strings.Join(*p.words, ",")
}

func (patterns) Type() string { return "patterns" }

// Set adds the words of one use of the flag, none of which may be empty.
func (p patterns) Set(value string) error {
	for word := range strings.SplitSeq(value, ",") {
		if blank(word) {
			return errors.New("a name in it is empty: give one, or leave the flag out")
		}
		*p.words = append(*p.words, strings.TrimSpace(word))
	}
	return nil
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }
