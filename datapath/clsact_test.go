package datapath_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

// On kernels before 6.6 the same programs run as clsact filters, with the same effect.
func TestClsact(t *testing.T) {
	for name, test := range map[string]func(*testing.T, ...func(*datapath.Config)){
		"conversations":     converse,
		"paths of an echo":  echoPaths,
		"Service":           service,
		"restart":           restart,
		"sixty endpoints":   sixtyEndpoints,
		"add is idempotent": addTwice,
	} {
		t.Run(name, func(t *testing.T) { test(t, (*datapath.Config).ForceClsact) })
		if name != "Service" { // of iptables
			t.Run(name+", ebpf", func(t *testing.T) { test(t, routed, (*datapath.Config).ForceClsact) })
		}
	}
}

func TestClsactIsMendedAndCleaned(t *testing.T) {
	n := newLab(t, 1, (*datapath.Config).ForceClsact).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	if links := pinned(filepath.Join(n.BPFFS, "wirelab/links")); len(links) != 1 { // the directory itself
		t.Errorf("links are pinned: %v", links)
	}
	status := func() (s datapath.Status) {
		n.Do(func() {
			var err error
			s, err = n.dp.Status(ctx(t))
			must(t, err)
		})
		return s
	}
	if s := status(); s.Attach != "clsact" || len(s.Programs) != 2 || len(s.Programs[0].AttachedTo)+len(s.Programs[1].AttachedTo) != 3 {
		t.Errorf("status is %+v", s)
	}
	n.Run("tc", "filter", "del", "dev", a.HostIf, "ingress")
	n.Run("tc", "qdisc", "del", "dev", "lab_host", "clsact")
	if s := status(); len(s.Programs) != 1 {
		t.Errorf("after filters are gone programs are %+v", s.Programs)
	}
	n.Do(func() {
		if err := n.dp.CheckEndpoint(ctx(t), a.spec); err == nil || !strings.Contains(err.Error(), "not attached") {
			t.Errorf("a filter that is gone: %v", err)
		}
		must(t, second(n.dp.SyncEndpoints(ctx(t))))
		must(t, n.dp.Devices().Apply(ctx(t)))
		must(t, n.dp.CheckEndpoint(ctx(t), a.spec))
	})
	must(t, second(a.Ping(b.Addr, netnstest.PingOptions{})))
	must(t, second(n.Ping(b.Addr, netnstest.PingOptions{})))
	n.close()
	n.Do(func() { must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: n.BPFFS}, logger(t))) })
	if left := n.Run("tc", "qdisc", "show"); strings.Contains(left, "clsact") {
		t.Errorf("left:\n%s", left)
	}
	if _, err := os.Stat(filepath.Join(n.BPFFS, "wirelab")); !os.IsNotExist(err) {
		t.Error("pins are left")
	}
}
