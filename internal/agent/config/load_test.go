package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
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
	want.NodeName, want.IPv4NativeRoutingCIDR = "n1", "10.0.0.0/8"
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
`), []string{"PATH=/bin", "WIRELAB_MTU=1300", "WIRELAB_DEVICES=eth2,eth3", "WIRELAB_PROMETHEUS_ENABLED=false"})
	if err != nil {
		t.Fatal(err)
	}
	if got.KubeProxyReplacement != "false" || got.EnableIPv4Masquerade || got.BPF.MonitorAggregation != "none" ||
		!got.Debug.Enabled || got.Debug.Verbose != "datapath" || got.Paths.CNISocket() != "/tmp/x/cni.sock" {
		t.Errorf("the file's values are not there: %+v", got)
	}
	if got.MTU != 1300 || strings.Join(got.Devices, " ") != "eth2 eth3" || got.Prometheus.Enabled {
		t.Errorf("the environment did not win: %+v", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, yaml, env string
		want            []string
	}{
		{"misspelt key", minimal + "enableIPv4Masqerade: true", "", []string{"enableipv4masqerade", "did you mean enableIPv4Masquerade?"}},
		{"misspelt section", minimal + "dubug: {enabled: true}", "", []string{"dubug.enabled", "did you mean debug.enabled?"}},
		{"misspelt key below", minimal + "bpf: {monitorAgregation: none}", "", []string{"did you mean bpf.monitorAggregation?"}},
		{"misspelt variable", minimal, "WIRELAB_MTV=1", []string{"did you mean WIRELAB_MTU?"}},
		{"scalar for a section", minimal + "bpf: 3", "", []string{"bpf"}},
		{"text for a number", minimal + "mtu: big", "", []string{"mtu"}},
		{"no node", "ipv4NativeRoutingCIDR: 10.0.0.0/8", "", []string{"WIRELAB_NODE_NAME"}},
		{"masquerade without CIDR", "nodeName: n1", "", []string{"ipv4NativeRoutingCIDR is empty", "enableIPv4Masquerade"}},
		{"no prefix", "nodeName: n1\nipv4NativeRoutingCIDR: 10.0.0.0", "", []string{"want an IPv4 prefix"}},
		{"words", minimal + "routingMode: tunnel\nipam: {mode: pool}\nbpf: {monitorAggregation: some}\nkubeProxyReplacement: stirct\ndebug: {verbose: all}", "",
			[]string{"routingMode", "ipam.mode", "bpf.monitorAggregation", "kubeProxyReplacement", "debug.verbose"}},
		{"half a replacement", minimal + "kubeProxyReplacement: partial", "", []string{"kubeProxyReplacement", "two translators for one flow"}},
		{"masquerade beside kube-proxy", minimal + "bpf: {masquerade: true}", "", []string{"bpf.masquerade needs kubeProxyReplacement"}},
		{"numbers", minimal + "mtu: 100\nbpf: {ctMax: 100}\nprometheus: {port: 0}\nhealth: {port: 70000}\nclusterHealth: {port: -1}", "",
			[]string{"mtu is 100", "bpf.ctMax is 100: want 4096 to 4194304", "prometheus.port is 0", "health.port is 70000", "clusterHealth.port is -1"}},
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

func TestEnvNames(t *testing.T) {
	for key, want := range map[string]string{
		"nodeName":               "WIRELAB_NODE_NAME",
		"mtu":                    "WIRELAB_MTU",
		"ipv4NativeRoutingCIDR":  "WIRELAB_IPV4_NATIVE_ROUTING_CIDR",
		"bpf.monitorAggregation": "WIRELAB_BPF_MONITOR_AGGREGATION",
	} {
		if got := EnvName(key); got != want {
			t.Errorf("EnvName(%s) = %s, want %s", key, got, want)
		}
	}
	seen := map[string]string{}
	for _, key := range Keys() {
		if other, taken := seen[EnvName(key)]; taken {
			t.Errorf("%s and %s have the same variable", key, other)
		}
		seen[EnvName(key)] = key
	}
}

func TestModeFollowsRouting(t *testing.T) {
	for yaml, want := range map[string]datapath.Mode{
		"bpf: {masquerade: true}":                                     datapath.ModeEBPF,
		"bpf: {masquerade: true, hostLegacyRouting: true}":            datapath.ModeKubeProxyReplacement,
		"enableIPv4Masquerade: false":                                 datapath.ModeEBPF,
		"enableIPv4Masquerade: false\nbpf: {hostLegacyRouting: true}": datapath.ModeKubeProxyReplacement,
		"bpf: {allowFallback: true}":                                  datapath.ModeKubeProxyReplacement,
	} {
		got, err := Load(write(t, minimal+"kubeProxyReplacement: true\n"+yaml), nil)
		if err != nil || got.Mode() != want {
			t.Errorf("%s: mode %q, %v; want %q", yaml, got.Mode(), err, want)
		}
	}
}

func TestModeFollowsReplacement(t *testing.T) {
	for word, want := range map[string]datapath.Mode{
		"true": datapath.ModeKubeProxyReplacement, "strict": datapath.ModeKubeProxyReplacement,
		"false": datapath.ModeKubeProxy, "disabled": datapath.ModeKubeProxy,
	} {
		got, err := Load(write(t, minimal+"kubeProxyReplacement: "+word), nil)
		if err != nil || got.Mode() != want {
			t.Errorf("%s: mode %q, %v; want %q", word, got.Mode(), err, want)
		}
	}
}
