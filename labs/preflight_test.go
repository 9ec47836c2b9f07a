package labs

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/profiles"
)

// bareNode is a node that can take the network.
func bareNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.1.0.0/24"}},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{KernelVersion: "6.8.0-31-generic", OperatingSystem: "linux", Architecture: runtime.GOARCH},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.0.2"}},
			Images:     []corev1.ContainerImage{{Names: []string{"docker.io/wirelab/agent:1"}}},
		},
	}
}

func daemonOf(name, mounts string) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: name}}
	if mounts != "" {
		d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: mounts}}}}
	}
	return d
}

// installed is what tells that a network is there, and its settings.
func installed(settings ...string) []k8sruntime.Object {
	return []k8sruntime.Object{
		daemonOf(agentName, "/etc/cni/net.d"),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: configName}, Data: map[string]string{configFile: strings.Join(settings, "\n")}},
	}
}

func serviceAt(name, ip string, nodePort int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{NodePort: nodePort}}},
	}
}

// TestPreflight has a cluster that can take the network, and one thing in the way at a time.
func TestPreflight(t *testing.T) {
	node := func(change func(*corev1.Node)) *corev1.Node { n := bareNode(); change(n); return n }
	kubernetesIPAM := []string{"network.ipam.mode=kubernetes", "network.ipv4NativeRoutingCIDR=10.1.0.0/16", "cluster.podSubnet=10.1.0.0/16"}
	for _, tt := range []struct {
		name, profile string
		set           []string
		node          *corev1.Node // nil: a bare one
		more          []k8sruntime.Object
		denied        bool
		say           []string // nothing: it passes
	}{
		{name: "bare", profile: "ebpf"},
		{name: "with kube-proxy", profile: "kubeproxy", more: []k8sruntime.Object{daemonOf("kube-proxy", "/lib/modules")}},
		{name: "podCIDR of Kubernetes", profile: "ebpf", set: kubernetesIPAM},
		{name: "k3s", profile: "kubeproxy", node: node(func(n *corev1.Node) { n.Status.NodeInfo.KubeletVersion = "v1.36.1+k3s1" })},
		{name: "up to date already", profile: "ebpf", more: []k8sruntime.Object{daemonOf(agentName, "/etc/cni/net.d")}, node: node(func(n *corev1.Node) {
			n.Status.Conditions[0].Status = corev1.ConditionTrue
		})},
		{name: "another network", profile: "ebpf", more: []k8sruntime.Object{daemonOf("other", "/etc/cni/net.d/")}, say: []string{"DaemonSet kube-system/other", "uninstall that"}},
		{name: "a network without a DaemonSet", profile: "ebpf", node: node(func(n *corev1.Node) {
			n.Status.Conditions[0].Status = corev1.ConditionTrue
		}), say: []string{"node n1 is Ready", "/etc/cni/net.d"}},
		{name: "kube-proxy where it is replaced", profile: "ebpf", more: []k8sruntime.Object{daemonOf("kube-proxy", "")}, say: []string{"delete daemonset kube-proxy"}},
		{name: "no kube-proxy", profile: "kubeproxy", say: []string{"no kube-proxy", "take profile ebpf"}},
		{name: "old kernel", profile: "ebpf", node: node(func(n *corev1.Node) { n.Status.NodeInfo.KernelVersion = "5.10.0-30-amd64" }), say: []string{"kernel 5.10.0-30-amd64", "5.14"}},
		{name: "no kernel version", profile: "ebpf", node: node(func(n *corev1.Node) { n.Status.NodeInfo.KernelVersion = "" }), say: []string{`kernel ""`}},
		{name: "other platform", profile: "ebpf", node: node(func(n *corev1.Node) { n.Status.NodeInfo.Architecture = "riscv64" }), say: []string{"linux/riscv64"}},
		{name: "no podCIDR", profile: "ebpf", set: kubernetesIPAM, node: node(func(n *corev1.Node) { n.Spec.PodCIDRs = nil }), say: []string{"no IPv4 podCIDR", "--pod-network-cidr"}},
		{name: "podCIDR outside", profile: "ebpf", set: kubernetesIPAM, node: node(func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.2.0.0/24"} }), say: []string{"10.2.0.0/24", "outside of network.ipv4NativeRoutingCIDR 10.1.0.0/16"}},
		{name: "node in the pool", profile: "ebpf", node: node(func(n *corev1.Node) { n.Status.Addresses[0].Address = "10.3.0.4" }), say: []string{"10.3.0.4", "in the pods' pool 10.0.0.0/12"}},
		{name: "Service in the pool", profile: "ebpf", more: []k8sruntime.Object{serviceAt("kubernetes", "10.0.0.1", 0)}, say: []string{"Service default/kubernetes is 10.0.0.1"}},
		{name: "no image", profile: "ebpf", node: node(func(n *corev1.Node) { n.Status.Images = nil }), say: []string{"no image wirelab/agent:1", "lab install --images DIR ebpf"}},
		{name: "demo's name", profile: "ebpf", more: []k8sruntime.Object{serviceAt("demo", "10.96.0.9", 0)}, say: []string{"service default/demo is not lab's"}},
		{name: "demo's name, without a demo", profile: "ebpf", set: []string{"demo.enabled=false"}, more: []k8sruntime.Object{serviceAt("demo", "10.96.0.9", 0)}},
		{name: "node port", profile: "ebpf", set: []string{"demo.nodePort=31999"}, more: []k8sruntime.Object{serviceAt("web", "10.96.0.9", 31999)}, say: []string{"Service default/web has node port 31999"}},
		{name: "installed already, and live settings change", profile: "ebpf", set: []string{"network.bpf.monitorAggregation=none"}, more: installed("MTU: 0", "kubeProxyReplacement: true", "bpf: {monitorAggregation: medium}")},
		{name: "installed already, and others would", profile: "ebpf", set: []string{"network.mtu=1400"}, more: installed("MTU: 1300", "kubeProxyReplacement: true"), say: []string{"cannot change network.mtu from 1300 to 1400", "pods keep the MTU", "lab uninstall"}},
		{name: "a lab", profile: "ebpf", more: []k8sruntime.Object{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: recordName}}}, say: []string{"lab up changes it"}},
		{name: "no rights", profile: "ebpf", denied: true, say: []string{"an administrator"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := profiles.Load(tt.profile, profiles.Options{Set: tt.set})
			if err != nil {
				t.Fatal(err)
			}
			if tt.node == nil {
				tt.node = bareNode()
			}
			c := fake.NewClientset(append(tt.more, tt.node)...)
			c.PrependReactor("create", "selfsubjectaccessreviews", func(k8stesting.Action) (bool, k8sruntime.Object, error) {
				return true, &authv1.SelfSubjectAccessReview{Status: authv1.SubjectAccessReviewStatus{Allowed: !tt.denied}}, nil
			})
			err = (&preflight{client: c, profile: p, images: []string{"wirelab/agent:1"}, patience: time.Nanosecond}).run(t.Context(), func(string) {})
			for _, a := range c.Actions() {
				if v := a.GetVerb(); v != "list" && v != "get" && a.GetResource().Resource != "selfsubjectaccessreviews" {
					t.Errorf("preflight does %s of %s", v, a.GetResource().Resource)
				}
			}
			if len(tt.say) == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrUnfit) {
				t.Fatalf("got %v, want %v", err, ErrUnfit)
			}
			for _, s := range tt.say {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "; ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one thing is said to be in the way: %v", err)
			}
		})
	}
}

// TestPreflightWaitsForReports: a kubelet reports images some seconds after they came.
func TestPreflightWaitsForReports(t *testing.T) {
	p, err := profiles.Load("ebpf", profiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bare := bareNode()
	bare.Status.Images = nil
	c := fake.NewClientset(bare)
	c.PrependReactor("create", "selfsubjectaccessreviews", func(k8stesting.Action) (bool, k8sruntime.Object, error) {
		return true, &authv1.SelfSubjectAccessReview{Status: authv1.SubjectAccessReviewStatus{Allowed: true}}, nil
	})
	said := ""
	err = (&preflight{client: c, profile: p, images: []string{"wirelab/agent:1"}, patience: time.Minute}).run(t.Context(), func(s string) {
		said = s
		if _, err := c.CoreV1().Nodes().Update(t.Context(), bareNode(), metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	})
	if err != nil || !strings.Contains(said, "no image wirelab/agent:1") {
		t.Errorf("got %v, and was told %q meanwhile", err, said)
	}
}

func TestAPIServerFor(t *testing.T) {
	c := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: "cluster-info"},
		Data:       map[string]string{"kubeconfig": "apiVersion: v1\nkind: Config\nclusters:\n- name: ''\n  cluster: {server: 'https://cp.example:6443'}\n"},
	})
	if host, port, err := apiServerFor(t.Context(), c); err != nil || host != "cp.example" || port != 6443 {
		t.Errorf("got %s %d %v", host, port, err)
	}
	if _, _, err := apiServerFor(t.Context(), fake.NewClientset()); err == nil || !strings.Contains(err.Error(), "default/kubernetes has no endpoint") {
		t.Errorf("of a cluster that does not say: %v", err)
	}
}
