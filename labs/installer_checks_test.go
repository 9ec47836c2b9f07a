package labs

import (
	"errors"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// TestMadeOf: checks look into containers only where these are the cluster's nodes.
func TestMadeOf(t *testing.T) {
	node := func(name, ip string) corev1.Node {
		return corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}},
		}
	}
	container := func(name, ip string) cluster.Node {
		return cluster.Node{Name: name, Role: cluster.RoleWorker, IP: netip.MustParseAddr(ip), Running: true}
	}
	stopped := container("a", "172.18.0.2")
	stopped.Running = false
	balancer := cluster.Node{Name: "lb", Role: cluster.RoleLoadBalancer, IP: netip.MustParseAddr("172.18.0.9"), Running: true}
	for name, tt := range map[string]struct {
		containers []cluster.Node
		nodes      []corev1.Node
		want       bool
	}{
		"the same":             {[]cluster.Node{container("a", "172.18.0.2"), container("b", "172.18.0.3")}, []corev1.Node{node("b", "172.18.0.3"), node("a", "172.18.0.2")}, true},
		"with a load balancer": {[]cluster.Node{container("a", "172.18.0.2"), balancer}, []corev1.Node{node("a", "172.18.0.2")}, true},
		"elsewhere":            {[]cluster.Node{container("a", "172.18.0.2")}, []corev1.Node{node("a", "10.1.0.2")}, false},
		"one more":             {[]cluster.Node{container("a", "172.18.0.2"), container("b", "172.18.0.3")}, []corev1.Node{node("a", "172.18.0.2")}, false},
		"one less":             {[]cluster.Node{container("a", "172.18.0.2")}, []corev1.Node{node("a", "172.18.0.2"), node("b", "172.18.0.3")}, false},
		"stopped":              {[]cluster.Node{stopped}, []corev1.Node{node("a", "172.18.0.2")}, false},
		"none":                 {nil, []corev1.Node{node("a", "172.18.0.2")}, false},
	} {
		other := &cluster.Cluster{Name: "other", Nodes: []cluster.Node{container("c", "172.18.0.7")}}
		if got := madeOf([]*cluster.Cluster{other, {Name: "it", Nodes: tt.containers}}, tt.nodes); (got != nil) != tt.want || got != nil && got.Name != "it" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// TestOneInstallAtATime: by whatever context, a cluster is changed by one command of this machine at a time.
func TestOneInstallAtATime(t *testing.T) {
	client := func(host string) *kube.Client { return &kube.Client{Config: &rest.Config{Host: host}} }
	here := "https://" + t.Name() + ":6443"
	unlock, err := lockCluster(client(here), "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockCluster(client(here), "two"); !errors.Is(err, ErrBusy) {
		t.Errorf("the second: %v", err)
	}
	other, err := lockCluster(client(here+"0"), "one")
	if err != nil {
		t.Fatalf("another cluster: %v", err)
	}
	other()
	unlock()
	again, err := lockCluster(client(here), "two")
	if err != nil {
		t.Fatalf("after the first: %v", err)
	}
	again()
}
