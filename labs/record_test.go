package labs

import (
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
