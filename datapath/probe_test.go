package datapath_test

import (
	"net/netip"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// probed are networks that are unlike for a kernel.
var probed = map[string]func(*settings.Network){
	"kubeproxy":             func(*settings.Network) {},
	"kubeproxy-replacement": func(n *settings.Network) { n.KubeProxyReplacement = true },
	"ebpf":                  func(n *settings.Network) { n.KubeProxyReplacement, n.BPF.Masquerade = true, true },
	"all told":              func(n *settings.Network) { n.BPF.MonitorAggregation = settings.AggregationNone },
	"vxlan":                 func(n *settings.Network) { n.RoutingMode, n.KubeProxyReplacement = settings.RoutingTunnel, true },
	"geneve":                func(n *settings.Network) { n.RoutingMode, n.TunnelProtocol = settings.RoutingTunnel, "geneve" },
}

// A kernel that runs the programs is found fit, and nothing stays on the node; of one that does not, what it lacks is said.
func TestProbe(t *testing.T) {
	host := netnstest.NewNetwork(t).AddHost("node")
	before := traces(host)
	for name, set := range probed {
		t.Run(name, func(t *testing.T) {
			network := settings.Default()
			network.IPv4NativeRoutingCIDR = netip.MustParsePrefix("10.0.0.0/8")
			set(&network)
			var err error
			host.Do(func() { err = datapath.Probe(network) })
			lack := ""
			if !netnstest.Has(t, netnstest.Atomics) {
				lack = "boot kernel 5.14 or newer"
			} else if name == geneve.protocol && !netnstest.Has(t, geneve.needs) {
				lack = "load the module geneve"
			}
			if lack == "" {
				must(t, err)
			} else if err == nil || !strings.Contains(err.Error(), lack) {
				t.Errorf("got %v, want one that says %q", err, lack)
			}
		})
	}
	if after := traces(host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
