package labs

import (
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
	var words []string
	for _, c := range s.Changes {
		words = append(words, fmt.Sprintf("%s from %s to %s", c.Key, orNone(c.A), orNone(c.B)))
	}
	if len(words) == 0 {
		return "no setting"
	}
	return strings.Join(words, ", ")
}

// keepsLab are settings of the network that keep a lab from being switched, and why. All others an agent takes over when it
// starts with them.
var keepsLab = []struct{ key, why string }{
	{"network.routingMode", oneByOne + ", and pods keep the MTU that they began with"},
	{"network.tunnelProtocol", oneByOne},
	{"network.tunnelPort", oneByOne},
	{"network.mtu", "pods keep the MTU that they began with"},
	{"network.ipam.", "nodes keep the podCIDRs that they have"},
}

const oneByOne = "nodes change one by one and lose each other's packets meanwhile"

// cannotSwitch says why a setting cannot change in a lab that is up; empty when it can.
func cannotSwitch(key string) string {
	if !adjustable(key) {
		return "the cluster is made with it"
	}
	for _, k := range keepsLab {
		if strings.HasPrefix(key, k.key) {
			return k.why
		}
	}
	return ""
}

// becomes decides whether a lab with profile old in force can become what p says without being made anew. allowed is the
// user's word that it may get another profile. What changes then is returned; nil where the profile stays.
func becomes(lab string, old, p *profiles.Profile, allowed bool) (*Switch, error) {
	changes := profiles.Diff(old, p)
	if old.Metadata.Name == p.Metadata.Name {
		return nil, unchanged(lab, changes)
	}
	s := &Switch{From: old.Metadata.Name, Changes: changes}
	differs := fmt.Sprintf("lab %q has profile %s, and %s changes %s", lab, s.From, p.Metadata.Name, s)
	var keys, reasons []string
	for _, c := range changes {
		if why := cannotSwitch(c.Key); why != "" {
			keys = append(keys, c.Key)
			if !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
		}
	}
	switch {
	case len(keys) > 0:
		return nil, fmt.Errorf("%w: %s; it cannot change %s while it is up (%s): take it down first with lab down %s, or make another lab with --name",
			ErrTaken, differs, strings.Join(keys, ", "), strings.Join(reasons, "; "), lab)
	case !allowed:
		return nil, fmt.Errorf("%w: %s: do that to it while it is up with --switch, take it down first with lab down %s, or make another lab with --name",
			ErrTaken, differs, lab)
	}
	return s, nil
}

// unchanged refuses changes of what the cluster is made of.
func unchanged(lab string, changes []profiles.Change) error {
	var fixed []string
	for _, d := range changes {
		if !adjustable(d.Key) {
			fixed = append(fixed, fmt.Sprintf("%s %s (the profile says %s)", d.Key, orNone(d.A), orNone(d.B)))
		}
	}
	if len(fixed) > 0 {
		return fmt.Errorf("%w: lab %q has %s: take it down first with lab down %s", ErrFixed, lab, strings.Join(fixed, ", "), lab)
	}
	return nil
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
