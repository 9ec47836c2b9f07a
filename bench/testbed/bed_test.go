package testbed

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/bench/workload"
	"wirelab.dev/wirelab/internal/netnstest"
)

// short is long enough to see that a path works, and tells nothing about how fast.
var short = workload.Window{WarmUp: time.Millisecond, Length: 10 * time.Millisecond}

// setUp makes everything for a test.
func setUp(t *testing.T) (*Bed, *Setup) {
	t.Helper()
	netnstest.RequireRoot(t)
	b, err := Make(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := b.SetUp(t.Context(), Sizes{Few: 3, Many: 20}, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	return b, l
}

// Every path carries every workload that it is for.
func TestEveryPathWorks(t *testing.T) {
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	b, l := setUp(t)
	for name, path := range l.Paths {
		for _, kind := range workload.Kinds() {
			if strings.Contains(name, "Service") && kind != workload.TCPCRR {
				continue
			}
			r, err := path.Pair(kind, short).Measure()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			t.Logf("%-45s %-10s %8.0f", name, kind, r.Cost())
		}
	}
	gates(t, l)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	b.closers = nil
	if own, err := os.ReadFile("/proc/self/cgroup"); err != nil || strings.Contains(string(own), cgroupPrefix) {
		t.Errorf("this process is still in %s (%v)", own, err)
	}
}

// gates holds that the deterministic measurements work in every mode, and that they see what is there.
func gates(t *testing.T, l *Setup) {
	t.Helper()
	for mode, clusters := range l.Clusters {
		c := clusters[Few]
		fromPod, fromNIC, err := c.PacketCosts()
		if err != nil {
			t.Errorf("%s: %v", mode, err)
			continue
		}
		t.Logf("%s: %+v, %+v", mode, fromPod, fromNIC)
		if fromPod.Took <= fromPod.Empty || fromPod.Established < 10 || fromPod.Established > fromPod.Instructions {
			t.Errorf("%s: a program costs as much as an empty one, or has no instructions: %+v", mode, fromPod)
		}
		if (fromNIC == nil) != (mode == KubeProxy) {
			t.Errorf("%s: programs at the NIC: %+v", mode, fromNIC)
		}
		memory, err := c.Nodes[0].MapMemory()
		if err != nil || memory < 1<<20 {
			t.Errorf("%s: all maps take %d bytes (%v)", mode, memory, err)
		}
		if mode == KubeProxy {
			continue
		}
		f, err := c.Flat(t.Context(), 10, 100)
		if err != nil || f.Few.Took == 0 || f.Many.Took == 0 {
			t.Errorf("%s: %+v (%v)", mode, f, err)
		}
		for _, bare := range []Cost{f.TableFew, f.TableMany} {
			if bare.Took <= bare.Empty || bare.Took >= f.Few.Took {
				t.Errorf("%s: a look-up takes no time, or as much as a whole program: %+v", mode, f)
			}
		}
		t.Logf("%s: %+v; all maps %d KiB", mode, f, memory>>10)
	}
}
