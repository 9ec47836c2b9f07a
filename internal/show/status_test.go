package show

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func node() api.Status {
	return api.Status{
		Version: "v1", Kernel: "6.18.1", Node: "worker", Cluster: "a", Started: now.Add(-90 * time.Minute), Ready: true,
		Kubernetes: api.Kubernetes{Server: "https://cp:6443", Version: "v1.37.0", Reachable: true, Nodes: 2, APIs: []string{"core/v1 Node", "core/v1 Pod"}},
		Datapath: &api.Datapath{
			Mode: "kubeproxy-replacement", AttachMode: "tcx", MTU: 1500, MonitorAggregation: "none", Monitor: api.Monitor{CPUs: 2, RingBytes: 2 << 20, Listeners: 1, Lost: 5},
			Devices:      []api.Device{{Name: "eth0", Index: 2, MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("172.18.0.3/16")}}, {Name: "lab_host", Index: 3}},
			Routing:      api.Routing{Network: "native", Host: "Legacy", Reason: "needs BPF masquerade", Routes: []api.NodeRoute{{PodCIDR: netip.MustParsePrefix("10.0.2.0/24")}}},
			Masquerading: api.Masquerading{Enabled: true, Kind: "iptables", Backend: "nf_tables", NativeCIDR: netip.MustParsePrefix("10.0.0.0/8")},
			Untracked:    true,
			Maps:         []api.Map{{Name: "lab_ct", Entries: 700, MaxEntries: 1000}, {Name: "lab_endpoints", Entries: 3, MaxEntries: 10}, {Name: "lab_nat", Entries: 701, MaxEntries: 1000}},
			Services: &api.Services{
				Sockets: []string{"connect4", "sendmsg4"}, Cgroup: 1, Devices: []string{"eth0"}, NodePorts: "30080-32000", NATPorts: "49152-65535",
				Services: 4, Affinity: 1, Frontends: map[string]int{"NodePort": 4, "ClusterIP": 3, "HostPort": 0}, Backends: 7,
			},
		},
		IPAM:            &api.IPAM{Mode: "kubernetes", CIDR: netip.MustParsePrefix("10.0.1.0/24"), Used: 3, Capacity: 253},
		NetworkPolicies: new(1),
		Endpoints:       2,
		CNI:             api.CNI{Serving: true, Written: true, Config: "/etc/cni/net.d/05-wirelab.conflist"},
		Reconcilers:     []api.Reconciler{{Name: "routes", Healthy: true}, {Name: "services"}},
		ClusterHealth: &api.ClusterHealth{Endpoint: netip.MustParseAddr("10.0.1.9"), Reachable: 1, Partly: 1, ICMP: 2, TCP: 1, Nodes: []api.NodeHealth{
			{Name: "cp", Addr: netip.MustParseAddr("172.18.0.2"), Endpoint: netip.MustParseAddr("10.0.0.9"), ProbedAt: now, Since: now.Add(-time.Minute),
				Failing: "node cp is partly reached: its health endpoint 10.0.0.9 by icmp, not by tcp (connection refused)",
				Probes: []api.Probe{
					{Target: "node", Protocol: "icmp", Latency: 120 * time.Microsecond}, {Target: "node", Protocol: "tcp", Latency: 1250 * time.Microsecond},
					{Target: "endpoint", Protocol: "icmp", Latency: 2 * time.Second}, {Target: "endpoint", Protocol: "tcp", Error: "connection refused"},
				}},
			{Name: "new"},
			{Name: "worker", Self: true, Reached: api.Reached, ProbedAt: now, Addr: netip.MustParseAddr("172.18.0.3"), Probes: []api.Probe{{Target: "node", Protocol: "icmp", Latency: time.Microsecond}}},
		}},
	}
}

func TestStatus(t *testing.T) {
	want := `Node:                  worker, cluster a
Ready:                 yes
Versions:              agent v1, up 1h30m, kernel 6.18.1
Kubernetes:            Ok, v1.37.0 at https://cp:6443, 2 nodes
KubeProxyReplacement:  True [eth0 172.18.0.3]
Datapath:              kubeproxy-replacement, attached by tcx, MTU 1500
Routing:               native, 1 route to other nodes
Host Routing:          Legacy (needs BPF masquerade)
Masquerading:          IPTables (nf_tables) 10.0.0.0/8
Services:              4 ports, 7 frontends (3 ClusterIP, 4 NodePort), 7 backends
Flows:                 lab_ct 700 of 1000 (70%), lab_nat 701 of 1000 (70%); between pods untracked by the kernel
Host Ports:            0
NodeMonitor:           aggregation none, 2 CPUs, ring of 2048 KiB, 1 listener, 5 events lost
Flow Buffer:           off
NetworkPolicies:       1 NetworkPolicy is NOT enforced
IPAM:                  3/253 allocated from 10.0.1.0/24 (kubernetes)
Endpoints:             2
CNI:                   serving, /etc/cni/net.d/05-wirelab.conflist
Reconcilers:           1/2 healthy; services: has not run yet
Cluster Health:        1/3 reachable (icmp 2/3, tcp 1/3) from 10.0.1.9, 1 not probed yet; node cp is partly reached: its health endpoint 10.0.0.9 by icmp, not by tcp (connection refused)
`
	if got := Status(node(), now).String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDetails(t *testing.T) {
	var b strings.Builder
	for _, block := range Details(node(), now) {
		b.WriteString(block.String())
	}
	for _, part := range []string{`KubeProxyReplacement:
  Socket LB:         connect4 sendmsg4, at cgroup 1
  Devices:           [eth0 172.18.0.3]
  NodePorts:         30080-32000 in use
  NAT Ports:         49152-65535, for clients outside of backends on other nodes
  Session Affinity:  1 of 4 Service ports
  Frontends:         7 frontends (3 ClusterIP, 4 NodePort)
  Backends:          7
`, `Known:
  KVStore:           Disabled (not implemented)
  Kubernetes APIs:   core/v1 Node, core/v1 Pod
  CNI Chaining:      none
  Flow Metrics:      Disabled
  Host Firewall:     Disabled (not implemented)
`, `  Encryption:        Disabled (not implemented)
`, `Cluster Health:
  cp:      node 172.18.0.2 icmp 120µs, tcp 1.2ms; endpoint 10.0.0.9 icmp 2.0s, tcp FAILED, failing for 1m
  new:     not probed yet
  worker:  node 172.18.0.3 icmp 1µs (this node)
`, `Devices:
  eth0:      index 2, MTU 1500, up 172.18.0.3/16
  lab_host:  index 3, MTU 0, down
`} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("no\n%s\nin\n%s", part, b.String())
		}
	}
	if strings.Contains(b.String(), "Programs:") {
		t.Errorf("a title of nothing in\n%s", b.String())
	}
}

func TestLeftOut(t *testing.T) {
	var all []api.LeftOut
	for i := range 8 {
		all = append(all, api.LeftOut{Kind: "Service", Namespace: "ns", Name: string(rune('a' + i)), Reason: "NotCarried", Message: "port 9/SCTP is not carried: only TCP and UDP are"})
	}
	s := node()
	s.LeftOut = all
	got := Status(s, now).String()
	for part, want := range map[string]bool{
		"Left Out:              Service ns/a: port 9/SCTP is not carried: only TCP and UDP are (NotCarried)\n": true,
		"Service ns/e: ": true, "Service ns/f: ": false, "and 3 more: status -o json has them all\n": true,
	} {
		if strings.Contains(got, part) != want {
			t.Errorf("%q in\n%s: want %t", part, got, want)
		}
	}
	if few := LeftOut(all[:6]); len(few) != 6 {
		t.Errorf("six are shown as %q", few)
	}
}

func TestStatusOfAnAgentThatHasJustStarted(t *testing.T) {
	got := Status(api.Status{Version: "v1", Started: now, Node: "worker", NotReady: []string{"opening the datapath"}, Kubernetes: api.Kubernetes{Server: "s", Error: "refused"}}, now).String()
	for _, part := range []string{"no: opening the datapath", "unreachable at s: refused", "0/0 healthy", "no configuration written"} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in\n%s", part, got)
		}
	}
}

func TestWordsForTheDatapath(t *testing.T) {
	devices := []api.Device{{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("172.18.0.3/16")}}, {Name: "eth1"}}
	for _, tt := range []struct{ got, want string }{
		{KubeProxyReplacement(&api.Datapath{}), "False"},
		{KubeProxyReplacement(&api.Datapath{Services: &api.Services{}}), "True, on no device"},
		{KubeProxyReplacement(&api.Datapath{Devices: devices, Services: &api.Services{Devices: []string{"eth0", "eth1"}}}), "True [eth0 172.18.0.3, eth1]"},
		{Masquerading(api.Masquerading{}), "Disabled"},
		{Masquerading(api.Masquerading{Enabled: true, Kind: "BPF", Devices: []string{"eth0", "eth1"}, NativeCIDR: netip.MustParsePrefix("10.0.0.0/8")}), "BPF [eth0, eth1] 10.0.0.0/8"},
		{HostRouting(api.Routing{Host: "BPF", Requested: "BPF"}), "BPF"},
		{HostRouting(api.Routing{Host: "Legacy", Requested: "BPF", Reason: "the kernel lacks bpf_redirect_peer"}), "Legacy, not BPF as asked for (the kernel lacks bpf_redirect_peer)"},
		{Routing(api.Routing{Network: "tunnel", Host: "BPF", Tunnel: &api.Tunnel{Protocol: "vxlan", Port: 8472, Device: "lab_vxlan", MTU: 1450}, Routes: make([]api.NodeRoute, 2)}), "Tunnel [vxlan, port 8472] host: BPF, to 2 pod CIDRs, MTU 1450"},
		{Routing(api.Routing{Network: "native", Skipped: []string{"far"}}), "native, 0 routes to other nodes, none to far"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
