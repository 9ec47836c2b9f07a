package labs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
)

// errInstalledOnly means that the network is there and a check did not pass.
var errInstalledOnly = errors.New("the network is installed, but not every check passed")

// verify runs the checks that lab up runs. They look into nodes through Docker, so nodes elsewhere get none.
func (i *installer) verify(ctx context.Context, say func(string)) (string, error) {
	e, err := docker.Connect(ctx)
	if err != nil {
		return "left out: there is no Docker here, through which checks look into nodes", nil //nolint:nilerr // nothing else needs it
	}
	defer e.Close()
	all, err := cluster.New(e, nil).List(ctx)
	if err != nil {
		return "", err
	}
	c := madeOf(all, i.nodes)
	if c == nil {
		return "left out: the nodes are no containers of kind's here, into which checks look", nil
	}
	unlock, err := lock(ctx, e, c.Name) // as lab verify does
	if err != nil {
		return "", err
	}
	defer unlock()
	l := &Lab{Name: c.Name, Profile: i.Profile, Kube: i.kube, Nodes: c.KubeNodes(), Cluster: c, Engine: e}
	report, err := l.verifyAsStep(ctx, i.programs, false, say)
	i.result.Report = report
	if err != nil {
		return "", err
	}
	if !report.Passed() {
		return "", fmt.Errorf("%w: %s", errInstalledOnly, report.Verdict())
	}
	return report.Verdict(), nil
}

// madeOf is the cluster of containers whose nodes are these, by name and address; nil where none is. A cluster elsewhere may
// have nodes of the same names.
func madeOf(all []*cluster.Cluster, nodes []corev1.Node) *cluster.Cluster {
	for _, c := range all {
		containers := c.KubeNodes()
		same := func(n corev1.Node) bool {
			ip, ok := internalIP(n)
			return ok && slices.ContainsFunc(containers, func(m cluster.Node) bool { return m.Name == n.Name && m.Running && m.IP == ip })
		}
		if len(containers) == len(nodes) && !slices.ContainsFunc(nodes, func(n corev1.Node) bool { return !same(n) }) {
			return c
		}
	}
	return nil
}
