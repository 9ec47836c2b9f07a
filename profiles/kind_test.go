package profiles

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

// kindConfig decodes what KindConfig writes as strictly as kind does.
func kindConfig(t *testing.T, p *Profile, target Target) v1alpha4.Cluster {
	t.Helper()
	data, err := p.KindConfig(target)
	if err != nil {
		t.Fatal(err)
	}
	var config v1alpha4.Cluster
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	return config
}

func TestKindConfig(t *testing.T) {
	got := kindConfig(t, parse(t, head, Options{}), Target{})
	want := v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Name:     "mine",
		Nodes:    []v1alpha4.Node{{Role: "control-plane"}, {Role: "worker"}, {Role: "worker"}},
		Networking: v1alpha4.Networking{
			IPFamily: "ipv4", PodSubnet: "10.0.0.0/12", ServiceSubnet: "10.96.0.0/16",
			DisableDefaultCNI: true, KubeProxyMode: "iptables",
		},
		KubeadmConfigPatches: []string{
			"kind: KubeletConfiguration\nfailCgroupV1: false\n",
			"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nencryptionAlgorithm: ECDSA-P256\n",
			"kind: InitConfiguration\nnodeRegistration:\n  taints: []\n",
		},
		KubeadmConfigPatchesJSON6902: []v1alpha4.PatchJSON6902{
			{Group: "kubeadm.k8s.io", Version: "v1beta4", Kind: "ClusterConfiguration", Patch: `[
  {"op": "add", "path": "/controllerManager/extraArgs/-", "value": {"name": "kube-api-qps", "value": "200"}},
  {"op": "add", "path": "/controllerManager/extraArgs/-", "value": {"name": "kube-api-burst", "value": "400"}},
  {"op": "add", "path": "/controllerManager/extraArgs/-", "value": {"name": "leader-elect-retry-period", "value": "1s"}}
]
`},
			{Group: "kubeadm.k8s.io", Version: "v1beta4", Kind: "InitConfiguration", Patch: `[
  {"op": "add", "path": "/skipPhases/-", "value": "kubelet-finalize"}
]
`},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKindConfigFollowsTheProfile(t *testing.T) {
	p := parse(t, head, Options{Set: []string{
		"cluster.workers=1", "cluster.image=of/profile:1", "cluster.apiServerPort=6443", "cluster.removeControlPlaneTaint=false",
		"cluster.podSubnet=10.1.0.0/16", "cluster.serviceSubnet=10.2.0.0/16", "cluster.registryMirrors=a.example=http://b.example",
	}})
	got := kindConfig(t, p, Target{Name: "second"})
	if got.Name != "second" || len(got.Nodes) != 2 || got.Nodes[0].Image != "of/profile:1" || got.Networking.APIServerPort != 6443 {
		t.Errorf("got %+v", got)
	}
	if got.Networking.PodSubnet != "10.1.0.0/16" || got.Networking.ServiceSubnet != "10.2.0.0/16" {
		t.Errorf("got %+v", got.Networking)
	}
	if strings.Contains(strings.Join(got.KubeadmConfigPatches, ""), "taints") {
		t.Errorf("the taint is removed against the profile: %q", got.KubeadmConfigPatches)
	}
	for i, version := range []string{"version = 3\n", "version = 2\n"} {
		patch := got.ContainerdConfigPatches[i]
		if !strings.HasPrefix(patch, version) || !strings.Contains(patch, `config_path = "/etc/containerd/certs.d"`) {
			t.Errorf("containerd patch %d is %q", i, patch)
		}
	}
	if given := kindConfig(t, p, Target{Image: "of/caller:2"}); given.Nodes[0].Image != "of/caller:2" {
		t.Errorf("the caller's image does not count: %+v", given.Nodes)
	}
}

func TestWithoutKubeProxy(t *testing.T) {
	p := parse(t, strings.Replace(head, "kubeproxy", "kubeproxy-replacement", 1), Options{})
	if mode := kindConfig(t, p, Target{}).Networking.KubeProxyMode; mode != "none" {
		t.Errorf("kind is told to run kube-proxy in mode %q, want none", mode)
	}
	values := p.Values(Install{Name: "second"})
	if values["kubeProxyReplacement"] != true || values["k8sServiceHost"] != "second-control-plane" || values["k8sServicePort"] != 6443 {
		t.Errorf("the chart is given replacement %v and API server %v:%v", values["kubeProxyReplacement"], values["k8sServiceHost"], values["k8sServicePort"])
	}
}

// kind removes the taint of a cluster's only node, and fails when there is none to remove.
func TestKindConfigOfOneNode(t *testing.T) {
	got := kindConfig(t, parse(t, head, Options{Set: []string{"cluster.workers=0"}}), Target{})
	if len(got.Nodes) != 1 || strings.Contains(strings.Join(got.KubeadmConfigPatches, ""), "taints") {
		t.Errorf("got %+v", got)
	}
}

func TestValues(t *testing.T) {
	p := parse(t, head, Options{Set: []string{"network.devices=eth0,eth1", "network.mtu=1400"}})
	want := map[string]any{
		"routingMode": "native", "tunnelProtocol": "vxlan", "tunnelPort": 0, "autoDirectNodeRoutes": true, "ipv4NativeRoutingCIDR": "10.0.0.0/8",
		"kubeProxyReplacement": false, "enableIPv4Masquerade": true, "installNoConntrackIptablesRules": true,
		"bpf":  map[string]any{"monitorAggregation": "none", "monitorPayload": 128, "masquerade": false, "hostLegacyRouting": false, "allowFallback": false, "ctMax": 65536},
		"ipam": map[string]any{"mode": "cluster-pool", "operator": map[string]any{"clusterPoolIPv4PodCIDRList": []any{"10.0.0.0/12"}, "clusterPoolIPv4MaskSize": 24}},
		"MTU":  1400, "devices": []any{"eth0", "eth1"}, "labels": map[string]any{"include": []any{}, "exclude": []any{}},
		"flows":          map[string]any{"capacity": 4096, "metrics": []any{}, "relay": map[string]any{"enabled": false, "tls": false, "agentPort": 4244}},
		"debug":          map[string]any{"enabled": true, "verbose": "datapath"},
		"cluster":        map[string]any{"name": "mine"},
		"k8sServiceHost": "mine-control-plane", "k8sServicePort": 6443,
	}
	if diff := cmp.Diff(want, p.Values(Install{})); diff != "" {
		t.Error(diff)
	}
	got := p.Values(Install{Name: "second", APIServerHost: "10.0.0.1", APIServerPort: 443, Agent: Image{"wirelab/agent", "abc"}})
	want["cluster"] = map[string]any{"name": "second"}
	want["k8sServiceHost"], want["k8sServicePort"] = "10.0.0.1", 443
	want["image"] = map[string]any{"repository": "wirelab/agent", "tag": "abc"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	none := parse(t, head, Options{Set: []string{"network.ipv4NativeRoutingCIDR=", "network.enableIPv4Masquerade=false"}})
	if cidr := none.Values(Install{})["ipv4NativeRoutingCIDR"]; cidr != "" {
		t.Errorf("no native-routing CIDR is %v, want the empty text", cidr)
	}
}

func TestDiff(t *testing.T) {
	a := parse(t, head, Options{})
	b := parse(t, head, Options{Set: []string{"demo.port=81", "network.devices=eth0", "cluster.registryMirrors=a.example=http://b.example", "verify.timeout=90s"}})
	b.Metadata.Name = "other"
	want := []Change{
		{"cluster.registryMirrors", "[]", "[a.example=http://b.example]", ""},
		{"network.devices", "[]", "[eth0]", ""},
		{"demo.port", "8080", "81", ""},
		{"verify.timeout", "1m", "1m30s", ""},
	}
	if diff := cmp.Diff(want, Diff(a, b)); diff != "" {
		t.Error(diff)
	}
}

// TestValuesFitTheChart reads the chart's schema as a file: this package imports nothing
// of ours.
func TestValuesFitTheChart(t *testing.T) {
	schema := compileSchema(t, readFileOrFail(t, "../charts/wirelab/values.schema.json"))
	for _, set := range [][]string{
		nil,
		{"network.ipv4NativeRoutingCIDR=", "network.enableIPv4Masquerade=false", "network.autoDirectNodeRoutes=false"},
		{"cluster.kubeProxyMode=none", "network.kubeProxyReplacement=true"},
		{"network.mtu=1400", "network.devices=eth0,eth1", "network.bpf.monitorAggregation=maximum", "network.debug.verbose="},
	} {
		values := parse(t, head, Options{Set: set}).Values(Install{Agent: Image{"wirelab/agent", "abc"}})
		if err := schema.Validate(asJSON(t, values)); err != nil {
			t.Errorf("with %q: %v", set, err)
		}
		values["dubug"] = true
		if schema.Validate(asJSON(t, values)) == nil {
			t.Error("the chart's schema allows an unknown key, so it proves nothing here")
		}
	}
}
