package datapath_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// applyRoutes returns the skipped nodes and the node routes that are there afterwards.
func (n *node) applyRoutes(nodes ...datapath.Node) (skipped, routes []string) {
	n.t.Helper()
	n.Do(func() {
		var err error
		skipped, err = n.dp.Routes().Apply(context.Background(), nodes)
		must(n.t, err)
	})
	return skipped, n.nodeRoutes()
}

func (n *node) nodeRoutes() (routes []string) {
	n.t.Helper()
	for line := range strings.Lines(n.Run("ip", "route", "show", "proto", "87")) {
		if !strings.Contains(line, "lab_host") {
			routes = append(routes, strings.TrimSpace(line))
		}
	}
	return routes
}

func remote(name, ip string, cidrs ...string) datapath.Node {
	n := datapath.Node{Name: name, IP: netip.MustParseAddr(ip)}
	for _, c := range cidrs {
		n.PodCIDRs = append(n.PodCIDRs, netip.MustParsePrefix(c))
	}
	return n
}

func TestRoutesFollowNodes(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	self := remote("node0", n.Host.Addr.String(), n.cfg.PodCIDR.String())
	for _, step := range []struct {
		name            string
		nodes           []datapath.Node
		skipped, routes []string
	}{
		{"one more", []datapath.Node{self, remote("b", "192.0.2.51", "10.244.5.0/24")}, nil, []string{"10.244.5.0/24 via 192.0.2.51 dev eth0"}},
		{"the same", []datapath.Node{self, remote("b", "192.0.2.51", "10.244.5.0/24")}, nil, []string{"10.244.5.0/24 via 192.0.2.51 dev eth0"}},
		{"another address", []datapath.Node{self, remote("b", "192.0.2.52", "10.244.5.0/24")}, nil, []string{"10.244.5.0/24 via 192.0.2.52 dev eth0"}},
		{"two CIDRs", []datapath.Node{remote("b", "192.0.2.52", "10.244.6.0/24", "10.244.5.0/24")}, nil,
			[]string{"10.244.5.0/24 via 192.0.2.52 dev eth0", "10.244.6.0/24 via 192.0.2.52 dev eth0"}},
		{"behind a router", []datapath.Node{remote("z", "203.0.113.1", "10.244.7.0/24"), remote("far", "203.0.113.2", "10.244.8.0/24"), remote("b", "192.0.2.52", "10.244.5.0/24")},
			[]string{"far", "z"}, []string{"10.244.5.0/24 via 192.0.2.52 dev eth0"}},
		{"without a CIDR yet", []datapath.Node{remote("b", "192.0.2.52")}, nil, nil},
		{"none", nil, nil, nil},
	} {
		skipped, routes := n.applyRoutes(step.nodes...)
		if !slices.Equal(skipped, step.skipped) || !slices.Equal(routes, step.routes) {
			t.Errorf("%s: skipped %v and have %v, want %v and %v", step.name, skipped, routes, step.skipped, step.routes)
		}
	}
}

func TestRoutesOfOthersStay(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	n.Run("ip", "route", "add", "10.244.5.0/24", "via", "192.0.2.200", "proto", "static")
	b := remote("b", "192.0.2.51", "10.244.5.0/24")
	c := remote("c", "192.0.2.52", "10.244.6.0/24")
	n.Do(func() {
		_, err := n.dp.Routes().Apply(context.Background(), []datapath.Node{b, c})
		if err == nil || !strings.Contains(err.Error(), "10.244.5.0/24") {
			t.Errorf("a route in the way is not reported: %v", err)
		}
	})
	if routes := n.nodeRoutes(); !slices.Equal(routes, []string{"10.244.6.0/24 via 192.0.2.52 dev eth0"}) {
		t.Errorf("have %v; the other node's route is not there", routes)
	}
	n.Do(func() { _, err := n.dp.Routes().Apply(context.Background(), nil); must(t, err) })
	if out := n.Run("ip", "route", "show", "10.244.5.0/24"); !strings.Contains(out, "192.0.2.200") {
		t.Error("somebody else's route is gone")
	}
	if routes := n.nodeRoutes(); routes != nil {
		t.Errorf("have %v when there are no nodes", routes)
	}
}

func TestNoDirectNodeRoutes(t *testing.T) {
	n := newLab(t, 1, func(c *datapath.Config) { c.AutoDirectNodeRoutes = false }).nodes[0]
	if _, routes := n.applyRoutes(remote("b", "192.0.2.51", "10.244.5.0/24")); routes != nil {
		t.Errorf("have %v, want none", routes)
	}
}

// applyChains applies masquerading and one host port.
func (n *node) applyChains() {
	n.t.Helper()
	n.Do(func() {
		nodes := []datapath.Node{remote("b", "192.0.2.51"), remote("node0", n.Host.Addr.String())}
		must(n.t, n.dp.Masquerade().Apply(context.Background(), nodes))
		must(n.t, n.dp.HostPorts().Apply(context.Background(), []lb.HostPort{
			{Proto: "tcp", Port: 8080, Backend: netip.MustParseAddrPort("10.244.0.2:80")},
			{Proto: "udp", Port: 53, HostIP: n.Host.Addr, Backend: netip.MustParseAddrPort("10.244.0.2:53")},
		}))
	})
}

func TestChainsAreMended(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	n.applyChains()
	want := rules(n.NS)
	for _, part := range []string{"-d 192.0.2.51/32", "-s 10.244.0.0/24 ! -d 10.0.0.0/8 ! -o lab_+", "--random-fully", "--to-destination 10.244.0.2:80"} {
		if !strings.Contains(want, part) {
			t.Fatalf("%q is not in the rules:\n%s", part, want)
		}
	}
	for _, damage := range []string{
		"-F LAB-MASQUERADE",
		"-D LAB-MASQUERADE 1",
		"-I LAB-MASQUERADE -j RETURN",
		"-A POSTROUTING -j LAB-MASQUERADE",
		"-F LAB-HOSTPORT",
		"-F LAB-HOSTPORT-SNAT",
		"-R LAB-HOSTPORT 1 -p tcp --dport 8080 -j DNAT --to-destination 10.244.0.3:80",
	} {
		n.Run(append([]string{"iptables", "-t", "nat"}, strings.Fields(damage)...)...)
		if rules(n.NS) == want {
			t.Fatalf("%s changed nothing", damage)
		}
		n.applyChains()
		if got := rules(n.NS); got != want {
			t.Errorf("after %s:\n%s\nwant:\n%s", damage, got, want)
		}
	}
}

// A rewritten chain has lost its counters: nothing may be written when nothing differs.
func TestChainsAreWrittenOnDifferenceOnly(t *testing.T) {
	l := newLab(t, 1)
	n := l.nodes[0]
	p := n.addPod("p")
	n.applyChains()
	must(t, second(p.Ping(l.outside.Addr, netnstest.PingOptions{})))
	counters := func() (lines []string) {
		for line := range strings.Lines(n.Run("iptables-save", "-c", "-t", "nat")) {
			if strings.Contains(line, "MASQUERADE --random-fully") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	before := counters()
	if len(before) != 1 || strings.HasPrefix(before[0], "[0:0]") {
		t.Fatalf("the rule has not counted: %v", before)
	}
	n.applyChains()
	if after := counters(); !slices.Equal(after, before) {
		t.Errorf("the chain was written again: %v, was %v", after, before)
	}
}

func TestChainsOfOthersStay(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	n.Run("iptables", "-t", "nat", "-N", "OTHER")
	n.Run("iptables", "-t", "nat", "-A", "OTHER", "-s", "203.0.113.0/24", "-j", "ACCEPT")
	n.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "OTHER")
	n.applyChains()
	n.Do(func() {
		must(t, n.dp.RemoveChains(context.Background()))
	})
	want := ":OTHER - [0:0]\n-A POSTROUTING -j OTHER\n-A OTHER -s 203.0.113.0/24 -j ACCEPT\n"
	if got := rules(n.NS); got != want {
		t.Errorf("left:\n%swant:\n%s", got, want)
	}
}

func TestMasqueradeOff(t *testing.T) {
	l := newLab(t, 1)
	n := l.nodes[0]
	n.applyChains()
	n.close()
	n.cfg.EnableIPv4Masquerade = false
	n.open()
	n.applyChains()
	if got := rules(n.NS); strings.Contains(got, "LAB-MASQUERADE") {
		t.Errorf("the chain is still there:\n%s", got)
	}
}

// In a pod the node's iptables are run from where its root is mounted.
func TestIPTablesBelowHostRoot(t *testing.T) {
	netnstest.RequireRoot(t)
	root, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	must(t, err)
	t.Cleanup(func() { unix.Close(root) })
	n := newLab(t, 1, func(c *datapath.Config) { c.HostRoot = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), root) }).nodes[0]
	n.applyChains()
	if got := rules(n.NS); !strings.Contains(got, "LAB-MASQUERADE") || !strings.Contains(got, "LAB-HOSTPORT") {
		t.Errorf("the chains are not there:\n%s", got)
	}
	n.Do(func() {
		n.dp.Close()
		empty := n.cfg
		empty.HostRoot = t.TempDir()
		n.dp, err = datapath.Open(ctx(t), empty, logger(t))
		must(t, err)
		if err := n.dp.Masquerade().Apply(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "install iptables") {
			t.Errorf("without iptables on the node: %v", err)
		}
	})
}

// Faults on a running node are mended by applying again, without a restart.
func TestPlantedFaults(t *testing.T) {
	l := newLab(t, 2)
	n := l.nodes[0]
	a, c := n.addPod("a"), l.nodes[1].addPod("c")
	for name, plant := range map[string]func(){
		"lab_host deleted":        func() { n.Run("ip", "link", "del", "lab_host") },
		"lab_host down":           func() { n.Run("ip", "link", "set", "lab_host", "down") },
		"router's address gone":   func() { n.Run("ip", "addr", "flush", "dev", "lab_host") },
		"pod CIDR's route gone":   func() { n.Run("ip", "route", "del", "10.244.0.0/24") },
		"program gone":            func() { must(t, os.Remove(filepath.Join(n.BPFFS, "wirelab/links/lab_host"))) },
		"node route gone":         func() { n.Run("ip", "route", "del", "10.244.1.0/24") },
		"forwarding off":          func() { n.Sysctl("net/ipv4/ip_forward", "0") },
		"strict source filtering": func() { n.Sysctl("net/ipv4/conf/all/rp_filter", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			reach := func(wait time.Duration) error {
				return second(a.Ping(c.Addr, netnstest.PingOptions{Timeout: wait}))
			}
			must(t, reach(netnstest.ProbeTimeout))
			plant()
			if name != "router's address gone" && name != "program gone" && reach(netnstest.NoAnswer) == nil {
				t.Error("the fault has no effect")
			}
			n.Do(func() {
				must(t, n.dp.Sysctls().Apply(context.Background()))
				must(t, n.dp.Devices().Apply(context.Background()))
				must(t, second(n.dp.Routes().Apply(context.Background(), l.desired())))
			})
			must(t, reach(netnstest.ProbeTimeout))
		})
	}
}
