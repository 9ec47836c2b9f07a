package datapath_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
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
	status := func() (s api.Datapath) {
		n.Do(func() {
			var err error
			s, err = n.dp.Status(ctx(t))
			must(t, err)
		})
		return s
	}
	if s := status(); s.AttachMode != "clsact" || len(s.Programs) != 2 || len(s.Programs[0].AttachedTo)+len(s.Programs[1].AttachedTo) != 3 {
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

// Filters of others stay, wherever they are and whatever they are called, and ours run beside them.
func TestFiltersOfOthersStay(t *testing.T) {
	prog := foreignProgram(t)
	program := func(name string, proto uint16) func(*node) {
		return func(n *node) {
			eth0, err := n.Netlink().LinkByName("eth0")
			must(t, err)
			must(t, n.Netlink().FilterAdd(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: eth0.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: proto, Priority: 1},
				Fd:          prog.FD(), Name: name, DirectAction: true,
			}))
		}
	}
	filters := func(n *node, device, direction string) string {
		return n.Run("tc", "filter", "show", "dev", device, direction)
	}
	for name, test := range map[string]struct {
		add  func(*node)
		left string
	}{
		"a program at our place":           {program("other", unix.ETH_P_ALL), " name foreign "},
		"a program with our filter's name": {program("lab_from_network", unix.ETH_P_ALL), " name foreign "},
		"a program for one protocol":       {program("other", unix.ETH_P_IP), " name foreign "},
		"another kind of filter, of our own priority": {func(n *node) {
			n.Run("tc", "filter", "add", "dev", "eth0", "ingress", "prio", "1", "protocol", "all", "u32", "match", "u32", "0x7f000001", "0xffffffff", "at", "12")
		}, "u32"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, routed, (*datapath.Config).ForceClsact)
			n := l.nodes[0]
			n.close()
			n.Run("tc", "qdisc", "del", "dev", "eth0", "clsact")
			n.Run("tc", "qdisc", "add", "dev", "eth0", "clsact")
			test.add(n)
			n.open()
			has := func(when string, ours bool) {
				t.Helper()
				got := filters(n, "eth0", "ingress")
				if !strings.Contains(got, test.left) {
					t.Errorf("%s the other's filter is gone:\n%s", when, got)
				}
				if strings.Contains(got, " name lab_from_networ ") != ours {
					t.Errorf("%s ours is there: %v, want %v:\n%s", when, !ours, ours, got)
				}
			}
			has("attached,", true)
			before := filters(n, "eth0", "ingress")
			must(t, n.applyDevices())
			if after := filters(n, "eth0", "ingress"); after != before {
				t.Errorf("another look has changed filters:\n%s\nwere\n%s", after, before)
			}
			n.close()
			n.open() // new programs in the place of the old
			has("opened again,", true)
			if got := strings.Count(filters(n, "eth0", "ingress"), " name lab_from_networ "); got != 1 {
				t.Errorf("%d filters of ours after opening again", got)
			}
			n.close()
			n.Do(func() { must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: n.BPFFS}, logger(t))) })
			has("cleaned,", false)
		})
	}
}

// The filter of an agent whose program had another name is replaced: the pod's packets pass one program of ours.
func TestFilterWithAFormerNameIsReplaced(t *testing.T) {
	n := newLab(t, 1, (*datapath.Config).ForceClsact).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	n.close()
	veth, err := n.Netlink().LinkByName(a.HostIf)
	must(t, err)
	n.Run("tc", "filter", "del", "dev", a.HostIf, "ingress")
	must(t, n.Netlink().FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: veth.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:          droppingProgram(t, "lab_pod_egress").FD(), Name: "lab_pod_egress", DirectAction: true,
	}))
	if echo, err := a.Ping(b.Addr, netnstest.PingOptions{}); err == nil && echo.From == b.Addr {
		t.Error("the older program is not in charge: this says nothing about its end")
	}
	n.open()
	n.Do(func() { must(t, second(n.dp.SyncEndpoints(ctx(t)))) })
	if echo, err := a.Ping(b.Addr, netnstest.PingOptions{}); err != nil || echo.From != b.Addr {
		t.Errorf("the answer is %+v, %v", echo, err)
	}
	if got := n.Run("tc", "filter", "show", "dev", a.HostIf, "ingress"); strings.Contains(got, "lab_pod_egress") || strings.Count(got, "direct-action") != 1 {
		t.Errorf("filters are:\n%s", got)
	}
}

func droppingProgram(t *testing.T, name string) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // TC_ACT_SHOT
	})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	return prog
}

// foreignProgram is one that leaves everything to others, until the test ends.
func foreignProgram(t *testing.T) *ebpf.Program {
	t.Helper()
	netnstest.RequireRoot(t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, // TC_ACT_UNSPEC
	})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	return prog
}
