package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
)

// TestLabNodeFollowsTheNode has the object made, left alone, and made anew after somebody removed it or the node changed.
func TestLabNodeFollowsTheNode(t *testing.T) {
	node := kubeNode("n1", "192.0.2.1", "10.0.1.0/24")
	node.UID = "u1"
	cluster := fake.NewClientset(node)
	objects, requests := crdtest.NewClient()
	k := startKubeWith(t, apiserver.Server{Kubernetes: cluster, Objects: objects})
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
	k, err := newKube(apiserver.Server{Kubernetes: fake.NewClientset(), Objects: objects}, "n1", "")
	if err != nil {
		t.Fatal(err)
	}
	err = labNode{objects: objects.Nodes, kube: k, nodeName: "n1"}.apply(t.Context())
	if !strings.Contains(fmt.Sprint(err), "on its way") {
		t.Errorf("without a list: %v", err)
	}
}

// TestRefusedLabNodeIsTriedLess: an API server that takes no LabNode is not asked ten times a second for one by every node.
func TestRefusedLabNodeIsTriedLess(t *testing.T) {
	node := kubeNode("n1", "192.0.2.1", "")
	objects, requests := crdtest.NewClient()
	tries := 0
	requests.PrependReactor("create", crd.LabNodes, func(clienttesting.Action) (bool, runtime.Object, error) {
		tries++
		return true, nil, errors.New("not allowed")
	})
	k := startKubeWith(t, apiserver.Server{Kubernetes: fake.NewClientset(node), Objects: objects})
	k.pool = "10.0.0.0/12"
	ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	var told []string
	_, err := k.awaitSelf(ctx, labNode{objects: objects.Nodes, kube: k, nodeName: "n1"}, func(err error) { told = append(told, err.Error()) }, quiet())
	if err == nil || tries < 2 || tries > 5 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "not allowed") {
		t.Errorf("told %q", told)
	}
}

// TestPodCIDROfAPool: it is the node's when the operator has given it to the Node that is there now.
func TestPodCIDROfAPool(t *testing.T) {
	node := kubeNode("n1", "192.0.2.1", "10.244.0.0/24") // which is nobody's where there is a pool
	node.UID = "u2"
	cluster := fake.NewClientset(node)
	before := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: crd.LabNodeSpec{NodeUID: "u1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}}}
	objects, _ := crdtest.NewClient(before)
	k := startKubeWith(t, apiserver.Server{Kubernetes: cluster, Objects: objects})
	k.pool = "10.0.0.0/12"
	if s, err := k.self("n1"); err == nil || !strings.Contains(err.Error(), "no LabNode of its own yet") {
		t.Errorf("what a node of the same name had: %v, %v", s, err)
	}
	l := labNode{objects: objects.Nodes, kube: k, nodeName: "n1"}
	s, err := k.awaitSelf(t.Context(), l, func(error) {}, quiet())
	if err != nil || s.PodCIDR.String() != "10.0.1.0/24" {
		t.Errorf("after it has taken it up: %v, %v", s, err)
	}
	nodes, err := k.nodeList()
	if err != nil || fmt.Sprint(nodes[0].PodCIDRs) != "[10.0.1.0/24]" {
		t.Errorf("to others it has %+v, %v", nodes, err)
	}

	for _, tc := range []struct {
		change func(*crd.LabNode)
		want   string
	}{
		{func(n *crd.LabNode) { n.Spec.PodCIDRs = nil }, "ipam.operator.clusterPoolIPv4PodCIDRList (10.0.0.0/12)"},
		{func(n *crd.LabNode) { n.Spec.PodCIDRs, n.Status.Problem = nil, "the pool is used up" }, "the pool is used up"},
	} {
		own := before.DeepCopy()
		own.Spec.NodeUID = "u2"
		tc.change(own)
		if _, err := selfInPool(node, own, k.pool); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", own, err, tc.want)
		}
	}
	// What the operator has not given, the agent does not write.
	if got := l.spec(node, nil); got.PodCIDRs != nil {
		t.Errorf("a new object has %v", got.PodCIDRs)
	}
}
