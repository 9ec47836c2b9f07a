package datapath_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
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
	untracked := func(c *datapath.Config) { c.InstallNoConntrackIptablesRules = true }
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
			n.Do(func() { must(t, n.dp.RemoveChains(context.Background())) })
			if rules := n.Run("iptables-save", "-t", "raw"); strings.Contains(rules, "LAB-") {
				t.Errorf("after they were removed there is\n%s", rules)
			}
		})
	}
}

// A node's firewall that lets answers pass by their connection's state is found, whichever tool made it, and one that
// does so works when pods' traffic is tracked.
func TestStatefulFirewall(t *testing.T) {
	for tool, fw := range map[string]struct {
		// accept lets packets pass by their connections' state, drop takes the others.
		accept, drop [][]string
		want         string
	}{
		"iptables": {
			accept: [][]string{
				{"iptables", "-N", "FIREWALL"},
				{"iptables", "-A", "FORWARD", "-j", "FIREWALL"},
				{"iptables", "-A", "FIREWALL", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"},
				{"iptables", "-A", "FIREWALL", "-s", "CIDR", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT"},
			},
			drop: [][]string{{"iptables", "-A", "FORWARD", "-j", "DROP"}},
			want: "-A FIREWALL -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		},
		"nft": {
			accept: [][]string{
				{"nft", "add table inet fw; add chain inet fw forward { type filter hook forward priority 0; }"},
				{"nft", "add rule inet fw forward ct state established,related accept"},
				{"nft", "add rule inet fw forward ip saddr CIDR ct state new accept"},
			},
			drop: [][]string{{"nft", "add rule inet fw forward counter drop"}},
			want: "nft inet fw forward: ct state established,related accept",
		},
		"nft with conditions after the state": {
			accept: [][]string{
				{"nft", "add table inet fw; add chain inet fw forward { type filter hook forward priority 0; }"},
				{"nft", "add rule inet fw forward ct state established,related ip saddr 10.240.0.0/12 ip daddr { 10.9.0.1, 10.244.0.1-10.244.255.254 } meta mark 0 accept"},
				{"nft", "add rule inet fw forward ip saddr CIDR ct state new accept"},
			},
			drop: [][]string{{"nft", "add rule inet fw forward ct state != established ip saddr 10.240.0.0/12 meta mark 0 drop"}},
			want: "nft inet fw forward: ct state established,related accept",
		},
		"nft with a map, a chain and a policy": {
			accept: [][]string{
				{"nft", "add table inet fw; add chain inet fw states; add chain inet fw forward { type filter hook forward priority 0; }"},
				{"nft", "add rule inet fw states ct state vmap { established : accept, related : accept, invalid : drop }"},
				{"nft", "add rule inet fw forward jump states"},
				{"nft", "add rule inet fw forward ip saddr CIDR ct state new accept"},
			},
			drop: [][]string{{"nft", "add chain inet fw forward { policy drop; }"}},
			want: "nft inet fw states: ct state established accept",
		},
		"nft with a set and a rejection": {
			accept: [][]string{
				{"nft", "add table ip fw; add chain ip fw forward { type filter hook forward priority 0; }"},
				{"nft", "add rule ip fw forward ct state { established, related } accept"},
				{"nft", "add rule ip fw forward ip saddr CIDR ct state new accept"},
			},
			drop: [][]string{{"nft", "add rule ip fw forward reject"}},
			want: "nft ip fw forward: ct state established,related accept",
		},
	} {
		for _, tracked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tracked %v", tool, tracked), func(t *testing.T) {
				l := newLab(t, 2, replacement, func(c *datapath.Config) { c.InstallNoConntrackIptablesRules = !tracked })
				n, m := l.nodes[0], l.nodes[1]
				a, c := n.addPod("a"), m.addPod("c")
				serve(c.NS)
				n.Do(func() { must(t, n.dp.Untracked().Apply(context.Background(), l.desired())) })
				status := func() (s api.Datapath) {
					n.Do(func() {
						var err error
						s, err = n.dp.Status(ctx(t))
						must(t, err)
					})
					return s
				}
				run := func(commands [][]string) {
					for _, command := range commands {
						words := slices.Clone(command)
						for i := range words {
							words[i] = strings.ReplaceAll(words[i], "CIDR", n.cfg.PodCIDR.String())
						}
						n.Run(words...)
					}
				}
				if got := status(); got.Untracked == tracked || len(got.StatefulFirewall) != 0 {
					t.Errorf("without a firewall: %+v", got)
				}
				asks{a.NS, c.Addr, a.Addr}.check(t)
				run(fw.accept)
				if got := status(); len(got.StatefulFirewall) != 0 {
					t.Errorf("nothing is dropped: %+v", got)
				}
				run(fw.drop)
				got := status()
				if tracked {
					asks{a.NS, c.Addr, a.Addr}.check(t)
					if len(got.StatefulFirewall) != 0 {
						t.Errorf("tracked: %+v", got)
					}
					return
				}
				if _, err := a.Ask("udp4", c.at(port), []byte("x")); err == nil {
					t.Error("the firewall lets untracked packets pass: it shows nothing")
				}
				if len(got.StatefulFirewall) != 1 || got.StatefulFirewall[0] != fw.want {
					t.Errorf("got %q, want %q", got.StatefulFirewall, fw.want)
				}
			})
		}
	}
}
