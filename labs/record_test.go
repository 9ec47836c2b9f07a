package labs

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/profiles"
)

func profile(t *testing.T, set ...string) *profiles.Profile {
	t.Helper()
	p, err := profiles.Load("kubeproxy", profiles.Options{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// made is a cluster as Create would have marked it for p.
func made(t *testing.T, p *profiles.Profile) *cluster.Cluster {
	t.Helper()
	labels, err := labelsOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster.Cluster{Name: "x", Lab: true, Labels: labels}
}

func TestCompatible(t *testing.T) {
	c := made(t, profile(t))
	renamed := profile(t)
	renamed.Metadata.Name = "other"
	tests := map[string]struct {
		now *profiles.Profile
		is  error
		say string
	}{
		"the same":        {profile(t), nil, ""},
		"network setting": {profile(t, "network.mtu=1400"), nil, ""},
		"demo off":        {profile(t, "demo.enabled=false"), nil, ""},
		"taint":           {profile(t, "cluster.removeControlPlaneTaint=false"), nil, ""},
		"more workers":    {profile(t, "cluster.workers=4"), ErrFixed, "cluster.workers 2 (the profile says 4)"},
		"another image":   {profile(t, "cluster.image=my/node:1"), ErrFixed, "cluster.image none (the profile says my/node:1)"},
		"another profile": {renamed, ErrTaken, "kubeproxy"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := compatible(c, tt.now)
			if !errors.Is(err, tt.is) {
				t.Fatalf("error = %v, want %v", err, tt.is)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.say) || !strings.Contains(err.Error(), "lab down x")) {
				t.Errorf("error = %v, want it to say %q and the way out", err, tt.say)
			}
		})
	}
}

func TestCompatibleWithoutARecord(t *testing.T) {
	c := made(t, profile(t))
	c.Labels[cluster.LabelMadeFrom] = "not: a profile"
	if err := compatible(c, profile(t)); err == nil || !strings.Contains(err.Error(), "lab down x") {
		t.Errorf("error = %v, want the way out", err)
	}
}

func TestRecord(t *testing.T) {
	k := fake.NewClientset()
	first := profile(t)
	c := made(t, first)
	got, by, err := readRecord(t.Context(), k, c)
	if err != nil || by != "" || len(profiles.Diff(first, got)) != 0 {
		t.Errorf("without a record: %v, made by %q, want the profile it was made from", err, by)
	}
	for _, set := range []string{"network.mtu=1400", "network.mtu=1300"} {
		now := profile(t, set)
		if err := writeRecord(t.Context(), k, "x", now); err != nil {
			t.Fatal(err)
		}
		got, by, err := readRecord(t.Context(), k, c)
		if err != nil || by == "" || len(profiles.Diff(now, got)) != 0 {
			t.Errorf("%s: read back %v, made by %q, %v", set, profiles.Diff(now, got), by, err)
		}
	}
}
