package agent

import (
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/datapath"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// kubeNode is a node as the API server has it. Empty arguments are left out.
func kubeNode(name, ip, podCIDR string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if ip != "" {
		n.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: name},
			{Type: corev1.NodeExternalIP, Address: "203.0.113.9"},
			{Type: corev1.NodeInternalIP, Address: "fd00::9"},
			{Type: corev1.NodeInternalIP, Address: ip},
		}
	}
	if podCIDR != "" {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = podCIDR, []string{"fd00:1::/64", podCIDR}
	}
	return n
}

func TestSelfFromNode(t *testing.T) {
	onlyOld := kubeNode("n1", "192.0.2.1", "")
	onlyOld.Spec.PodCIDR = "10.0.1.0/24"
	for _, tc := range []struct {
		name    string
		node    *corev1.Node
		want    self
		wantErr string
	}{
		{"whole", kubeNode("n1", "192.0.2.1", "10.0.1.0/24"), self{netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("10.0.1.0/24")}, ""},
		{"podCIDR alone", onlyOld, self{netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("10.0.1.0/24")}, ""},
		{"host bits", kubeNode("n1", "192.0.2.1", "10.0.1.9/24"), self{netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("10.0.1.0/24")}, ""},
		{"no podCIDR", kubeNode("n1", "192.0.2.1", ""), self{}, "--allocate-node-cidrs"},
		{"no address", kubeNode("n1", "", "10.0.1.0/24"), self{}, "no IPv4 InternalIP"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := selfFrom(tc.node)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("got %v, want an error with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

func TestStrippedNodeSaysTheSame(t *testing.T) {
	full := kubeNode("n1", "192.0.2.1", "10.0.1.0/24")
	full.Labels = map[string]string{"a": "b"}
	full.Status.Images = []corev1.ContainerImage{{Names: []string{"x"}}}
	full.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}, {Type: corev1.NodeNetworkUnavailable, Reason: "x"}}
	obj, err := stripNode(full)
	if err != nil {
		t.Fatal(err)
	}
	stripped := obj.(*corev1.Node)
	if !sameToUs(full, stripped) {
		t.Error("address or podCIDR was lost")
	}
	if stripped.Labels != nil || stripped.Status.Images != nil {
		t.Error("labels or images stayed in memory")
	}
	if len(stripped.Status.Conditions) != 1 || stripped.Status.Conditions[0].Reason != "x" {
		t.Errorf("conditions %v, want the network's only", stripped.Status.Conditions)
	}
}

func TestOutsideNative(t *testing.T) {
	nodes := []datapath.Node{
		{Name: "a", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}},
		{Name: "b", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}},
		{Name: "c", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/7")}},
		{Name: "d"},
	}
	got := outsideNative(nodes, netip.MustParsePrefix("10.0.0.0/8"))
	if want := []string{"b (192.168.1.0/24)", "c (10.0.0.0/7)"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
