package verify

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/nearest"
)

// Kind is what decides which checks are claimed of a lab. What is not known of it leaves no check out.
type Kind struct {
	Mode string // of the profile: "kubeproxy", "kubeproxy-replacement" or "ebpf"; empty where it is not known
	// Settings are the values of the profile's settings by their keys, as they
	// are typed after --set; nil where they are not known.
	Settings map[string]string
	Nodes    int // 0 where it is not known
}

// Claims tells whether c says something about labs of this kind, of whatever size.
func (k Kind) Claims(c Check) bool { return k.spares(c) == "" }

// spares is why c says nothing about a lab of this kind; empty when it does.
func (k Kind) spares(c Check) string {
	switch {
	case !c.in(k.Mode):
		return fmt.Sprintf("it is claimed of mode %s, and the lab's is %s", strings.Join(c.Modes, " and "), k.Mode)
	case k.Settings != nil && !c.claimedOf(k.Settings):
		return "it is claimed of labs with " + strings.Join(c.Settings, " and ")
	}
	return ""
}

// tooSmall is why c cannot run in a lab of so many nodes; empty when it can.
func (k Kind) tooSmall(c Check) string {
	if k.Nodes > 0 && c.MinNodes > k.Nodes {
		return fmt.Sprintf("it needs %d nodes, and the lab has %d", c.MinNodes, k.Nodes)
	}
	return ""
}

// Selection picks checks by pattern. A pattern is a whole name, a group
// ("services"), or either with *, ? and [] as in [path.Match].
type Selection struct {
	Only []string // empty: all
	Skip []string
}

// Select returns those of checks that are claimed of a lab of the kind and that s picks, and the others, each with the
// reason; both are in the order of checks. It returns an error for a pattern that is malformed or picks nothing, as a
// misspelt name must not pass by running less, and when no check is picked.
func (s Selection) Select(all []Check, k Kind) (picked []Check, skipped []Skipped, err error) {
	if err := s.check(slices.DeleteFunc(slices.Clone(all), func(c Check) bool { return !k.Claims(c) })); err != nil {
		return nil, nil, err
	}
	small := false
	for _, c := range all {
		why := cmp.Or(k.spares(c), s.leaves(c))
		if why == "" {
			why = k.tooSmall(c)
			small = small || why != ""
		}
		if why == "" {
			picked = append(picked, c)
		} else {
			skipped = append(skipped, Skipped{c.Name, c.Claim, why})
		}
	}
	switch {
	case len(picked) > 0:
		return picked, skipped, nil
	case small:
		return nil, nil, fmt.Errorf("select checks: those that are picked need more nodes than the lab's %d", k.Nodes)
	}
	return nil, nil, errors.New("select checks: what --only picks, --skip takes away; no check is left to run")
}

// check tells which pattern is malformed or picks none of claimed.
func (s Selection) check(claimed []Check) error {
	for _, pattern := range slices.Concat(s.Only, s.Skip) {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("select checks by %q: %w", pattern, err)
		}
		if !slices.ContainsFunc(claimed, func(c Check) bool { return matches(pattern, c.Name) }) {
			var names []string
			for _, c := range claimed {
				group, _, _ := strings.Cut(c.Name, "/")
				names = append(names, group, c.Name)
			}
			if near := nearest.Of(pattern, names); near != "" {
				return fmt.Errorf("select checks: %q picks none: did you mean %s? lab verify --list prints all names, and the modes and settings of each", pattern, near)
			}
			return fmt.Errorf("select checks: %q picks none: lab verify --list prints their names, and the modes and settings of each", pattern)
		}
	}
	return nil
}

// leaves is why s does not pick c; empty when it does. Patterns have to be well-formed.
func (s Selection) leaves(c Check) string {
	switch {
	case len(s.Only) > 0 && !matchesAny(s.Only, c.Name):
		return "--only does not pick it"
	case matchesAny(s.Skip, c.Name):
		return "--skip or the profile's verify.skip leaves it out"
	}
	return ""
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// matches expects a well-formed pattern.
func matches(pattern, name string) bool {
	if whole, _ := path.Match(pattern, name); whole {
		return true
	}
	group, _, _ := strings.Cut(name, "/")
	inGroup, _ := path.Match(pattern, group)
	return inGroup
}
