package labs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/profiles"
)

// Switch is what becomes different in a lab that gets another profile while it is up.
type Switch struct {
	From string `json:"from"` // the profile that was in force
	// Changes are the settings that differ; empty where only names do.
	Changes []profiles.Change `json:"changes"`
}

// String says what changes: "network.mtu from 1500 to 1400".
func (s *Switch) String() string {
	if len(s.Changes) == 0 {
		return "no setting"
	}
	return changed(s.Changes)
}

func changed(changes []profiles.Change) string {
	var words []string
	for _, c := range changes {
		words = append(words, fmt.Sprintf("%s from %s to %s", c.Key, cmp.Or(c.A, "none"), cmp.Or(c.B, "none")))
	}
	return strings.Join(words, ", ")
}

// fixedAmong are those changes that cannot be made in a network that is up, and why.
func fixedAmong(changes []profiles.Change) (fixed []profiles.Change, because string) {
	fixed = slices.DeleteFunc(slices.Clone(changes), func(c profiles.Change) bool { return c.Stays == "" })
	var reasons []string
	for _, c := range fixed {
		if !slices.Contains(reasons, c.Stays) {
			reasons = append(reasons, c.Stays)
		}
	}
	return fixed, strings.Join(reasons, "; ")
}

// becomes decides whether a lab with profile old in force can become what p says without being made anew. allowed is the
// user's word that it may get another profile. What changes then is returned; nil where the profile stays.
func becomes(lab string, old, p *profiles.Profile, allowed bool) (*Switch, error) {
	changes := profiles.Diff(old, p)
	fixed, because := fixedAmong(changes)
	var keys []string
	for _, c := range fixed {
		keys = append(keys, c.Key)
	}
	if old.Metadata.Name == p.Metadata.Name {
		if len(fixed) > 0 {
			return nil, fmt.Errorf("%w: lab %q would have to change %s (%s): leave that as it is, take the lab down first with lab down %s, or make another with --name",
				ErrFixed, lab, changed(fixed), because, lab)
		}
		return nil, nil
	}
	s := &Switch{From: old.Metadata.Name, Changes: changes}
	differs := fmt.Sprintf("lab %q has profile %s, and %s changes %s", lab, s.From, p.Metadata.Name, s)
	switch {
	case len(fixed) > 0:
		return nil, fmt.Errorf("%w: %s; it cannot change %s while it is up (%s): take it down first with lab down %s, or make another lab with --name",
			ErrTaken, differs, strings.Join(keys, ", "), because, lab)
	case !allowed:
		return nil, fmt.Errorf("%w: %s: do that to it while it is up with --switch, take it down first with lab down %s, or make another lab with --name",
			ErrTaken, differs, lab)
	}
	return s, nil
}

// inForce is the profile in force, as Docker alone tells: the one that the lab was brought up with last.
func inForce(ctx context.Context, c *cluster.Cluster) (*profiles.Profile, error) {
	y, err := c.Profile(ctx)
	if err != nil {
		return nil, err
	}
	if y == nil {
		return madeFrom(c)
	}
	p, err := profiles.Parse("lab "+c.Name, y, profiles.Options{})
	if err != nil {
		return nil, fmt.Errorf("read the profile of lab %q: %w: remove the lab with lab down %s", c.Name, err, c.Name)
	}
	return p, nil
}

// profileName is the name of the profile in force, or where that cannot be read of the one the lab was made from.
func profileName(ctx context.Context, c *cluster.Cluster) string {
	if p, err := inForce(ctx, c); err == nil {
		return p.Metadata.Name
	}
	return c.Labels[cluster.LabelProfile]
}
