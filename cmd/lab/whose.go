package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
)

// labName says which lab a command is about; empty: the only one.
type labName struct{ lab string }

// flag adds --name, which every command about a lab has.
func (n *labName) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.lab, "name", "", "the lab (default: the only one)")
	must(cmd.RegisterFlagCompletionFunc("name", completeLabs))
}

// labArgument marks commands whose first argument is the lab's name.
const labArgument = "lab"

// argument adds --name and lets the command's only argument, of which there may be none, say the same.
func (n *labName) argument(cmd *cobra.Command) {
	n.flag(cmd)
	n.first(cmd)
}

// first makes the only argument the lab's name.
func (n *labName) first(cmd *cobra.Command) {
	cmd.Args = usageArgs(n.take)
	cmd.ValidArgsFunction = completeLabs
	cmd.Annotations = map[string]string{labArgument: ""}
}

// take reads the argument.
func (n *labName) take(cmd *cobra.Command, args []string) error {
	if err := oneOf("lab")(cmd, args); err != nil {
		return err
	}
	switch {
	case len(args) == 0:
	case n.lab != "" && n.lab != args[0]:
		return fmt.Errorf("which lab: %s or, as --name has it, %s?", args[0], n.lab)
	default:
		n.lab = args[0]
	}
	return nil
}

// open opens the lab for do.
func (n *labName) open(cmd *cobra.Command, do func(*labs.Lab) error) error {
	l, err := labs.Open(cmd.Context(), n.lab, waiting(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	defer l.Close()
	return do(l)
}

// whose says of which lab and nodes a command is.
type whose struct {
	labName
	node string
}

// flags adds those that say it.
func (w *whose) flags(cmd *cobra.Command) {
	w.flag(cmd)
	cmd.Flags().StringVar(&w.node, "node", "", "only this node, by its full name or what follows the lab's")
	must(cmd.RegisterFlagCompletionFunc("node", completeNodes))
}

// argument adds the flags, and lets the only argument say which lab.
func (w *whose) argument(cmd *cobra.Command) {
	w.flags(cmd)
	w.first(cmd)
}
