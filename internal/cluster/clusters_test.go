package cluster

import (
	"net/netip"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/docker"
)

func TestClusterFromContainers(t *testing.T) {
	at := time.Unix(1000, 0)
	found := func(name, role, lab string, running bool, age time.Duration) docker.Found {
		labels := map[string]string{labelKindCluster: "x", labelKindRole: role}
		if lab != "" {
			labels[LabelLab], labels[LabelProfile] = lab, "kubeproxy"
		}
		return docker.Found{Name: name, Labels: labels, Running: running, Created: at.Add(age), Network: "net", IP: netip.MustParseAddr("172.18.0.2")}
	}
	c := &Cluster{Name: "x", Created: at.Add(time.Hour)}
	// kind's load balancer runs an image that has none of our labels.
	c.add(found("x-external-load-balancer", RoleLoadBalancer, "", true, time.Second), nil)
	if c.Lab {
		t.Error("a cluster without our mark counts as ours")
	}
	c.add(found("x-control-plane", RoleControlPlane, "x", true, 0), nil)
	c.add(found("x-worker", RoleWorker, "x", true, time.Minute), nil)
	if !c.Lab || c.Labels[LabelProfile] != "kubeproxy" || !c.Created.Equal(at) || !c.Running() {
		t.Errorf("cluster %+v", c)
	}
	if n := c.KubeNodes(); len(n) != 2 || n[0].Role == RoleLoadBalancer || n[0].Network != "net" {
		t.Errorf("nodes with a kubelet: %+v", n)
	}
	if cp, ok := c.ControlPlane(); !ok || cp.Name != "x-control-plane" {
		t.Errorf("control plane %+v", cp)
	}
	c.add(found("x-worker2", RoleWorker, "x", false, 0), nil)
	if c.Running() {
		t.Error("a cluster with a stopped node runs")
	}
}

func TestDown(t *testing.T) {
	c := &Cluster{Name: "x"}
	c.add(docker.Found{Name: "a", Running: true}, nil)
	c.add(docker.Found{Name: "b", Paused: true}, nil)
	c.add(docker.Found{Name: "c"}, nil)
	down := c.Down()
	if len(down) != 2 || down[0].Down() != "is paused" || down[1].Down() != "is stopped" || c.Nodes[0].Down() != "" {
		t.Errorf("down: %+v", down)
	}
}

func TestMarkOfAnotherLabIsNotOurs(t *testing.T) {
	c := &Cluster{Name: "x"}
	c.add(docker.Found{Labels: map[string]string{labelKindCluster: "x", LabelLab: "y"}}, nil)
	if c.Lab {
		t.Error("nodes with another lab's mark count as this one's")
	}
}

func TestNoNodesDoNotRun(t *testing.T) {
	c := &Cluster{}
	if _, ok := c.ControlPlane(); ok || c.Running() {
		t.Error("a cluster without nodes runs or has a control plane")
	}
}
