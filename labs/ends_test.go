package labs

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs/passport"
	"wirelab.dev/wirelab/profiles"
)

// TestServicesByAddress: a headless Service has no address, and one of two families has two.
func TestServicesByAddress(t *testing.T) {
	service := func(name string, ips ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{ClusterIPs: ips}}
	}
	l := &Lab{Kube: &kube.Client{Interface: fake.NewClientset(service("demo", "10.96.0.7", "fd00::7"), service("headless", "None"), service("elsewhere"))}}
	demo := types.NamespacedName{Namespace: "default", Name: "demo"}
	want := map[netip.Addr]types.NamespacedName{netip.MustParseAddr("10.96.0.7"): demo, netip.MustParseAddr("fd00::7"): demo}
	if got, err := l.ServicesByAddress(t.Context()); err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

// TestNodePortEnd: a node's port that a Service has leads to that, by the node's address, and another to the node itself.
func TestNodePortEnd(t *testing.T) {
	l := &Lab{Kube: &kube.Client{Interface: fake.NewClientset(
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 8080, NodePort: 32000}}},
		},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "inside"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.8", Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}},
		},
	)}}
	node := probeEnd{End: passport.End{Name: "l-worker", Kind: passport.Node, Node: "l-worker"}, addr: netip.MustParseAddr("172.18.0.3")}
	service := passport.End{Name: "default/demo", Kind: passport.Service, Node: "l-worker"}
	for _, tt := range []struct {
		port     uint16
		protocol string
		want     passport.End
	}{
		{32000, "", service},
		{32000, passport.TCP, service},
		{32000, passport.UDP, node.End},
		{8080, passport.TCP, node.End},
	} {
		got, err := l.nodePortEnd(t.Context(), node, tt.port, tt.protocol)
		if err != nil || got.End != tt.want || got.addr != node.addr {
			t.Errorf("%d %s: %+v at %s, %v; want %+v at the node's address", tt.port, tt.protocol, got.End, got.addr, err, tt.want)
		}
	}
}

// TestNobodyHas: what is inside a range of the lab's own is nobody's, what is outside may be somebody's.
func TestNobodyHas(t *testing.T) {
	p, err := profiles.Load("ebpf", profiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"10.96.0.77": "cluster.serviceSubnet", "10.0.9.9": "network.ipv4NativeRoutingCIDR", "8.8.8.8": ""} {
		if got := nobodyHas(netip.MustParseAddr(addr), p); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

func TestPortOfTargetIsANumber(t *testing.T) {
	for target, want := range map[string]string{
		"demo:http": `the port "http" is no number`, "demo:0": `the port "0" is no number`, "demo:": `the port "" is no number`, ":80": "names no target",
	} {
		if _, _, err := splitTarget(target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", target, err, want)
		}
	}
}
