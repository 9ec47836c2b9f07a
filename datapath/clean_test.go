package datapath_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// traces is everything on a node that could be ours, as text: what Clean and DeleteEndpoint have to
// bring back to what it was.
func traces(n *netnstest.Host) string {
	var b strings.Builder
	// Without the devices' states, which the kernel brings up to date when it comes round to it.
	for _, command := range []string{
		"ip -oneline addr show scope global",
		"ip route show table all",
		"ip neigh show nud permanent",
		"tc qdisc show",
	} {
		fmt.Fprintf(&b, "# %s\n%s", command, n.Run(strings.Fields(command)...))
	}
	b.WriteString("# devices\n" + devices(n.NS) + "\n")
	b.WriteString("# iptables\n" + rules(n.NS))
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/eth0/rp_filter"} {
		fmt.Fprintf(&b, "# %s=%s\n", path, n.ReadSysctl(path))
	}
	b.WriteString("# pins\n" + strings.Join(pinned(n.BPFFS), "\n"))
	return b.String()
}

// rules are the node's iptables rules and chains without counters and comments, and without tables that
// have neither: looking at a table makes it.
func rules(n *netnstest.NS) string {
	var b strings.Builder
	for line := range strings.Lines(n.Run("iptables-save")) {
		if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":") && !strings.Contains(line, "ACCEPT") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// devices are the names of a namespace's devices.
func devices(ns *netnstest.NS) string {
	var names []string
	for line := range strings.Lines(ns.Run("ip", "-oneline", "link")) {
		names = append(names, strings.Fields(line)[1])
	}
	return strings.Join(names, " ")
}

func pinned(bpffs string) []string {
	var names []string
	filepath.WalkDir(bpffs+"/", func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			names = append(names, strings.TrimPrefix(path, bpffs+"/"))
		}
		return nil
	})
	return names
}

func TestCleanLeavesNothing(t *testing.T) {
	network := netnstest.NewNetwork(t)
	l := &lab{t: t, net: network}
	probe := network.AddHost("before")
	probe.Sysctl("net/ipv4/conf/all/rp_filter", "1")
	probe.Sysctl("net/ipv4/ip_forward", "0")
	n := &node{Host: probe, t: t, cfg: datapath.Config{
		NodeName: "node", NodeIP: probe.Addr, PodCIDR: netip.MustParsePrefix("10.244.7.0/24"),
		Network: settings.Network{RoutingMode: settings.RoutingNative, IPv4NativeRoutingCIDR: native, EnableIPv4Masquerade: true, AutoDirectNodeRoutes: true}, BPFFS: probe.BPFFS,
	}}
	n.next = n.cfg.Router()
	before := traces(probe)
	n.open()
	l.nodes = []*node{n, {Host: probe, t: t, dp: n.dp, cfg: datapath.Config{NodeName: "other", NodeIP: netip.MustParseAddr("192.0.2.77"), PodCIDR: netip.MustParsePrefix("10.244.8.0/24")}}}
	n.Do(func() {
		must(t, second(n.dp.Routes().Apply(context.Background(), l.desired())))
		must(t, n.dp.Masquerade().Apply(context.Background(), l.desired()))
		must(t, n.dp.HostPorts().Apply(context.Background(), []lb.HostPort{{Proto: "tcp", Port: 80, Backend: netip.MustParseAddrPort("10.244.7.2:80")}}))
	})
	p := n.addPod("p")
	n.close()

	// The positive control: all of it is there, and seen.
	during := traces(probe)
	for _, trace := range []string{
		p.HostIf, "lab_host", "lab_net", "10.244.7.1", "10.244.7.0/24 via", "10.244.8.0/24 via", "proto 87",
		"LAB-MASQUERADE", "LAB-HOSTPORT", "LAB-HOSTPORT-SNAT", "ip_forward=1", "all/rp_filter=0",
		"wirelab/links/lab_host", "wirelab/links/" + p.HostIf, "wirelab/maps/" + datapath.Layout + "/lab_endpoints", "wirelab/maps/lab_sysctls",
	} {
		if !strings.Contains(during, trace) {
			t.Errorf("%q is not on the node while it is in use:\n%s", trace, during)
		}
	}
	for range 2 { // cleaning a clean node does nothing
		n.Do(func() {
			must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: probe.BPFFS}, logger(t)))
		})
		if after := traces(probe); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}

func second[T any](_ T, err error) error { return err }
