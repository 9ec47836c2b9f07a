package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/settings"
)

func write(t *testing.T, yaml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const minimal = "nodeName: n1\nipv4NativeRoutingCIDR: 10.0.0.0/8\n"

func TestLoadFillsDefaultsIn(t *testing.T) {
	got, err := Load(write(t, minimal), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.NodeName, want.IPv4NativeRoutingCIDR = "n1", netip.MustParsePrefix("10.0.0.0/8")
	want.Devices = got.Devices // nil and empty are the same here
	if !reflect.DeepEqual(got, want) || len(got.Devices) != 0 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoadReadsEveryKind(t *testing.T) {
	got, err := Load(write(t, `
nodeName: n1
kubeProxyReplacement: false
enableIPv4Masquerade: false
mtu: 1400
devices: [eth0, eth1]
bpf:
  monitorAggregation: none
debug: {enabled: true, verbose: datapath}
paths:
  runDir: /tmp/x
`), []string{"PATH=/bin", "WIRELAB_NETWORK_MTU=1300", "WIRELAB_NETWORK_DEVICES=eth2,eth3", "WIRELAB_PROMETHEUS_ENABLED=false"})
	if err != nil {
		t.Fatal(err)
	}
	if got.KubeProxyReplacement || got.EnableIPv4Masquerade || got.BPF.MonitorAggregation != "none" ||
		!got.Debug.Enabled || got.Debug.Verbose != "datapath" || got.Paths.CNISocket() != "/tmp/x/cni.sock" {
		t.Errorf("the file's values are not there: %+v", got)
	}
	if got.MTU != 1300 || strings.Join(got.Devices, " ") != "eth2 eth3" || got.Prometheus.Enabled {
		t.Errorf("the environment did not win: %+v", got)
	}
}

// TestLoadTakesWhatHelmWrites: names of values, words, numbers as Helm prints them, prefixes that it does not look into.
func TestLoadTakesWhatHelmWrites(t *testing.T) {
	got, err := Load(write(t, "nodeName: n1\nMTU: 1400\nbpf: {ctMax: 1e+06}\nkubeProxyReplacement: \"strict\"\nipv4NativeRoutingCIDR: 10.1.2.3/8\ndevices: []\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.MTU != 1400 || got.BPF.CTMax != 1000000 || !got.KubeProxyReplacement || got.IPv4NativeRoutingCIDR != netip.MustParsePrefix("10.0.0.0/8") {
		t.Errorf("got %+v", got.Network)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, yaml, env string
		want            []string
	}{
		{"misspelt key", minimal + "enableIPv4Masqerade: true", "", []string{"enableIPv4Masqerade", "did you mean enableIPv4Masquerade?"}},
		{"misspelt section", minimal + "dubug: {enabled: true}", "", []string{"dubug: unknown key", "did you mean debug?"}},
		{"misspelt key below", minimal + "bpf: {monitorAgregation: none}", "", []string{"did you mean bpf.monitorAggregation?"}},
		{"misspelt variable", minimal, "WIRELAB_NETWORK_MTV=1", []string{"did you mean WIRELAB_NETWORK_MTU?"}},
		{"scalar for a section", minimal + "bpf: 3", "", []string{"bpf"}},
		{"text for a number", minimal + "mtu: big", "", []string{"mtu"}},
		{"part of a number", minimal + "mtu: 1400.5", "", []string{"mtu"}},
		{"no value", minimal + "mtu:", "", []string{"mtu: has no value"}},
		{"list for a text", minimal + "routingMode: [native]", "", []string{"routingMode"}},
		{"text for a list", minimal + "devices: eth0", "", []string{"devices"}},
		{"one thing, told once", "nodeName: n1\nipv4NativeRoutingCIDR: x", "", []string{"configuration: ipv4NativeRoutingCIDR: \"x\" is not"}},
		{"device", minimal + "devices: [eth0, lo]", "", []string{"devices[1]: lo does not lead out"}},
		{"no node", "ipv4NativeRoutingCIDR: 10.0.0.0/8", "", []string{"WIRELAB_NODENAME"}},
		{"masquerade without CIDR", "nodeName: n1", "", []string{"enableIPv4Masquerade needs ipv4NativeRoutingCIDR"}},
		{"no prefix", "nodeName: n1\nipv4NativeRoutingCIDR: 10.0.0.0", "", []string{"is not an IPv4 CIDR"}},
		{"words", minimal + "routingMode: overlay\nipam: {mode: pool}\nbpf: {monitorAggregation: some}\nkubeProxyReplacement: stirct\ndebug: {verbose: all}", "",
			[]string{"routingMode", "ipam.mode", "bpf.monitorAggregation", "kubeProxyReplacement", "debug.verbose"}},
		{"half a replacement", minimal + "kubeProxyReplacement: partial", "", []string{"kubeProxyReplacement", "two translators for one packet"}},
		{"metrics that nobody could read", minimal + "flows: {metrics: [drop]}\nprometheus: {enabled: false}", "", []string{"flows.metrics: needs prometheus.enabled: without it"}},
		{"metrics of layer 7", minimal + "flows: {metrics: [drop, http]}", "", []string{`flows.metrics[1]: "http" needs events of layer 7`}},
		{"metrics of no flows", minimal + "flows: {metrics: [drop], capacity: 0}", "", []string{"flows.metrics needs flows.capacity: with 0"}},
		{"masquerade beside kube-proxy", minimal + "bpf: {masquerade: true}", "", []string{"bpf.masquerade needs kubeProxyReplacement"}},
		{"numbers", minimal + "mtu: 100\nbpf: {ctMax: 100}\nprometheus: {port: 0}\nhealth: {port: 70000}\nclusterHealth: {port: -1}", "",
			[]string{"mtu: 100 is out of range; allowed: 0, 576 to 65535", "bpf.ctMax: 100 is out of range; allowed: 4096 to 4194304", "prometheus.port: 0 is", "health.port: 70000 is", "clusterHealth.port: -1 is"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(write(t, tc.yaml), []string{tc.env})
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestVariables(t *testing.T) {
	for key, want := range map[string]string{
		"nodeName":               "WIRELAB_NODENAME",
		"mtu":                    "WIRELAB_NETWORK_MTU",
		"ipv4NativeRoutingCIDR":  "WIRELAB_NETWORK_IPV4NATIVEROUTINGCIDR",
		"bpf.monitorAggregation": "WIRELAB_NETWORK_BPF_MONITORAGGREGATION",
		"paths.cniBinDir":        "WIRELAB_PATHS_CNIBINDIR",
	} {
		k, _, ok := keys().Find(key)
		if !ok {
			t.Fatalf("there is no key %s", key)
		}
		value := k.Sample()
		if value == "" {
			value = "x"
		}
		got, err := Load(write(t, minimal), []string{want + "=" + value})
		if err != nil {
			t.Fatal(err)
		}
		if typed, _ := k.Typed(value); !reflect.DeepEqual(k.Value(&got), typed) {
			t.Errorf("%s=%s is read as %v", want, value, k.Value(&got))
		}
	}
	seen := map[string]string{}
	for _, k := range keys().Settings() {
		name := variable(settings.Keys(), k)
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s have the same variable", k.Path, other)
		}
		seen[name] = k.Path
	}
}

func TestDefaultsAreTakenAgain(t *testing.T) {
	def := Default()
	for _, k := range keys().Settings() {
		if value, bad := k.Typed(settings.Written(k.Value(&def))); bad != nil || !reflect.DeepEqual(value, k.Value(&def)) {
			t.Errorf("the default of %s is %v, read again %v, %v", k.Path, k.Value(&def), value, bad)
		}
	}
}

func TestModeFollowsRouting(t *testing.T) {
	for yaml, want := range map[string]settings.Mode{
		"bpf: {masquerade: true}":                                     settings.ModeEBPF,
		"bpf: {masquerade: true, hostLegacyRouting: true}":            settings.ModeKubeProxyReplacement,
		"enableIPv4Masquerade: false":                                 settings.ModeEBPF,
		"enableIPv4Masquerade: false\nbpf: {hostLegacyRouting: true}": settings.ModeKubeProxyReplacement,
		"bpf: {allowFallback: true}":                                  settings.ModeKubeProxyReplacement,
	} {
		got, err := Load(write(t, minimal+"kubeProxyReplacement: true\n"+yaml), nil)
		if err != nil || got.Roles().Mode() != want {
			t.Errorf("%s: mode %q, %v; want %q", yaml, got.Roles().Mode(), err, want)
		}
	}
}

func TestModeFollowsReplacement(t *testing.T) {
	for word, want := range map[string]settings.Mode{
		"true": settings.ModeKubeProxyReplacement, "strict": settings.ModeKubeProxyReplacement,
		"false": settings.ModeKubeProxy, "disabled": settings.ModeKubeProxy,
	} {
		got, err := Load(write(t, minimal+"kubeProxyReplacement: "+word), nil)
		if err != nil || got.Roles().Mode() != want {
			t.Errorf("%s: mode %q, %v; want %q", word, got.Roles().Mode(), err, want)
		}
	}
}
