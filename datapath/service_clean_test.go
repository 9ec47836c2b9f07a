package datapath_test

import (
	"net/netip"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// What translates Services goes too, from the NICs that are not ours as well.
func TestCleanTakesServicesAlong(t *testing.T) {
	for name, test := range map[string]struct {
		with  func(*datapath.Config)
		trace string // of the programs at the NIC
	}{
		"tcx":    {func(*datapath.Config) {}, "wirelab/links/eth0_in"},
		"clsact": {(*datapath.Config).ForceClsact, "clsact"},
	} {
		t.Run(name, func(t *testing.T) {
			host := netnstest.NewNetwork(t).AddHost("node")
			const found = "1024-1030"
			host.Sysctl("net/ipv4/ip_local_reserved_ports", found)
			n := &node{Host: host, t: t, cfg: datapath.Config{
				NodeName: "node", NodeIP: host.Addr, PodCIDR: netip.MustParsePrefix("10.244.7.0/24"),
				Network: settings.Network{RoutingMode: settings.RoutingNative, KubeProxyReplacement: true, IPv4NativeRoutingCIDR: native, BPF: settings.BPF{HostLegacyRouting: true}, InstallNoConntrackIptablesRules: true}, BPFFS: host.BPFFS, CgroupRoot: netnstest.NewCgroup(t).Path,
			}}
			test.with(&n.cfg)
			n.next = n.cfg.Router()
			before := traces(host)
			n.open()
			b := n.addPod("b")
			n.balance(lb.State{Services: both(withNodePort(demo(ready(b, n))))})
			n.Do(func() { must(t, n.dp.Untracked().Apply(ctx(t), nil)) })
			n.close()
			during := traces(host)
			for _, trace := range []string{test.trace, "wirelab/links/sock_connect4", "maps/" + datapath.Layout + "/lab_services", "LAB-UNTRACKED"} {
				if !strings.Contains(during, trace) {
					t.Errorf("%q is not on the node while it is in use:\n%s", trace, during)
				}
			}
			if got := host.ReadSysctl("net/ipv4/ip_local_reserved_ports"); got != found+",49152-65535" {
				t.Errorf("reserved ports are %s", got)
			}
			n.Do(func() { must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: host.BPFFS}, logger(t))) })
			if after := traces(host); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if got := host.ReadSysctl("net/ipv4/ip_local_reserved_ports"); got != found {
				t.Errorf("reserved ports are %s, were %s", got, found)
			}
		})
	}
}

// The programs at the NIC run as filters too, in whatever mode the node is next.
func TestNodePortByClsact(t *testing.T) {
	l := newLab(t, 2, replacement, (*datapath.Config).ForceClsact)
	n, m := l.nodes[0], l.nodes[1]
	b := n.addPod("b")
	l.balance(both(withNodePort(demo(ready(b, n))))...)
	serve(b.NS)
	asks{l.outside.NS, n.Host.Addr, l.outside.Addr}.checkAt(t, nodePort)
	asks{l.outside.NS, m.Host.Addr, m.Host.Addr}.checkAt(t, nodePort)
	m.close()
	m.cfg.KubeProxyReplacement = false
	m.open()
	if left := m.Run("tc", "qdisc", "show", "dev", netnstest.NIC); strings.Contains(left, "clsact") {
		t.Errorf("the mode before has left\n%s", left)
	}
}
