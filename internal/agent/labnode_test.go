package agent

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
)

// TestLabNodeFollowsTheNode has the object made, left alone, and made anew after somebody removed it or the node changed.
func TestLabNodeFollowsTheNode(t *testing.T) {
	node := kubeNode("n1", "192.0.2.1", "10.0.1.0/24")
	node.UID = "u1"
	cluster := fake.NewClientset(node)
	objects, requests := crdtest.NewClient()
	k := startKubeWith(t, Server{Kubernetes: cluster, Objects: objects})
	l := labNode{objects: objects.Nodes, kube: k, nodeName: "n1"}
	want := func(when string, want crd.LabNodeSpec) {
		t.Helper()
		if err := l.apply(t.Context()); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		got, err := objects.Nodes.Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil || !sameSpec(got.Spec, want) {
			t.Fatalf("%s there is %+v, %v; want %+v", when, got.Spec, err, want)
		}
		eventually(t, "the cache has it", func() bool { have := k.labNodes.Find("n1"); return have != nil && sameSpec(have.Spec, want) })
	}
	spec := crd.LabNodeSpec{NodeUID: "u1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}}
	want("at first", spec)
	requests.ClearActions()
	if err := l.apply(t.Context()); err != nil || len(requests.Actions()) > 0 {
		t.Errorf("what is right is written again: %v, %v", requests.Actions(), err)
	}

	if err := objects.Nodes.Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cache knows that it is gone", func() bool { return k.labNodes.Find("n1") == nil })
	want("after it was removed", spec)

	node = kubeNode("n1", "192.0.2.9", "10.0.1.0/24")
	node.UID = "u1"
	if _, err := cluster.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	spec.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	eventually(t, "the node has its address", func() bool { n, err := k.nodes.Get("n1"); return err == nil && internalIP(n) == spec.Addresses[0] })
	want("at another address", spec)
}

func TestLabNodeBeforeItsList(t *testing.T) {
	objects, _ := crdtest.NewClient()
	k, err := newKube(Server{Kubernetes: fake.NewClientset(), Objects: objects}, "n1", "")
	if err != nil {
		t.Fatal(err)
	}
	err = labNode{objects: objects.Nodes, kube: k, nodeName: "n1"}.apply(t.Context())
	if !strings.Contains(fmt.Sprint(err), "on its way") {
		t.Errorf("without a list: %v", err)
	}
}
