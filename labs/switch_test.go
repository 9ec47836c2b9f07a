package labs

import (
	"errors"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/profiles"
)

func TestBecomes(t *testing.T) {
	shipped := func(name string, set ...string) *profiles.Profile {
		t.Helper()
		p, err := profiles.Load(name, profiles.Options{Set: set})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	renamed := profile(t)
	renamed.Metadata.Name = "other"
	const ebpf, replaced = "ebpf", "kubeproxy-replacement"
	for name, tt := range map[string]struct {
		was, now *profiles.Profile
		allowed  bool
		is       error
		say      string // a part of the error, or of what changes
	}{
		"the same":        {profile(t), profile(t), false, nil, ""},
		"network setting": {profile(t), profile(t, "network.mtu=1400"), false, nil, ""},
		"demo off":        {profile(t), profile(t, "demo.enabled=false"), false, nil, ""},
		"taint":           {profile(t), profile(t, "cluster.removeControlPlaneTaint=false"), false, nil, ""},
		"more workers":    {profile(t), profile(t, "cluster.workers=4"), true, ErrFixed, "cluster.workers 2 (the profile says 4)"},
		"another image":   {profile(t), profile(t, "cluster.image=my/node:1"), false, ErrFixed, "cluster.image none (the profile says my/node:1)"},

		"another profile":             {shipped(replaced), shipped(ebpf), false, ErrTaken, "has profile kubeproxy-replacement, and ebpf changes network.bpf.masquerade from false to true: do that to it while it is up with --switch"},
		"another profile, allowed":    {shipped(replaced), shipped(ebpf), true, nil, "network.bpf.masquerade from false to true"},
		"and back":                    {shipped(ebpf), shipped(replaced), true, nil, "network.bpf.masquerade from true to false"},
		"another name":                {profile(t), renamed, false, ErrTaken, "other changes no setting: do that"},
		"another name, allowed":       {profile(t), renamed, true, nil, "no setting"},
		"kube-proxy":                  {shipped("kubeproxy"), shipped(ebpf), true, ErrTaken, "it cannot change cluster.kubeProxyMode while it is up (the cluster is made with it): take it down first"},
		"a tunnel":                    {shipped(ebpf), shipped("vxlan"), true, ErrTaken, "it cannot change network.routingMode while it is up (nodes change one by one"},
		"another tunnel":              {shipped("vxlan"), shipped("geneve"), true, ErrTaken, "it cannot change network.tunnelProtocol"},
		"the MTU":                     {shipped(replaced), shipped(ebpf, "network.mtu=1400"), true, ErrTaken, "it cannot change network.mtu"},
		"pool":                        {shipped(replaced), shipped(ebpf, "network.ipam.operator.clusterPoolIPv4MaskSize=25"), true, ErrTaken, "podCIDRs"},
		"more workers, and not asked": {shipped(replaced), shipped(ebpf, "cluster.workers=4"), false, ErrTaken, "it cannot change cluster.workers"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := becomes("x", tt.was, tt.now, tt.allowed)
			if !errors.Is(err, tt.is) {
				t.Fatalf("error = %v, want %v", err, tt.is)
			}
			switch {
			case err != nil:
				if s != nil || !strings.Contains(err.Error(), tt.say) || !strings.Contains(err.Error(), "lab down x") {
					t.Errorf("error = %v, want it to say %q and the way out", err, tt.say)
				}
			case tt.was.Metadata.Name == tt.now.Metadata.Name:
				if s != nil {
					t.Errorf("a lab that keeps its profile is switched: %s", s)
				}
			case s.String() != tt.say || s.From != tt.was.Metadata.Name:
				t.Errorf("it changes %s, from %s; want %s", s, s.From, tt.say)
			}
		})
	}
}

func TestProfileThatCannotBeRead(t *testing.T) {
	c := made(t, profile(t))
	c.Labels[cluster.LabelMadeFrom] = "not: a profile"
	if _, err := inForce(t.Context(), c); err == nil || !strings.Contains(err.Error(), "lab down x") {
		t.Errorf("error = %v, want the way out", err)
	}
	if name := profileName(t.Context(), c); name != "kubeproxy" {
		t.Errorf("its name is %q", name)
	}
}
