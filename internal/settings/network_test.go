package settings

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// native is a network that is right as it stands.
func native(change func(*Network)) Network {
	n := Default()
	n.IPv4NativeRoutingCIDR = netip.MustParsePrefix("10.0.0.0/8")
	if change != nil {
		change(&n)
	}
	return n
}

func TestDefault(t *testing.T) {
	want := Network{
		RoutingMode: "tunnel", TunnelProtocol: "vxlan", EnableIPv4Masquerade: true, BPF: BPF{MonitorAggregation: "maximum", MonitorPayload: 128, CTMax: 65536},
		InstallNoConntrackIptablesRules: true, IPAM: IPAM{Mode: "kubernetes", Operator: IPAMOperator{ClusterPoolIPv4PodCIDRList: []string{"10.0.0.0/12"}, ClusterPoolIPv4MaskSize: 24}}, Devices: []string{}, Labels: Labels{Include: []string{}, Exclude: []string{}}, Flows: Flows{Capacity: 4096, Metrics: []string{}, Relay: Relay{AgentPort: 4244}},
	}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRoles(t *testing.T) {
	replaced := func(more func(*Network)) func(*Network) {
		return func(n *Network) {
			n.KubeProxyReplacement = true
			if more != nil {
				more(n)
			}
		}
	}
	const needsReplacement, needsBPF, off = "needs kube-proxy replacement", "needs BPF masquerade", "switched off by bpf.hostLegacyRouting"
	for name, tc := range map[string]struct {
		change func(*Network)
		mode   Mode
		want   Roles
	}{
		"kube-proxy": {nil, ModeKubeProxy, Roles{Masquerade: MasqueradeIPTables, Routing: RoutingLegacy, Legacy: []string{needsReplacement, needsBPF}}},
		"kube-proxy, no masquerade": {
			func(n *Network) { n.EnableIPv4Masquerade = false }, ModeKubeProxy,
			Roles{Masquerade: MasqueradeNone, Routing: RoutingLegacy, Legacy: []string{needsReplacement}},
		},
		"iptables": {
			replaced(nil), ModeKubeProxyReplacement,
			Roles{KubeProxyReplacement: true, Masquerade: MasqueradeIPTables, Routing: RoutingLegacy, Untracked: true, Legacy: []string{needsBPF}},
		},
		"tracked": {
			replaced(func(n *Network) { n.InstallNoConntrackIptablesRules = false }), ModeKubeProxyReplacement,
			Roles{KubeProxyReplacement: true, Masquerade: MasqueradeIPTables, Routing: RoutingLegacy, Legacy: []string{needsBPF}},
		},
		"BPF": {
			replaced(func(n *Network) { n.BPF.Masquerade = true }), ModeEBPF,
			Roles{KubeProxyReplacement: true, Masquerade: MasqueradeBPF, Routing: RoutingBPF},
		},
		"no masquerade": {
			replaced(func(n *Network) { n.EnableIPv4Masquerade = false }), ModeEBPF,
			Roles{KubeProxyReplacement: true, Masquerade: MasqueradeNone, Routing: RoutingBPF},
		},
		"switched off": {
			replaced(func(n *Network) { n.BPF.Masquerade, n.BPF.HostLegacyRouting = true, true }), ModeKubeProxyReplacement,
			Roles{KubeProxyReplacement: true, Masquerade: MasqueradeBPF, Routing: RoutingLegacy, Untracked: true, Legacy: []string{off}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := native(tc.change).Roles()
			if !reflect.DeepEqual(got, tc.want) || got.Mode() != tc.mode {
				t.Errorf("got %+v, %s; want %+v, %s", got, got.Mode(), tc.want, tc.mode)
			}
		})
	}
}

// All sixteen: what is missing has its own sentence, always in the same order.
func TestRouting(t *testing.T) {
	const (
		helpers     = "the kernel lacks bpf_redirect_peer, bpf_redirect_neigh"
		replacement = "needs kube-proxy replacement"
		masquerade  = "needs BPF masquerade"
		switchedOff = "switched off by bpf.hostLegacyRouting"
	)
	missing := []string{"bpf_redirect_peer", "bpf_redirect_neigh"}
	for _, test := range []struct {
		missing                            []string
		replacement, iptables, switchedOff bool

		asked   Routing
		reasons []string
	}{
		{nil, true, false, false, RoutingBPF, nil},
		{nil, true, false, true, RoutingLegacy, []string{switchedOff}},
		{nil, true, true, false, RoutingLegacy, []string{masquerade}},
		{nil, true, true, true, RoutingLegacy, []string{masquerade, switchedOff}},
		{nil, false, false, false, RoutingLegacy, []string{replacement}},
		{nil, false, false, true, RoutingLegacy, []string{replacement, switchedOff}},
		{nil, false, true, false, RoutingLegacy, []string{replacement, masquerade}},
		{nil, false, true, true, RoutingLegacy, []string{replacement, masquerade, switchedOff}},
		{missing, true, false, false, RoutingBPF, []string{helpers}},
		{missing, true, false, true, RoutingLegacy, []string{helpers, switchedOff}},
		{missing, true, true, false, RoutingLegacy, []string{helpers, masquerade}},
		{missing, true, true, true, RoutingLegacy, []string{helpers, masquerade, switchedOff}},
		{missing, false, false, false, RoutingLegacy, []string{helpers, replacement}},
		{missing, false, false, true, RoutingLegacy, []string{helpers, replacement, switchedOff}},
		{missing, false, true, false, RoutingLegacy, []string{helpers, replacement, masquerade}},
		{missing, false, true, true, RoutingLegacy, []string{helpers, replacement, masquerade, switchedOff}},
	} {
		n := native(func(n *Network) {
			n.KubeProxyReplacement, n.EnableIPv4Masquerade, n.BPF.HostLegacyRouting = test.replacement, test.iptables, test.switchedOff
		})
		got := n.Roles(test.missing...)
		if (got.Routing == RoutingBPF) != (test.reasons == nil) || !slices.Equal(got.Legacy, test.reasons) || n.Roles().Routing != test.asked {
			t.Errorf("%+v: %s, asked for %s, for %q", test, got.Routing, n.Roles().Routing, got.Legacy)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := native(nil).Validate(""); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*Network)
		at     string
		want   []string // keys, and the start of what is said
	}{
		"words": {
			func(n *Network) {
				n.RoutingMode, n.IPAM.Mode, n.BPF.MonitorAggregation, n.Debug.Verbose = "overlay", "pool", "some", "all"
			}, "",
			[]string{"routingMode: ", "bpf.monitorAggregation: ", "ipam.mode: ", "debug.verbose: "},
		},
		"numbers": {
			func(n *Network) { n.MTU, n.BPF.CTMax = 100, 100 }, "",
			[]string{"bpf.ctMax: 100 is out of range; allowed: 4096 to 4194304", "mtu: 100 is out of range; allowed: 0, 576 to 65535"},
		},
		"another family": {
			func(n *Network) { n.IPv4NativeRoutingCIDR = netip.MustParsePrefix("fd00::/8") }, "",
			[]string{"ipv4NativeRoutingCIDR: fd00::/8 is not IPv4"},
		},
		"masquerade without a CIDR": {
			func(n *Network) { n.IPv4NativeRoutingCIDR = netip.Prefix{} }, "",
			[]string{"enableIPv4Masquerade needs ipv4NativeRoutingCIDR,"},
		},
		"masquerade of nothing": {
			func(n *Network) { n.IPv4NativeRoutingCIDR = netip.MustParsePrefix("0.0.0.0/0") }, "",
			[]string{"ipv4NativeRoutingCIDR 0.0.0.0/0 covers every address"},
		},
		"no masquerade, no CIDR": {
			func(n *Network) { n.EnableIPv4Masquerade, n.IPv4NativeRoutingCIDR = false, netip.Prefix{} }, "", nil,
		},
		"masquerade in BPF beside kube-proxy": {
			func(n *Network) { n.BPF.Masquerade = true }, "network",
			[]string{"network.bpf.masquerade needs network.kubeProxyReplacement:"},
		},
		"devices": {
			func(n *Network) { n.Devices = []string{"eth0", "lo", "eth0", "a/b", "lab_host"} }, "network",
			[]string{"network.devices[1]: lo does not", "network.devices[2]: eth0 is listed twice", `network.devices[3]: "a/b" is not`, "network.devices[4]: lab_host does not"},
		},
		"flow metrics": {
			func(n *Network) { n.Flows.Metrics = []string{"drop", "dns", "http", "drops", "drop"} }, "network",
			[]string{
				`network.flows.metrics[1]: "dns" needs events of layer 7,`, `network.flows.metrics[2]: "http" needs events of layer 7,`,
				`network.flows.metrics[3]: "drops" is not offered; allowed: drop, tcp, flow, port-distribution, icmp`, "network.flows.metrics[4]: drop is listed twice",
			},
		},
		"metrics of no flows": {
			func(n *Network) { n.Flows.Capacity, n.Flows.Metrics = 0, []string{"drop"} }, "network",
			[]string{"network.flows.metrics needs network.flows.capacity: with 0"},
		},
		"neither flows nor metrics": {func(n *Network) { n.Flows.Capacity = 0 }, "", nil},
		"all at once": {
			func(n *Network) { n.MTU, n.BPF.Masquerade, n.Devices = 1, true, []string{"lo"} }, "",
			[]string{"mtu: ", "bpf.masquerade needs", "devices[0]: "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := native(tc.change).Validate(tc.at)
			var got []string
			if err != nil {
				for _, part := range err.(interface{ Unwrap() []error }).Unwrap() {
					got = append(got, part.Error())
				}
			}
			if !slices.EqualFunc(got, tc.want, strings.HasPrefix) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestFaultsSayWhichKeyIsAtFault: the first, unless the second was set against it.
func TestFaultsSayWhichKeyIsAtFault(t *testing.T) {
	n := native(func(n *Network) { n.BPF.Masquerade, n.IPv4NativeRoutingCIDR = true, netip.Prefix{} })
	var got [][]string
	for _, part := range n.Validate("network").(interface{ Unwrap() []error }).Unwrap() {
		var f *Fault
		if !errors.As(part, &f) {
			t.Fatalf("%v is no fault", part)
		}
		got = append(got, f.Keys)
	}
	want := [][]string{
		{"network.ipv4NativeRoutingCIDR", "network.enableIPv4Masquerade"},
		{"network.bpf.masquerade", "network.kubeProxyReplacement"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNeedsAreAboutKeys holds the rules against the keys that there are.
func TestNeedsAreAboutKeys(t *testing.T) {
	for _, r := range Needs("") {
		for _, key := range []string{r.Key, r.Needs, r.blames} {
			if _, _, ok := Keys().Find(key); !ok || !strings.Contains(r.Message, key) {
				t.Errorf("the rule %q does not name %s, or there is no such key", r.Message, key)
			}
		}
		if strings.ContainsAny(r.Message, "{}") {
			t.Errorf("%q has braces left", r.Message)
		}
	}
}

func TestValues(t *testing.T) {
	n := native(func(n *Network) { n.Devices, n.MTU = []string{"eth0"}, 1400 })
	got := n.Values()
	for key, want := range map[string]any{
		"MTU": 1400, "ipv4NativeRoutingCIDR": "10.0.0.0/8", "kubeProxyReplacement": false, "devices": []any{"eth0"},
		"debug": map[string]any{"enabled": false, "verbose": ""},
	} {
		if !reflect.DeepEqual(got[key], want) {
			t.Errorf("%s is %#v, want %#v", key, got[key], want)
		}
	}
}

// TestTake: what a network's values say is read back, and what is none of a setting's values changes nothing.
func TestTake(t *testing.T) {
	n := native(func(n *Network) {
		n.Devices, n.MTU, n.KubeProxyReplacement = []string{"eth0", "eth1"}, 1400, true
		n.IPAM.Operator.ClusterPoolIPv4MaskSize = 26
	})
	raw, err := yaml.Marshal(n.Values())
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(raw, &values); err != nil {
		t.Fatal(err)
	}
	got := Default()
	got.Take(values)
	if !reflect.DeepEqual(got, n) {
		t.Errorf("got %+v, want %+v", got, n)
	}
	got.Take(map[string]any{"MTU": "large", "ipam": 1, "devices": "eth2", "routingMode": map[string]any{"native": true}, "unknown": []any{1}})
	if !reflect.DeepEqual(got, n) {
		t.Errorf("by what it cannot be it became %+v", got)
	}
}
