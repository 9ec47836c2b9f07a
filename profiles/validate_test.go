package profiles

import (
	"strings"
	"testing"
)

func TestContradictions(t *testing.T) {
	tests := []struct {
		name, body string
		want       []problem
	}{
		{
			"native routing with masquerade and no CIDR", "network:\n  ipv4NativeRoutingCIDR: \"\"\n",
			[]problem{{2, "network.ipv4NativeRoutingCIDR", "set it to a CIDR around the pod subnet, such as 10.0.0.0/8, or network.enableIPv4Masquerade to false", ""}},
		},
		{
			"CIDR around everything", "network:\n  ipv4NativeRoutingCIDR: 0.0.0.0/0\n",
			[]problem{{2, "network.ipv4NativeRoutingCIDR", "nothing would be masqueraded", ""}},
		},
		{
			"CIDR beside the pods", "network:\n  ipv4NativeRoutingCIDR: 10.128.0.0/16\n",
			[]problem{{2, "network.ipv4NativeRoutingCIDR", "10.0.0.0/12 is not inside network.ipv4NativeRoutingCIDR 10.128.0.0/16", ""}},
		},
		{
			"CIDR inside the pods", "network:\n  ipv4NativeRoutingCIDR: 10.0.0.0/13\n",
			[]problem{{2, "network.ipv4NativeRoutingCIDR", "10.0.0.0/12 is not inside network.ipv4NativeRoutingCIDR 10.0.0.0/13", ""}},
		},
		{
			"CIDR beside the pods of Kubernetes", "network:\n  ipv4NativeRoutingCIDR: 10.128.0.0/16\n  ipam:\n    mode: kubernetes\n",
			[]problem{{2, "network.ipv4NativeRoutingCIDR", "does not contain the pod subnet 10.244.0.0/16", ""}},
		},
		{
			"pool over Services", "network:\n  ipam:\n    operator:\n      clusterPoolIPv4PodCIDRList: [10.96.0.0/12]\n",
			[]problem{{4, poolKey, "the pool 10.96.0.0/12 (" + poolKey + ") and the Service subnet 10.96.0.0/16 (cluster.serviceSubnet) overlap", ""}},
		},
		{
			"pool around Services", "network:\n  ipam:\n    operator:\n      clusterPoolIPv4PodCIDRList: [10.0.0.0/16, 10.200.0.0/16]\n",
			[]problem{{4, poolKey, "the pod subnet 10.0.0.0/8 and the Service subnet 10.96.0.0/16 overlap", ""}},
		},
		{
			"pool beside the pod subnet", "cluster:\n  podSubnet: 10.32.0.0/12\nnetwork:\n  ipam:\n    operator:\n      clusterPoolIPv4PodCIDRList: [10.64.0.0/16]\n",
			[]problem{{2, podSubnetKey, "does not contain 10.64.0.0/16 of " + poolKey + ", so kube-proxy would take those pods for strangers", ""}},
		},
		{
			"mask wider than the pool", "network:\n  ipam:\n    operator:\n      clusterPoolIPv4PodCIDRList: [10.0.0.0/16]\n      clusterPoolIPv4MaskSize: 15\n",
			[]problem{
				{4, poolKey + "[0]", "10.0.0.0/16 has no room for a node, each of which gets a /15 (network.ipam.operator.clusterPoolIPv4MaskSize)", ""},
			},
		},
		{
			"pool too small", "network:\n  ipam:\n    operator:\n      clusterPoolIPv4PodCIDRList: [10.0.0.0/23]\n",
			[]problem{{4, poolKey, "room for 2 nodes (each gets a /24), but the cluster has 3", ""}},
		},
		{
			"no pool", "network:\n  ipam:\n    operator:\n      clusterPoolIPv4PodCIDRList: []\n",
			[]problem{{4, poolKey, "is empty, and network.ipam.mode is cluster-pool", ""}},
		},
		{
			"pool that is none, or twice", "network:\n  ipam:\n    operator:\n      clusterPoolIPv4PodCIDRList: [10.0.0.0/16, 10.1.0.0, 10.0.3.0/24, \"fd00::/64\"]\n",
			[]problem{
				{4, poolKey + "[1]", "is not an IPv4 CIDR", ""}, {4, poolKey + "[2]", "overlaps 10.0.0.0/16, which is in the list, too", ""},
				{4, poolKey + "[3]", "is not IPv4", ""},
			},
		},
		{
			"pods over Services", "cluster:\n  podSubnet: 10.96.128.0/17\n",
			[]problem{{2, "cluster.podSubnet", "the pod subnet 10.96.128.0/17 and the Service subnet 10.96.0.0/16 overlap", ""}},
		},
		{
			"Services over pods", "cluster:\n  serviceSubnet: 10.0.0.0/12\n",
			[]problem{{2, "cluster.serviceSubnet", "overlap; move one of them", ""}},
		},
		{
			"Services too wide", "cluster:\n  serviceSubnet: 172.16.0.0/11\n",
			[]problem{{2, "cluster.serviceSubnet", "write 172.0.0.0/11", ""}},
		},
		{
			"Services too narrow", "cluster:\n  serviceSubnet: 172.20.0.0/29\n",
			[]problem{{2, "cluster.serviceSubnet", "outside of what Kubernetes takes, a /12 to a /28", ""}},
		},
		{
			"pods in loopback", "cluster:\n  podSubnet: 127.16.0.0/16\n",
			[]problem{{2, "cluster.podSubnet", "overlaps 127.0.0.0/8 (loopback)", ""}},
		},
		{
			"pods in link-local", "cluster:\n  podSubnet: 169.254.0.0/16\n",
			[]problem{{2, "cluster.podSubnet", "(link-local)", ""}},
		},
		{"no pod subnet", "cluster:\n  podSubnet: \"\"\n", []problem{{2, "cluster.podSubnet", "is empty", ""}}},
		{
			"pods too many nodes", "cluster:\n  podSubnet: 10.244.0.0/23\n",
			[]problem{{2, "cluster.podSubnet", "room for 2 nodes (each gets a /24), but the cluster has 3", ""}},
		},
		{
			"pods in less than a node's", "cluster:\n  podSubnet: 10.244.0.0/25\n",
			[]problem{{2, "cluster.podSubnet", "no room for a node", ""}},
		},
		{
			"pods wider than a /8", "cluster:\n  podSubnet: 64.0.0.0/7\nnetwork:\n  ipv4NativeRoutingCIDR: 64.0.0.0/6\n",
			[]problem{{2, "cluster.podSubnet", "wider than a /8", ""}},
		},
		{
			"kube-proxy and its replacement", "network:\n  kubeProxyReplacement: true\n",
			[]problem{{2, "network.kubeProxyReplacement", "would both serve Services; set the first to none or the second to false", ""}},
		},
		{
			"kube-proxy and its replacement in older words", "network:\n  kubeProxyReplacement: strict\n",
			[]problem{{2, "network.kubeProxyReplacement", "kube-proxy (cluster.kubeProxyMode iptables)", ""}},
		},
		{
			"kube-proxy kept beside its replacement", "network:\n  kubeProxyReplacement: true\ncluster:\n  kubeProxyMode: iptables\n",
			[]problem{{4, "cluster.kubeProxyMode", "would both serve Services", ""}},
		},
		{
			"nobody to serve Services", "cluster:\n  kubeProxyMode: none\n",
			[]problem{{2, "cluster.kubeProxyMode", "nothing would serve Services", ""}},
		},
		{
			"nobody to serve Services in older words", "cluster:\n  kubeProxyMode: none\nnetwork:\n  kubeProxyReplacement: disabled\n",
			[]problem{{4, "network.kubeProxyReplacement", "nothing would serve Services", ""}},
		},
		{
			"masquerade in BPF beside kube-proxy", "network:\n  bpf:\n    masquerade: true\n",
			[]problem{{3, "network.bpf.masquerade", "network.bpf.masquerade needs network.kubeProxyReplacement: where kube-proxy translates Services", ""}},
		},
		{
			"labels", "network:\n  labels:\n    include:\n    - app\n    - app.kubernetes.io/*\n    - \"*app\"\n    exclude:\n    - a b\n    - x\n    - x\n    - \"*\"\n",
			[]problem{
				{6, "network.labels.include[2]", `"*app" is not the key of a label`, ""},
				{8, "network.labels.exclude[0]", `"a b" is not the key of a label`, ""},
				{10, "network.labels.exclude[2]", "x is listed twice", ""},
			},
		},
		{
			"device names", "network:\n  devices:\n  - eth0\n  - lo\n  - eth0\n  - lab_host\n  - lxc12345678\n  - a/b\n  - \"\"\n",
			[]problem{
				{4, "network.devices[1]", "lo does not lead out", ""},
				{5, "network.devices[2]", "eth0 is listed twice", ""},
				{6, "network.devices[3]", "lab_host does not lead out", ""},
				{7, "network.devices[4]", "lxc12345678 does not lead out", ""},
				{8, "network.devices[5]", `"a/b" is not a device name`, ""},
				{9, "network.devices[6]", `"" is not a device name`, ""},
			},
		},
		{
			"checks to skip", "verify:\n  skip: [dns, dns, \"dns now\", \"[dns\"]\n",
			[]problem{{2, "verify.skip[1]", "dns is listed twice", ""}, {2, "verify.skip[2]", "is not the name of a check", ""}, {2, "verify.skip[3]", "is not the name of a check", ""}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expectBody(t, tt.body, tt.want)
		})
	}
}

func TestMirrors(t *testing.T) {
	tests := []struct{ host, endpoint, key, part string }{
		{"registry.example", "http://192.168.1.5:5000", "", ""},
		{"registry.example:5000", "https://mirror.example/v2/hub", "", ""},
		{"localhost:5000", "http://172.18.0.1:5000", "", ""},
		{"https://registry.example", "http://192.168.1.5", "host", "write the host alone"},
		{"registry.example/team", "http://192.168.1.5", "host", "is not a registry as it stands in image names"},
		{"\"\"", "http://192.168.1.5", "host", "is not a registry as it stands in image names"},
		{"registry.example", "192.168.1.5:5000", "endpoint", "is not a URL"},
		{"registry.example", "mirror.example", "endpoint", "does not start with http:// or https://"},
		{"registry.example", "ftp://mirror.example", "endpoint", "does not start with http:// or https://"},
		{"registry.example", "http://", "endpoint", "names no host"},
		{"registry.example", "http://mirror.example:0", "endpoint", "has no usable port"},
		{"registry.example", "http://mirror.example:99999", "endpoint", "has no usable port"},
		{"registry.example", "http://me:secret@mirror.example", "endpoint", "leave out user"},
		{"registry.example", "http://mirror.example?x=y", "endpoint", "leave out user, ? and #"},
		{"registry.example", "http://localhost:5000", "endpoint", "is the node itself"},
		{"registry.example", "http://127.0.0.1:5000", "endpoint", "is the node itself"},
		{"registry.example", "http://0.0.0.0:5000", "endpoint", "is the node itself"},
	}
	for _, tt := range tests {
		t.Run(tt.host+" "+tt.endpoint, func(t *testing.T) {
			body := "cluster:\n  registryMirrors:\n  - host: " + tt.host + "\n    endpoint: " + tt.endpoint + "\n"
			var want []problem
			if tt.key != "" {
				line := map[string]int{"host": 3, "endpoint": 4}[tt.key]
				want = []problem{{line, "cluster.registryMirrors[0]." + tt.key, tt.part, ""}}
			}
			expectBody(t, body, want)
			if _, err := Parse("mine.yaml", []byte(head+body), Options{}); err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the message tells a password: %v", err)
			}
		})
	}
	expectBody(t, "cluster:\n  registryMirrors:\n  - {host: a.example, endpoint: 'http://b.example'}\n  - {host: a.example, endpoint: 'http://c.example'}\n",
		[]problem{{4, "cluster.registryMirrors[1].host", "a.example has a mirror already", ""}})
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "kubeproxy", "my-lab-2", strings.Repeat("n", 49)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", "a-", "My-Lab", "my_lab", "my.lab", "my lab", strings.Repeat("n", 50), "läb"} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	expect(t, func() error {
		_, err := Parse("mine.yaml", []byte(strings.Replace(head, "mine", "My_Lab", 1)), Options{})
		return err
	}(), problem{3, "metadata.name", `"My_Lab" is not a name of lower-case letters`, ""})
}
