package profiles

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"wirelab.dev/wirelab/internal/settings"
)

// head starts a profile that is valid as it stands.
const head = `apiVersion: wirelab.dev/v1alpha1
kind: Profile
metadata: {name: mine}
extends: kubeproxy
`

// prefixes lets profiles be compared.
var prefixes = cmp.Options{cmpopts.EquateComparable(netip.Prefix{})}

func parse(t *testing.T, text string, opts Options) *Profile {
	t.Helper()
	p, err := Parse("mine.yaml", []byte(text), opts)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return p
}

// write puts files, given as name and text, into a new directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestShippedKubeproxy(t *testing.T) {
	got, err := Load("kubeproxy", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Profile{
		APIVersion: APIVersion,
		Kind:       Kind,
		Metadata:   Metadata{Name: "kubeproxy", Description: "kernel routes between nodes, Services and masquerade by iptables"},
		Cluster: Cluster{
			ControlPlanes: 1, Workers: 2,
			PodSubnet: netip.MustParsePrefix("10.0.0.0/12"), ServiceSubnet: netip.MustParsePrefix("10.96.0.0/16"),
			KubeProxyMode: "iptables", RemoveControlPlaneTaint: true, RegistryMirrors: []RegistryMirror{},
		},
		Network: settings.Network{
			RoutingMode: "native", TunnelProtocol: "vxlan", AutoDirectNodeRoutes: true, IPv4NativeRoutingCIDR: netip.MustParsePrefix("10.0.0.0/8"),
			EnableIPv4Masquerade: true, BPF: settings.BPF{MonitorAggregation: "none", MonitorPayload: 128, CTMax: 65536}, InstallNoConntrackIptablesRules: true, IPAM: settings.IPAM{Mode: "cluster-pool", Operator: settings.IPAMOperator{ClusterPoolIPv4PodCIDRList: []string{"10.0.0.0/12"}, ClusterPoolIPv4MaskSize: 24}},
			Devices: []string{}, Labels: settings.Labels{Include: []string{}, Exclude: []string{}}, Flows: settings.Flows{Capacity: 4096, Metrics: []string{}, Relay: settings.Relay{AgentPort: 4244}}, Debug: settings.Debug{Enabled: true, Verbose: "datapath"},
		},
		Demo:   Demo{Enabled: true, Port: 8080, TargetPort: 80, NodePort: 32000},
		Verify: Verify{Timeout: settings.Duration{Duration: time.Minute}, Skip: []string{}},
	}
	if diff := cmp.Diff(want, got, prefixes); diff != "" {
		t.Error(diff)
	}
	if got.Mode() != settings.ModeKubeProxy || got.Nodes() != 3 {
		t.Errorf("mode %q, %d nodes; want kubeproxy and 3", got.Mode(), got.Nodes())
	}
}

func TestShippedReplacementDiffersByWhoServesServices(t *testing.T) {
	a, err := Load("kubeproxy", Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load("kubeproxy-replacement", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{"cluster.kubeProxyMode", "iptables", "none", madeWith},
		{"network.kubeProxyReplacement", "false", "true", madeWith},
	}
	if diff := cmp.Diff(want, Diff(a, b)); diff != "" {
		t.Error(diff)
	}
	if b.Mode() != settings.ModeKubeProxyReplacement || b.Nodes() != 3 {
		t.Errorf("mode %q, %d nodes; want kubeproxy-replacement and 3", b.Mode(), b.Nodes())
	}
}

func TestShippedEBPFDiffersByOneSetting(t *testing.T) {
	a, err := Load("kubeproxy-replacement", Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load("ebpf", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Change{{"network.bpf.masquerade", "false", "true", ""}}, Diff(a, b)); diff != "" {
		t.Error(diff)
	}
	if b.Mode() != settings.ModeEBPF {
		t.Errorf("mode %q, want ebpf", b.Mode())
	}
}

// TestModeOfSettings: what BPF routes follows from who masquerades, not from a setting of its own.
func TestModeOfSettings(t *testing.T) {
	const replaced = "cluster: {kubeProxyMode: none}\nnetwork:\n  kubeProxyReplacement: true\n"
	for _, tc := range []struct {
		network string
		want    settings.Mode
	}{
		{"", settings.ModeKubeProxyReplacement},
		{"  bpf: {masquerade: true}\n", settings.ModeEBPF},
		{"  bpf: {masquerade: true, hostLegacyRouting: true}\n", settings.ModeKubeProxyReplacement},
		{"  enableIPv4Masquerade: false\n", settings.ModeEBPF},
		{"  enableIPv4Masquerade: false\n  bpf: {hostLegacyRouting: true}\n", settings.ModeKubeProxyReplacement},
	} {
		if got := parse(t, head+replaced+tc.network, Options{}).Mode(); got != tc.want {
			t.Errorf("%q: mode %q, want %q", tc.network, got, tc.want)
		}
	}
}

// TestOlderWords: what is loaded knows two values only.
func TestOlderWords(t *testing.T) {
	for word, want := range map[string]bool{"strict": true, "\"strict\"": true, "true": true, "disabled": false, "false": false} {
		mode := map[bool]string{true: "none", false: "iptables"}[want]
		p := parse(t, head+"cluster: {kubeProxyMode: "+mode+"}\nnetwork: {kubeProxyReplacement: "+word+"}\n", Options{})
		if p.Network.KubeProxyReplacement != want {
			t.Errorf("%s is read as %t", word, p.Network.KubeProxyReplacement)
		}
	}
}

func TestListLoadsEveryShippedProfile(t *testing.T) {
	all, err := List()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 || len(all) != len(files) {
		t.Fatalf("%d profiles listed for %d files", len(all), len(files))
	}
	if !slices.IsSortedFunc(all, func(a, b Summary) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("not sorted by name: %v", all)
	}
	for _, s := range all {
		if !slices.Contains(files, s.Name+".yaml") {
			t.Errorf("profile %s is in none of %v; a file has its profile's name", s.Name, files)
		}
		if s.Description == "" || s.Mode == "" {
			t.Errorf("profile %s: description %q, mode %q; neither may be empty", s.Name, s.Description, s.Mode)
		}
	}
}

func TestShippedProfilesFitOneScreen(t *testing.T) {
	for _, name := range shippedNames() {
		data, err := shipped.ReadFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(data), "\n")
		if len(lines) > 50 {
			t.Errorf("%s.yaml has %d lines; 50 are a screen", name, len(lines))
		}
		for i, line := range lines {
			if len(line) > 100 {
				t.Errorf("%s.yaml:%d has %d characters; 100 fit", name, i+1, len(line))
			}
		}
	}
}

func TestPrintedProfileLoadsToTheSame(t *testing.T) {
	texts := map[string]string{
		"shipped by name only": head,
		"everything set": head + `cluster:
  workers: 4
  image: registry.example/node:v1
  podSubnet: 10.10.0.0/16
  serviceSubnet: 10.20.0.0/16
  removeControlPlaneTaint: false
  apiServerPort: 6443
  registryMirrors:
  - {host: "registry.example:5000", endpoint: "https://192.168.1.5/mirror"}
network:
  autoDirectNodeRoutes: false
  ipv4NativeRoutingCIDR: ""
  enableIPv4Masquerade: false
  bpf: {monitorAggregation: maximum}
  mtu: 1400
  devices: [eth0, eth1]
  debug: {enabled: false, verbose: ""}
demo: {enabled: false, port: 1, targetPort: 65535, nodePort: 30000}
verify: {timeout: 1h, skip: [dns]}
`,
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			first := parse(t, text, Options{})
			printed, err := first.YAML()
			if err != nil {
				t.Fatal(err)
			}
			second := parse(t, string(printed), Options{})
			if diff := cmp.Diff(first, second, prefixes); diff != "" {
				t.Errorf("printed:\n%s\ndiffers when read again:\n%s", printed, diff)
			}
			if changes := Diff(first, second); len(changes) != 0 {
				t.Errorf("Diff finds %v", changes)
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	base := strings.Replace(head, "name: mine", "name: base", 1) + "network: {mtu: 1100, devices: [eth0, eth1]}\ndemo: {port: 1100}\n"
	file := strings.Replace(head, "extends: kubeproxy", "extends: base.yaml", 1)
	tests := []struct {
		name, file string
		opts       Options
		want       int
	}{
		{name: "default", file: strings.Replace(head, "name: mine", "name: other", 1), want: 0},
		{name: "extended file over default", file: file, want: 1100},
		{name: "file over extended", file: file + "network: {mtu: 1200}\n", want: 1200},
		{name: "environment over file", file: file + "network: {mtu: 1200}\n", opts: Options{Env: []string{"WIRELAB_NETWORK_MTU=1300"}}, want: 1300},
		{
			name: "--set over environment", file: file,
			opts: Options{Env: []string{"WIRELAB_NETWORK_MTU=1300"}, Set: []string{"network.mtu=1400"}}, want: 1400,
		},
		{name: "the later --set counts", file: file, opts: Options{Set: []string{"network.mtu=1400", "network.mtu=1500"}}, want: 1500},
		{name: "an empty variable is not set", file: file, opts: Options{Env: []string{"WIRELAB_NETWORK_MTU="}}, want: 1100},
		{name: "no environment unless given", file: file, want: 1100},
	}
	t.Setenv("WIRELAB_NETWORK_MTU", "9000")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, map[string]string{"base.yaml": base, "mine.yaml": tt.file})
			p, err := Load(filepath.Join(dir, "mine.yaml"), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if p.Network.MTU != tt.want {
				t.Errorf("network.mtu is %d, want %d", p.Network.MTU, tt.want)
			}
		})
	}
}

func TestExtendsMergesMapsAndReplacesLists(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": strings.Replace(head, "name: mine", "name: a, description: the base", 1) +
			"network: {devices: [eth0, eth1], debug: {enabled: false}}\ndemo: {port: 81, targetPort: 82}\n",
		"sub/b.yaml": strings.NewReplacer("name: mine", "name: b", "kubeproxy", "../a.yaml").Replace(head) + "demo: {port: 83}\n",
		"c.yaml": strings.NewReplacer("name: mine", "name: c", "kubeproxy", "./sub/b.yaml").Replace(head) +
			"network:\n  devices: [eth2]\n",
	})
	p, err := Load(filepath.Join(dir, "c.yaml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Network.Devices; !cmp.Equal(got, []string{"eth2"}) {
		t.Errorf("devices are %v; a list replaces the one it finds", got)
	}
	if p.Network.Debug.Enabled || p.Network.Debug.Verbose != "datapath" {
		t.Errorf("debug is %+v; sections merge setting by setting", p.Network.Debug)
	}
	if p.Demo.Port != 83 || p.Demo.TargetPort != 82 || p.Demo.NodePort != 32000 {
		t.Errorf("demo is %+v; want 83 from b, 82 from a, 32000 from kubeproxy", p.Demo)
	}
	if p.Metadata != (Metadata{Name: "c"}) || p.Extends != "" {
		t.Errorf("metadata is %+v, extends %q; neither is taken over", p.Metadata, p.Extends)
	}
}

// TestTunnelInPlaceOfRoutes: who sets a tunnel against a profile's native routing need not take its routes back.
func TestTunnelInPlaceOfRoutes(t *testing.T) {
	for _, mode := range []string{"kubeproxy", "kubeproxy-replacement", "ebpf"} {
		p, err := Load(mode, Options{Set: []string{"network.routingMode=tunnel"}})
		if err != nil || p.Network.AutoDirectNodeRoutes || p.Network.RoutingMode != "tunnel" || string(p.Mode()) != mode {
			t.Errorf("%s: %+v, %v", mode, p, err)
		}
		_, err = Load(mode, Options{Set: []string{"network.routingMode=tunnel", "network.autoDirectNodeRoutes=true"}})
		if err == nil || !strings.Contains(err.Error(), "network.autoDirectNodeRoutes needs network.routingMode native") {
			t.Errorf("%s with both: %v", mode, err)
		}
	}
	if _, err := Parse("mine.yaml", []byte(head+"network: {routingMode: tunnel, autoDirectNodeRoutes: true}\n"), Options{}); err == nil {
		t.Error("a file that sets both is taken")
	}
	for set, say := range map[string]string{
		"network.tunnelPort=53": "the port of DNS", "network.tunnelPort=32000": "NodePorts", "network.tunnelPort=50000": "flows get",
		"network.mtu=600": "raise it to 626", "network.tunnel=geneve": "tunnelProtocol geneve today", "network.tunnelProtocol=gre": "allowed: vxlan, geneve",
	} {
		if _, err := Load("vxlan", Options{Set: []string{set}}); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v, want %q", set, err, say)
		}
	}
}

func TestUnknownProfile(t *testing.T) {
	dir := write(t, map[string]string{"mine.yaml": strings.Replace(head, "kubeproxy", "missing.yaml", 1)})
	tests := []struct{ ref, want string }{
		{"kubeprxoy", "did you mean kubeproxy?"},
		{"something-else", "shipped are ebpf, geneve, kubeproxy"},
		{"", "its name is empty"},
		{filepath.Join(dir, "nowhere.yaml"), "there is no file"},
		{filepath.Join(dir, "kubeproxy.yaml"), "given by its name alone, kubeproxy"},
		{filepath.Join(dir, "mine.yaml"), "mine.yaml:4: extends: unknown profile: there is no file"},
	}
	for _, tt := range tests {
		_, err := Load(tt.ref, Options{})
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Load(%q): %v; want ErrUnknown with %q", tt.ref, err, tt.want)
		}
	}
	if _, err := Load(dir+"/", Options{}); err == nil || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("loading a directory: %v", err)
	}
}

func TestExtendsInACircle(t *testing.T) {
	link := func(name, to string) string {
		return strings.NewReplacer("name: mine", "name: "+name, "kubeproxy", to).Replace(head)
	}
	dir := write(t, map[string]string{"a.yaml": link("a", "b.yaml"), "b.yaml": link("b", "./c.yaml"), "c.yaml": link("c", "a.yaml")})
	_, err := Load(filepath.Join(dir, "a.yaml"), Options{})
	found := Problems(err)
	if len(found) != 1 {
		t.Fatalf("got %v, want one problem", err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	want := "circle: " + strings.Join([]string{path("a.yaml"), path("b.yaml"), path("c.yaml"), path("a.yaml")}, " -> ")
	if p := found[0]; p.Source != path("c.yaml") || p.Line != 4 || p.Key != "extends" || !strings.Contains(p.Message, want) {
		t.Errorf("got %v, want %q", p, want)
	}
}

func TestParseExtendsNoPath(t *testing.T) {
	_, err := Parse("a record", []byte(strings.Replace(head, "kubeproxy", "./b.yaml", 1)), Options{})
	if err == nil || !strings.Contains(err.Error(), `a record:4: extends: "./b.yaml" is a path`) {
		t.Errorf("got %v", err)
	}
}

func TestHugeFileIsRefused(t *testing.T) {
	dir := write(t, map[string]string{"big.yaml": head + strings.Repeat("# filling\n", maxSize/10)})
	if _, err := Load(filepath.Join(dir, "big.yaml"), Options{}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(head))
	f.Add([]byte(head + "network: {mtu: 1400, devices: [eth0]}\ncluster: {registryMirrors: [{host: a.example, endpoint: http://b.example}]}\n"))
	f.Add([]byte("a: &a [*a]\n<<: *a\n? [x]: y\n"))
	f.Add([]byte("network: !!binary aGk=\nverify: {timeout: 1h}\n--- x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("fuzz", data, Options{})
		if (p == nil) == (err == nil) {
			t.Fatalf("profile %v with error %v", p, err)
		}
		if err != nil {
			if len(Problems(err)) == 0 {
				t.Fatalf("the error is about no profile's content: %v", err)
			}
			return
		}
		printed, err := p.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again", printed, Options{})
		if err != nil {
			t.Fatalf("a valid profile printed as\n%s\nis refused: %v", printed, err)
		}
		if diff := cmp.Diff(p, again, prefixes); diff != "" {
			t.Fatalf("a valid profile is read differently after printing:\n%s", diff)
		}
	})
}
