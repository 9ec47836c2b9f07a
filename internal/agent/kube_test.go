package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/agent/identities"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
)

// startKube runs the informers until the test ends and waits for their lists.
func startKube(t *testing.T, client *fake.Clientset) *kube {
	t.Helper()
	objects, _ := crdtest.NewClient()
	return startKubeWith(t, apiserver.Server{Kubernetes: client, Objects: objects})
}

func startKubeWith(t *testing.T, server apiserver.Server) *kube {
	t.Helper()
	k, err := newKube(server, "n1", "kube-system/wirelab-agent")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for _, inf := range []interface {
		RunWithContext(context.Context)
		HasSynced() bool
	}{k.nodeInf, k.podInf, k.policyInf, k.labNodes, k.daemonSets} {
		go inf.RunWithContext(ctx)
		eventually(t, "the informers have their lists", inf.HasSynced)
	}
	return k
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to be that %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestPodInformerAsksForThisNodeOnly(t *testing.T) {
	client := fake.NewClientset()
	startKube(t, client)
	for _, a := range client.Actions() {
		var selector string
		switch action := a.(type) {
		case clienttesting.ListAction:
			selector = action.GetListRestrictions().Fields.String()
		case clienttesting.WatchAction:
			selector = action.GetWatchRestrictions().Fields.String()
		}
		want := map[string]string{"pods": "spec.nodeName=n1", "nodes": "", "daemonsets": "metadata.name=wirelab-agent"}[a.GetResource().Resource]
		if selector != want {
			t.Errorf("%s %s with selector %q, want %q", a.GetVerb(), a.GetResource().Resource, selector, want)
		}
	}
}

// TestPodsOfManyNewSetsStartTogether: the identities of a node's worth of pods are made at once.
func TestPodsOfManyNewSetsStartTogether(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(w, r.Body)
	}))
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	cluster := fmt.Sprintf("{kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}]}", server.URL)
	if err := os.WriteFile(kubeconfig, []byte(cluster), 0o600); err != nil {
		t.Fatal(err)
	}
	connected, err := Connect(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	const pods = 100
	began := time.Now()
	for i := range pods {
		id := &crd.LabIdentity{ObjectMeta: metav1.ObjectMeta{Name: strconv.Itoa(256 + i)}}
		if _, err := connected.Objects.Identities.Create(t.Context(), id, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > identities.Patience {
		t.Errorf("%d identities took %v: pods wait for %v at most", pods, took, identities.Patience)
	}
}

func TestNodeListLeavesOutWhatIsNotReachable(t *testing.T) {
	k := startKube(t, fake.NewClientset(kubeNode("n2", "192.0.2.2", "10.0.2.0/24"), kubeNode("n1", "192.0.2.1", "10.0.1.0/24"),
		kubeNode("new", "", ""), kubeNode("n3", "192.0.2.3", "")))
	nodes, err := k.nodeList()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range nodes {
		got = append(got, n.Name)
	}
	if strings.Join(got, " ") != "n1 n2 n3" {
		t.Errorf("nodes %v, want those with an address, by name", got)
	}
}

func TestAwaitSelf(t *testing.T) {
	client := fake.NewClientset(kubeNode("n1", "192.0.2.1", ""))
	k := startKube(t, client)
	var said string
	say := func(err error) { said = err.Error() }
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := k.awaitSelf(ctx, labNode{kube: k, nodeName: "n1"}, say, quiet()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no IPv4 podCIDR yet") {
		t.Errorf("without a podCIDR: %v", err)
	}
	if !strings.Contains(said, "no IPv4 podCIDR yet") {
		t.Errorf("it says %q", said)
	}
	if _, err := client.CoreV1().Nodes().Update(t.Context(), kubeNode("n1", "192.0.2.1", "10.0.1.0/24"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := k.awaitSelf(t.Context(), labNode{kube: k, nodeName: "n1"}, say, quiet())
	if err != nil || s.PodCIDR.String() != "10.0.1.0/24" {
		t.Errorf("with a podCIDR: %v, %v", s, err)
	}
}

func TestConditionIsSetOnceAndRemoved(t *testing.T) {
	node := kubeNode("n1", "192.0.2.1", "10.0.1.0/24")
	node.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
		{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue, Reason: "NoRouteCreated"},
	}
	client := fake.NewClientset(node)
	c := nodeCondition{client: client, kube: startKube(t, client), nodeName: "n1"}
	conditions := func() map[corev1.NodeConditionType]corev1.NodeCondition {
		n, err := client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[corev1.NodeConditionType]corev1.NodeCondition{}
		for _, c := range n.Status.Conditions {
			out[c.Type] = c
		}
		return out
	}
	if err := c.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := conditions()[corev1.NodeNetworkUnavailable]
	if got.Status != corev1.ConditionFalse || got.Reason != "WirelabIsUp" || got.LastTransitionTime.IsZero() {
		t.Errorf("the condition is %+v", got)
	}
	eventually(t, "the cache has the condition", func() bool {
		n, err := c.kube.nodes.Get("n1")
		return err == nil && len(n.Status.Conditions) == 1 && n.Status.Conditions[0].Reason == "WirelabIsUp"
	})
	client.ClearActions()
	if err := c.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if actions := client.Actions(); len(actions) != 0 {
		t.Errorf("a condition that was right was written: %v", actions)
	}
	if err := c.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := conditions(); len(got) != 1 || got[corev1.NodeReady].Status != corev1.ConditionTrue {
		t.Errorf("conditions after the cleaning: %v", got)
	}
}

// TestConditionSaysWhichNodesAreNotReached: by which way, and the condition is as old as it was.
func TestConditionSaysWhichNodesAreNotReached(t *testing.T) {
	since := metav1.NewTime(time.Unix(1_000_000_000, 0))
	node := kubeNode("n1", "192.0.2.1", "10.0.1.0/24")
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: conditionReason,
		Message: "wirelab carries the traffic of this node's pods", LastTransitionTime: since,
	}}
	client := fake.NewClientset(node)
	h := &api.ClusterHealth{ICMP: 1, TCP: 2, Nodes: []api.NodeHealth{{Name: "n1"}, {Name: "n2"}}}
	c := nodeCondition{client: client, kube: startKube(t, client), nodeName: "n1", health: func() *api.ClusterHealth { return h }}
	message := func() string {
		t.Helper()
		client.ClearActions()
		if err := c.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		n, err := client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := n.Status.Conditions[0]
		if got.Status != corev1.ConditionFalse || !got.LastTransitionTime.Equal(&since) {
			t.Errorf("the condition is %+v", got)
		}
		return got.Message
	}
	if got := message(); got != "wirelab carries the traffic of this node's pods" || len(client.Actions()) != 1 {
		t.Errorf("with all nodes reached: %q after %v", got, client.Actions())
	}
	h.Nodes[1].Failing = "node n2 is partly reached: its address 192.0.2.2 by tcp, not by icmp (no answer)"
	want := "wirelab carries the traffic of this node's pods; of 2 nodes, 1 answer icmp and 2 tcp; " + h.Nodes[1].Failing
	if got := message(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for range 4 {
		h.Nodes = append(h.Nodes, api.NodeHealth{Failing: "x"})
	}
	if got := message(); !strings.HasSuffix(got, "; x; x; and 2 more") {
		t.Errorf("of five it says %q", got)
	}
}

func ownDaemonSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "wirelab-agent"}}
}

func TestUninstallIsDecidedOnProof(t *testing.T) {
	gr := schema.GroupResource{Group: "apps", Resource: "daemonsets"}
	deleting := ownDaemonSet()
	now := metav1.Now()
	deleting.DeletionTimestamp = &now
	for _, tc := range []struct {
		name   string
		object *appsv1.DaemonSet
		answer error // of every GET, instead of the object
		seen   bool
		want   bool
	}{
		{"there", ownDaemonSet(), nil, false, false},
		{"there again, after it was seen to go", ownDaemonSet(), nil, true, false},
		{"going", deleting, nil, false, true},
		{"gone", nil, nil, false, true},
		{"seen to go, then no right to ask", ownDaemonSet(), apierrors.NewForbidden(gr, "wirelab-agent", errors.New("no")), true, true},
		{"seen to go, then no account", ownDaemonSet(), apierrors.NewUnauthorized("no"), true, true},
		{"no right to ask", ownDaemonSet(), apierrors.NewForbidden(gr, "wirelab-agent", errors.New("no")), false, false},
		{"no account", ownDaemonSet(), apierrors.NewUnauthorized("no"), false, false},
		{"nobody answers", ownDaemonSet(), errors.New("connection refused"), false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := fake.NewClientset()
			if tc.object != nil {
				client = fake.NewClientset(tc.object)
			}
			client.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) {
				return tc.answer != nil, nil, tc.answer
			})
			u := newUninstall(client, "kube-system/wirelab-agent", quiet())
			u.seenDeleted.Store(tc.seen)
			if got := u.decided(t.Context(), 300*time.Millisecond); got != tc.want {
				t.Errorf("decided %v, want %v", got, tc.want)
			}
		})
	}
	if newUninstall(fake.NewClientset(), "", quiet()).decided(t.Context(), time.Second) {
		t.Error("an agent without a DaemonSet was uninstalled")
	}
}

func TestUninstallSeesTheDaemonSetGo(t *testing.T) {
	client := fake.NewClientset(ownDaemonSet())
	k := startKube(t, client)
	u := newUninstall(client, "kube-system/wirelab-agent", quiet())
	if err := u.watch(k.daemonSets); err != nil {
		t.Fatal(err)
	}
	if err := client.AppsV1().DaemonSets("kube-system").Delete(t.Context(), "wirelab-agent", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion is seen", u.seenDeleted.Load)
	if _, err := client.AppsV1().DaemonSets("kube-system").Create(t.Context(), ownDaemonSet(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new one is seen", func() bool { return !u.seenDeleted.Load() })
}

func TestOddDaemonSetNames(t *testing.T) {
	for _, name := range []string{"wirelab-agent", "/x", "x/"} {
		objects, _ := crdtest.NewClient()
		if _, err := newKube(apiserver.Server{Kubernetes: fake.NewClientset(), Objects: objects}, "n1", name); err == nil || !strings.Contains(err.Error(), "namespace/name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestServiceZone holds that the node's zone survives what the cache strips.
func TestServiceZone(t *testing.T) {
	node := kubeNode("n1", "192.0.2.1", "10.0.1.0/24")
	node.Labels = map[string]string{corev1.LabelTopologyZone: "a", "other": "b"}
	stripped, err := stripNode(node)
	if err != nil {
		t.Fatal(err)
	}
	if got := stripped.(*corev1.Node).Labels; len(got) != 1 || got[corev1.LabelTopologyZone] != "a" {
		t.Errorf("labels %v, want the zone", got)
	}
}
