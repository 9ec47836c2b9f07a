package controlplane

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"wirelab.dev/wirelab/bench/testbed"
	"wirelab.dev/wirelab/internal/netnstest"
)

// asAgent makes this test binary an agent.
const asAgent = "WIRELAB_BENCH_AS_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) == "" {
		os.Exit(m.Run())
	}
	if err := RunAgent(context.Background(), os.Stdin, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestMeasure(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Setenv(asAgent, "1")
	plugin := filepath.Join(t.TempDir(), "wirelab-cni")
	build := exec.Command("go", "build", "-trimpath", "-o", plugin, "wirelab.dev/wirelab/cmd/cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the CNI plugin: %v: %s", err, out)
	}
	b, err := testbed.Make(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := Measure(t.Context(), b, Plan{Plugin: plugin, Self: []string{os.Args[0]}, Pods: 8, Services: 20, Changes: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	for name, times := range map[string][]time.Duration{"ADD": r.Add[:7], "DEL": r.Delete[:4], "DEL alone": r.DeleteAlone[:4], "change": r.Change[:6], "start": {r.Cold, r.Warm}} {
		for _, took := range times {
			if took <= 0 {
				t.Errorf("%s took no time: %s", name, times)
			}
		}
	}
}
