package testbed

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/bench/workload"
	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

// short is long enough to see that a path works, and tells nothing about how fast.
var short = workload.Window{WarmUp: time.Millisecond, Length: 10 * time.Millisecond}

// bed makes a bed for a test.
func bed(t *testing.T) *Bed {
	t.Helper()
	netnstest.RequireRoot(t)
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	b, err := Make(0)
	must(t, err)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// setUp makes everything for a test.
func setUp(t *testing.T) (*Bed, *Setup) {
	t.Helper()
	b := bed(t)
	l, err := b.SetUp(t.Context(), Sizes{Few: 3, Many: 20}, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	return b, l
}

// Every path carries every workload that it is for.
func TestEveryPathWorks(t *testing.T) {
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

// The paths that are compared by their tunnels have one, and all that goes that way is in it.
func TestTunnelsAreUsed(t *testing.T) {
	b := bed(t)
	hosts, pods, err := b.kernelTunnel()
	must(t, err)
	c, err := b.cluster(t.Context(), Tunnel, 3, tunnel)
	must(t, err)
	for name, way := range map[string]struct {
		path   Path
		host   *Space
		device string
	}{
		KernelTunnel: {b.straight(pods[0].Space, pods[1].Space, pods[1].addr), hosts[0], vtep},
		Tunnel:       {b.across(c), c.Nodes[0].Space, "lab_vxlan"},
	} {
		packets := func(device string) (sent, received uint64) {
			l, err := way.host.link(device)
			must(t, err)
			return l.Attrs().Statistics.TxPackets, l.Attrs().Statistics.RxPackets
		}
		wireSent, wireReceived := packets(nic)
		sent, received := packets(way.device)
		r, err := way.path.Pair(workload.UDPRR, short).Measure()
		must(t, err)
		nowSent, nowReceived := packets(way.device)
		if sent, received = nowSent-sent, nowReceived-received; sent < uint64(r.Operations) || received < uint64(r.Operations) {
			t.Errorf("%s: of %d requests and answers %d and %d went through %s", name, r.Operations, sent, received, way.device)
		}
		nowSent, nowReceived = packets(nic)
		if wireSent, wireReceived = nowSent-wireSent, nowReceived-wireReceived; wireSent > sent+10 || wireReceived > received+10 {
			t.Errorf("%s: the wire carried %d and %d packets, of which %d and %d came by %s", name, wireSent, wireReceived, sent, received, way.device)
		}
	}
}

// Nodes that tell of flows are read from while such a path is measured, and one that tells of nothing is found out.
func TestToldFlowsAreRead(t *testing.T) {
	b := bed(t)
	window := workload.Window{WarmUp: time.Millisecond, Length: 400 * time.Millisecond}
	for name, set := range map[string]func(*datapath.Config){Told: told, EBPF: byEBPF} {
		c, err := b.cluster(t.Context(), name, 3, set)
		must(t, err)
		for _, n := range c.Nodes {
			b.listen(n)
		}
		path := b.across(c)
		pair := path.Pair(workload.TCPCRR, window)
		pair.Client.Delay = 500 * time.Microsecond // a busy machine keeps up with that
		_, err = path.measure(pair)
		t.Logf("%s: %d events read: %v", name, c.Nodes[0].reader.read.Load(), err)
		if (err == nil) != (name == Told) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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
