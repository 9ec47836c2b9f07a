package verify

import (
	"fmt"
	"strings"
)

// unknownSize is the number of nodes of a lab that could not be looked at.
const unknownSize = -1

// skipped are those of all checks that are not to run in a lab with so many nodes, each with the reason.
func skipped(cfg Config, sel Selection, all []Check, nodes int) (out []Skipped) {
	for _, c := range all {
		if why := spared(cfg, sel, c, nodes); why != "" {
			out = append(out, Skipped{c.Name, c.Claim, why})
		}
	}
	return out
}

// spared is why a check is not to run; empty when it is.
func spared(cfg Config, sel Selection, c Check, nodes int) string {
	switch {
	case !c.In(cfg.Mode):
		return fmt.Sprintf("it is claimed of mode %s, and the lab's is %s", strings.Join(c.Modes, " and "), cfg.Mode)
	case !c.ClaimedOf(cfg.Settings):
		return "it is claimed of labs with " + strings.Join(c.Settings, " and ")
	case nodes != unknownSize && c.MinNodes > nodes:
		return fmt.Sprintf("it needs %d nodes, and the lab has %d", c.MinNodes, nodes)
	case len(sel.Only) > 0 && !matchesAny(sel.Only, c.Name):
		return "--only does not pick it"
	case matchesAny(sel.Skip, c.Name):
		return "--skip or the profile's verify.skip leaves it out"
	}
	return ""
}
