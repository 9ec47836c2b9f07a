package profiles

import (
	"fmt"
	"strings"
	"testing"
)

// problem is what a test expects of one Problem: its line in the file, its key, a part
// of its message and the nearest key.
type problem struct {
	line               int
	key, part, nearest string
}

// expect compares the problems of err, in order, with what a test wants.
func expect(t *testing.T, err error, want ...problem) {
	t.Helper()
	found := Problems(err)
	for i := range max(len(found), len(want)) {
		switch {
		case i >= len(found):
			t.Errorf("missing problem: %+v", want[i])
		case i >= len(want):
			t.Errorf("unexpected problem: %v", found[i])
		default:
			got, w := found[i], want[i]
			if got.Line != w.line || got.Key != w.key || got.Nearest != w.nearest || !strings.Contains(got.Message, w.part) {
				t.Errorf("got  line %d, key %q, nearest %q: %s\nwant line %d, key %q, nearest %q: …%s…",
					got.Line, got.Key, got.Nearest, got.Message, w.line, w.key, w.nearest, w.part)
			}
		}
	}
}

func TestBadKeys(t *testing.T) {
	// Lines count from the line after head.
	tests := []struct {
		name, body string
		want       []problem
	}{
		{"that names the base", "extend: kubeproxy\n", []problem{{1, "extend", "unknown key", "extends"}}},
		{"at the top", "netwrok: {}\n", []problem{{1, "netwrok", "unknown key", "network"}}},
		{"one deep", "network:\n  mut: 1400\n", []problem{{2, "network.mut", "unknown key", "network.mtu"}}},
		{"case matters", "network:\n  MTU: 1400\n", []problem{{2, "network.MTU", "unknown key", "network.mtu"}}},
		{"dashes for humps", "network:\n  routing-mode: native\n", []problem{{2, "network.routing-mode", "unknown key", "network.routingMode"}}},
		{"two deep", "network:\n  debug:\n    enabeld: true\n", []problem{{3, "network.debug.enabeld", "unknown key", "network.debug.enabled"}}},
		{"a section", "network:\n  dubug:\n    enabled: true\n", []problem{{2, "network.dubug", "unknown key", "network.debug"}}},
		{
			"in an item of a list", "cluster:\n  registryMirrors:\n  - host: a.example\n    endpont: http://b.example\n",
			[]problem{{4, "cluster.registryMirrors[0].endpont", "unknown key", "cluster.registryMirrors[0].endpoint"}},
		},
		{"in the wrong place", "enableIPv4Masquerade: false\n", []problem{{1, "enableIPv4Masquerade", "unknown key", "network.enableIPv4Masquerade"}}},
		{"far from all", "demo:\n  colour: blue\n", []problem{{2, "demo.colour", "known here: enabled, port, targetPort, nodePort", ""}}},
		{"of others", "network:\n  bpf:\n    datapathQuux: 1\n", []problem{{3, "network.bpf.datapathQuux", "known here: monitorAggregation, monitorPayload", ""}}},
		{"with dots", "network.mtu: 1400\n", []problem{{1, "network.mtu", "nested", ""}}},
		{"twice", "demo:\n  port: 1\n  port: 2\n", []problem{{3, "demo.port", "set twice, first in line 6", ""}}},
		{"that is a list", "? [a, b]\n: c\n", []problem{{1, "", "a list stands where a key belongs", ""}}},
		{"empty", "\"\": x\n", []problem{{1, "", "unknown key", ""}}},
		{
			"all at once", "mtu: 1\ndemo:\n  prot: 1\n  nodePort: x\n",
			[]problem{{1, "mtu", "unknown key", "network.mtu"}, {3, "demo.prot", "unknown key", "demo.port"}, {4, "demo.nodePort", `"x" is not a whole number`, ""}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expectBody(t, tt.body, tt.want) })
	}
}

// expectBody expects problems at lines of body, which follows head.
func expectBody(t *testing.T, body string, want []problem) {
	t.Helper()
	_, err := Parse("mine.yaml", []byte(head+body), Options{})
	shifted := make([]problem, len(want))
	for i, w := range want {
		if w.line > 0 {
			w.line += strings.Count(head, "\n")
		}
		shifted[i] = w
	}
	expect(t, err, shifted...)
}

func TestBadValues(t *testing.T) {
	tests := []struct {
		body string
		want problem
	}{
		{"network:\n  mtu: big\n", problem{2, "network.mtu", `"big" is not a whole number`, ""}},
		{"network:\n  mtu: 1400.5\n", problem{2, "network.mtu", `"1400.5" is not a whole number`, ""}},
		{"network:\n  mtu: \"1400\"\n", problem{2, "network.mtu", "write 1400 without quotes", ""}},
		{"network:\n  mtu:\n", problem{2, "network.mtu", "has no value", ""}},
		{"network:\n  mtu: [1400]\n", problem{2, "network.mtu", "a list stands where a whole number belongs", ""}},
		{"network:\n  mtu: {a: 1}\n", problem{2, "network.mtu", "a section stands where a whole number belongs", ""}},
		{"network:\n  mtu: 100\n", problem{2, "network.mtu", "100 is out of range; allowed: 0, 576 to 65535", ""}},
		{"network:\n  mtu: 99999999999999999999\n", problem{2, "network.mtu", "is not a whole number", ""}},
		{"network:\n  autoDirectNodeRoutes: yes\n", problem{2, "network.autoDirectNodeRoutes", `"yes" is neither true nor false`, ""}},
		{"network:\n  autoDirectNodeRoutes: 'true'\n", problem{2, "network.autoDirectNodeRoutes", "write true without quotes", ""}},
		{"network:\n  kubeProxyReplacement: yes\n", problem{2, "network.kubeProxyReplacement", `"yes" is not offered; allowed: false, true, disabled, strict`, ""}},
		{"network:\n  kubeProxyReplacement: partial\n", problem{2, "network.kubeProxyReplacement", `"partial" would leave some Services to kube-proxy and others to BPF`, ""}},
		{"network:\n  kubeProxyReplacement: probe\n", problem{2, "network.kubeProxyReplacement", "use true without kube-proxy (in a profile, cluster.kubeProxyMode none), or false", ""}},
		{"network:\n  tunnel: vxlan\n", problem{2, "network.tunnel", "tunnel vxlan is routingMode tunnel and tunnelProtocol vxlan today", ""}},
		{"network:\n  tunnel: disabled\n", problem{2, "network.tunnel", "tunnel disabled is routingMode native today", ""}},
		{"network:\n  routingMode: overlay\n", problem{2, "network.routingMode", "is not offered; allowed: native, tunnel", ""}},
		{"network:\n  routingMode: natvie\n", problem{2, "network.routingMode", "is not offered", "native"}},
		{"network:\n  bpf: none\n", problem{2, "network.bpf", `"none" stands where a section belongs; its keys are monitorAggregation`, ""}},
		{"network:\n  bpf: {monitorAggregation: low}\n", problem{2, "network.bpf.monitorAggregation", "allowed: none, medium, maximum", ""}},
		{"network:\n  debug: {verbose: everything}\n", problem{2, "network.debug.verbose", `allowed: "", datapath`, ""}},
		{"network:\n  devices: eth0\n", problem{2, "network.devices", `"eth0" stands where a list belongs`, ""}},
		{"network:\n  devices:\n", problem{2, "network.devices", "write [] for an empty list", ""}},
		{"network:\n  devices: [[eth0]]\n", problem{2, "network.devices[0]", "a list stands where a text belongs", ""}},
		{"cluster:\n  podSubnet: 10.244.0.0\n", problem{2, "cluster.podSubnet", "is not an IPv4 CIDR such as", ""}},
		{"cluster:\n  podSubnet: 10.244.1.0/16\n", problem{2, "cluster.podSubnet", "write 10.244.0.0/16", ""}},
		{"cluster:\n  podSubnet: fd00::/56\n", problem{2, "cluster.podSubnet", "is not IPv4", ""}},
		{"cluster:\n  controlPlanes: 3\n", problem{2, "cluster.controlPlanes", "3 is out of range; allowed: 1", ""}},
		{"cluster:\n  workers: -1\n", problem{2, "cluster.workers", "allowed: 0 to 50", ""}},
		{"cluster:\n  kubeProxyMode: ipvs\n", problem{2, "cluster.kubeProxyMode", "is not offered; allowed: iptables, none", ""}},
		{"cluster:\n  registryMirrors: {a: b}\n", problem{2, "cluster.registryMirrors", "a section stands where a list belongs", ""}},
		{"cluster:\n  registryMirrors:\n  - docker\n", problem{3, "cluster.registryMirrors[0]", `"docker" stands where a section belongs; its keys are host, endpoint`, ""}},
		{"demo:\n  nodePort: 80\n", problem{2, "demo.nodePort", "80 is out of range; allowed: 30000 to 32767", ""}},
		{"demo:\n  port: 65536\n", problem{2, "demo.port", "65536 is out of range", ""}},
		{"demo:\n  targetPort: 0\n", problem{2, "demo.targetPort", "0 is out of range; allowed: 1 to 65535", ""}},
		{"verify:\n  timeout: 60\n", problem{2, "verify.timeout", "is not a duration such as 90s", ""}},
		{"verify:\n  timeout: 1s\n", problem{2, "verify.timeout", "1s is out of range; allowed: 10s to 1h", ""}},
		{"verify:\n  timeout: &t 60s\n", problem{2, "verify.timeout", "anchors, aliases and merge keys are not used", ""}},
		{"demo:\n  <<: {port: 1}\n", problem{2, "demo.<<", "anchors, aliases and merge keys are not used", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.body, func(t *testing.T) {
			want := []problem{tt.want}
			if strings.Contains(tt.body, "- docker") { // an item without its keys
				want = append(want,
					problem{3, "cluster.registryMirrors[0].host", "is missing", ""},
					problem{3, "cluster.registryMirrors[0].endpoint", "is missing; write one, such as endpoint: http://", ""})
			}
			expectBody(t, tt.body, want)
		})
	}
}

func TestBadFiles(t *testing.T) {
	tests := []struct {
		name, text string
		want       []problem
	}{
		{"empty", "", []problem{{0, "", "the file is empty", ""}}},
		{"comments only", "# nothing\n", []problem{{0, "", "the file is empty", ""}}},
		{"a list", "- a\n", []problem{{1, "", "a profile is a mapping", ""}}},
		{"not YAML", "a: b\n c: d\n", []problem{{2, "", "this is not YAML: mapping values are not allowed", ""}}},
		{"tabs", "network:\n\tmtu: 1\n", []problem{{2, "", "indented with spaces, not tabs", ""}}},
		{"two documents", head + "---\na: b\n", []problem{{5, "", "a second document starts here", ""}}},
		{
			"nothing required", "demo: {enabled: false}\n",
			[]problem{
				{0, "network.ipv4NativeRoutingCIDR", "network.enableIPv4Masquerade needs network.ipv4NativeRoutingCIDR", ""},
				{1, "apiVersion", "is missing; write one, such as apiVersion: wirelab.dev/v1alpha1", ""},
				{1, "kind", "is missing; write one, such as kind: Profile", ""},
				{1, "metadata.name", "is missing", ""},
			},
		},
		{
			"another version and kind", strings.NewReplacer("v1alpha1", "v2", "Profile", "Deployment").Replace(head),
			[]problem{{1, "apiVersion", "allowed: wirelab.dev/v1alpha1", ""}, {2, "kind", "allowed: Profile", ""}},
		},
		{"an unknown base", strings.Replace(head, "kubeproxy", "kubeproxi", 1), []problem{{4, "extends", `unknown profile "kubeproxi": did you mean kubeproxy?`, ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("mine.yaml", []byte(tt.text), Options{})
			found := Problems(err)
			// Of the file first, then of what no file says.
			for i, w := range tt.want {
				if !hasProblem(found, w) {
					t.Errorf("missing problem %d: %+v", i, w)
				}
			}
			if len(found) != len(tt.want) {
				t.Errorf("got %d problems, want %d:\n%v", len(found), len(tt.want), err)
			}
		})
	}
}

func hasProblem(found []*Problem, w problem) bool {
	for _, p := range found {
		if p.Line == w.line && p.Key == w.key && p.Nearest == w.nearest && strings.Contains(p.Message, w.part) {
			return true
		}
	}
	return false
}

func TestBadBaseIsReportedWithItsOwnPlace(t *testing.T) {
	dir := write(t, map[string]string{
		"base.yaml": strings.Replace(head, "name: mine", "name: base", 1) + "demo:\n  prot: 1\n",
		"mine.yaml": strings.Replace(head, "kubeproxy", "base.yaml", 1) + "demo:\n  pert: 1\n",
	})
	_, err := Load(dir+"/mine.yaml", Options{})
	want := fmt.Sprintf("%[1]s/mine.yaml:6: demo.pert: unknown key; did you mean demo.port?\n%[1]s/base.yaml:6: demo.prot: unknown key; did you mean demo.port?", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}
