package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/netnstest"
)

// putPod makes pod default/<name>, or gives it other labels.
func putPod(ctx context.Context, cluster *fake.Clientset, name string, labels []string) error {
	pods := cluster.CoreV1().Pods("default")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"pod-template-hash": name}}}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		pod.Labels[key] = value
	}
	if _, err := pods.Update(ctx, pod, metav1.UpdateOptions{}); err == nil {
		return nil
	}
	_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	return err
}

// putLabNode is what another node's agent tells: its address, podCIDR, and endpoints as ADDRESS=IDENTITY.
func putLabNode(ctx context.Context, objects *crd.Client, line []string) error {
	node := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: line[0]}, Spec: crd.LabNodeSpec{
		Addresses: []netip.Addr{netip.MustParseAddr(line[1])}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix(line[2])},
	}}
	for _, ep := range line[3:] {
		addr, number, _ := strings.Cut(ep, "=")
		id, _ := identity.Parse(number)
		node.Status.Endpoints = append(node.Status.Endpoints, crd.Endpoint{Address: netip.MustParseAddr(addr), Identity: uint32(id), Pod: "ns/p"})
	}
	if _, err := objects.Nodes.Update(ctx, node, metav1.UpdateOptions{}); err == nil {
		return nil
	}
	_, err := objects.Nodes.Create(ctx, node, metav1.CreateOptions{})
	return err
}

func (n *testNode) ipcache() []api.IPCacheEntry {
	n.t.Helper()
	list, err := client.New(n.cfg.Paths.AgentSocket()).IPCache(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

// describe is an error that says what objects there are.
func describe(ctx context.Context, objects *crd.Client) error {
	nodes, err := objects.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ids, err := objects.Identities.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var said []string
	for _, n := range nodes.Items {
		for _, ep := range n.Status.Endpoints {
			said = append(said, fmt.Sprintf("%s has %s %s %d", n.Name, ep.Address, ep.Pod, ep.Identity))
		}
	}
	for _, i := range ids.Items {
		said = append(said, fmt.Sprintf("%s is %s/%s %v", i.Name, i.Spec.Namespace, i.Spec.ServiceAccount, i.Spec.Labels))
	}
	return errors.New(strings.Join(said, ", "))
}

// said is what the cluster answers to line.
func (n *testNode) said(line string) string {
	n.t.Helper()
	n.tell("%s", line)
	_, rest, _ := strings.Cut(n.log.String()[strings.LastIndex(n.log.String(), happened+line):], ": ")
	answer, _, _ := strings.Cut(rest, "\n")
	return answer
}

// TestPodsHaveIdentities: pods of the same labels have one, whatever differs by replica, those of others another; labels
// that change make another; other nodes are told; all of it survives the agent.
func TestPodsHaveIdentities(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	add := func(id, label string) {
		t.Helper()
		n.tell("pod %s %s", id, label)
		if _, err := r.addTold(id, netnstest.New(t, "pod")); err != nil {
			t.Fatal(err)
		}
	}
	add("a", "app=web")
	add("b", "app=web")
	add("c", "app=db")
	of := func() map[string]uint32 {
		ids := map[string]uint32{}
		for _, ep := range n.endpoints() {
			ids[ep.Pod] = ep.Identity
		}
		return ids
	}
	ids := of()
	if ids["a"] != ids["b"] || ids["a"] == ids["c"] || ids["a"] < 256 || ids["c"] < 256 {
		t.Fatalf("identities are %v", ids)
	}
	if eps, err := client.New(n.cfg.Paths.AgentSocket()).LabeledEndpoints(t.Context()); err != nil || len(eps[0].Labels) != 1 || eps[0].Labels["app"] != "web" {
		t.Errorf("endpoints with labels are %v, %v", eps, err)
	}
	if got := n.said("objects"); !strings.Contains(got, "is default/default map[app:web]") || strings.Contains(got, "pod-template-hash") {
		t.Errorf("the objects are %s", got)
	}
	told := func() bool {
		objects := n.said("objects")
		for _, ep := range n.endpoints() {
			if !strings.Contains(objects, fmt.Sprintf("n1 has %s default/%s %d", ep.Addr, ep.Pod, ep.Identity)) {
				return false
			}
		}
		return strings.Count(objects, " has ") == len(n.endpoints())
	}
	eventually(t, "other nodes are told", told)

	n.tell("pod b app=db")
	eventually(t, "b has the identity of its new labels", func() bool { return of()["b"] == ids["c"] })
	eventually(t, "other nodes are told of it", told)
	n.tell("pod b app=web")
	eventually(t, "b has its first identity again", func() bool { return of()["b"] == ids["a"] })

	ipcacheHas := func() bool {
		for _, ep := range n.endpoints() {
			if !slices.ContainsFunc(n.ipcache(), func(e api.IPCacheEntry) bool { return e.Prefix == single(ep.Addr) && e.Identity == ep.Identity }) {
				return false
			}
		}
		return true
	}
	eventually(t, "the ipcache has the node's own pods", ipcacheHas)
	other := func(endpoints string) {
		t.Helper()
		n.tell("labnode n2 192.0.2.200 10.99.2.0/24 %s", endpoints)
	}
	has := func(prefix string, id uint32) func() bool {
		return func() bool {
			want := api.IPCacheEntry{Prefix: netip.MustParsePrefix(prefix), Identity: id, Node: netip.MustParseAddr("192.0.2.200")}
			return slices.Contains(n.ipcache(), want)
		}
	}
	n.tell("node n2 192.0.2.200 10.99.2.0/24")
	other("10.99.2.7=300")
	within(t, time.Second, "a pod of another node has its identity", has("10.99.2.7/32", 300))
	other("10.99.2.7=301")
	within(t, time.Second, "it has another", has("10.99.2.7/32", 301))
	other("10.99.2.8=301")
	within(t, time.Second, "a pod that went is known no more", func() bool {
		return has("10.99.2.8/32", 301)() && has("10.99.2.0/24", 0)() && !slices.ContainsFunc(n.ipcache(), func(e api.IPCacheEntry) bool { return e.Prefix.String() == "10.99.2.7/32" })
	})

	n.kill()
	n.start()
	if got := of(); got["a"] != ids["a"] || got["b"] != ids["a"] || got["c"] != ids["c"] {
		t.Errorf("after the agent was killed identities are %v, were %v", got, ids)
	}
	r.mustDel("c", nil)
	eventually(t, "other nodes are told that c has gone", told)
}
