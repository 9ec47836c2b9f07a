package datapath_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
)

// tracked says whether the kernel tracks a flow with the address.
func (n *node) tracked(addr netip.Addr) bool {
	n.t.Helper()
	found := false
	n.Do(func() {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		must(n.t, err)
		for _, f := range flows {
			found = found || f.Forward.SrcIP.Equal(addr.AsSlice()) || f.Forward.DstIP.Equal(addr.AsSlice())
		}
	})
	return found
}

func TestTrafficBetweenPodsIsUntracked(t *testing.T) {
	untracked := func(c *datapath.Config) { c.Untracked = true }
	for name, with := range map[string][]func(*datapath.Config){"tracked": {replacement}, "untracked": {replacement, untracked}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 2, with...)
			n, m := l.nodes[0], l.nodes[1]
			a, c := n.addPod("a"), m.addPod("c")
			for _, node := range l.nodes {
				node.Do(func() {
					must(t, node.dp.Untracked().Apply(context.Background(), l.desired()))
					must(t, node.dp.Untracked().Apply(context.Background(), l.desired()))
				})
			}
			l.balance(both(demo(ready(c, m)))...)
			serve(c.NS, l.outside.NS)
			asks{a.NS, c.Addr, a.Addr}.check(t)
			asks{a.NS, clusterIP, a.Addr}.check(t)
			for _, node := range l.nodes {
				if got := node.tracked(c.Addr); got != (name == "tracked") {
					t.Errorf("%s: tracked is %v", node.cfg.NodeName, got)
				}
			}
			// What leaves the native CIDR is masqueraded, and tracked for it.
			asks{a.NS, l.outside.Addr, n.Host.Addr}.check(t)
			if !n.tracked(l.outside.Addr) {
				t.Error("masqueraded traffic is not tracked")
			}
			rules := n.Run("iptables-save", "-t", "raw")
			if got := strings.Count(rules, "-j LAB-UNTRACKED"); got != len(with)-1 {
				t.Errorf("%d rules lead to the chain:\n%s", got, rules)
			}
			n.Do(func() { must(t, n.dp.Untracked().Clean(context.Background())) })
			if rules := n.Run("iptables-save", "-t", "raw"); strings.Contains(rules, "LAB-") {
				t.Errorf("after Clean there is\n%s", rules)
			}
		})
	}
}

// A node's firewall that lets answers pass by their connection's state is found, and one that does so works
// when pods' traffic is tracked.
func TestStatefulFirewall(t *testing.T) {
	for name, tracked := range map[string]bool{"untracked": false, "tracked": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 2, replacement, func(c *datapath.Config) { c.Untracked = !tracked })
			n, m := l.nodes[0], l.nodes[1]
			a, c := n.addPod("a"), m.addPod("c")
			serve(c.NS)
			n.Do(func() { must(t, n.dp.Untracked().Apply(context.Background(), l.desired())) })
			status := func() (s datapath.UntrackedStatus) {
				n.Do(func() {
					st, err := n.dp.Status(ctx(t))
					must(t, err)
					s = st.Untracked
				})
				return s
			}
			if got := status(); got.Enabled == tracked || len(got.Firewall) != 0 {
				t.Errorf("without a firewall: %+v", got)
			}
			asks{a.NS, c.Addr, a.Addr}.check(t)
			n.Run("iptables", "-N", "FIREWALL")
			n.Run("iptables", "-A", "FORWARD", "-j", "FIREWALL")
			n.Run("iptables", "-A", "FIREWALL", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
			n.Run("iptables", "-A", "FIREWALL", "-s", n.cfg.PodCIDR.String(), "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")
			if got := status(); len(got.Firewall) != 0 {
				t.Errorf("nothing is dropped: %+v", got)
			}
			n.Run("iptables", "-A", "FORWARD", "-j", "DROP")
			got := status()
			if tracked {
				asks{a.NS, c.Addr, a.Addr}.check(t)
				if len(got.Firewall) != 0 {
					t.Errorf("tracked: %+v", got)
				}
				return
			}
			if _, err := a.Ask("udp4", c.at(port), []byte("x")); err == nil {
				t.Error("the firewall lets untracked packets pass: it shows nothing")
			}
			want := "-A FIREWALL -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
			if len(got.Firewall) != 1 || got.Firewall[0] != want {
				t.Errorf("got %q, want %q", got.Firewall, want)
			}
		})
	}
}
