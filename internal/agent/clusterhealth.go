package agent

import (
	"context"
	"net/netip"
	"os"

	"wirelab.dev/wirelab/internal/agent/reach"
	"wirelab.dev/wirelab/internal/api"
)

// The health endpoint is made like a pod's, under a name that no pod of a
// cluster has: Kubernetes does not allow underscores in names.
const (
	healthContainer = "wirelab-health"
	healthIfName    = "eth0"
	healthNamespace = "kube-system"
	healthName      = "health_endpoint"
)

func healthRequest() api.CNIRequest {
	return api.CNIRequest{ContainerID: healthContainer, IfName: healthIfName, Namespace: healthNamespace, Pod: healthName}
}

// newProber is nil where probing is switched off.
func (a *Agent) newProber(n *node) *reach.Prober {
	if !a.cfg.ClusterHealth.Enabled {
		return nil
	}
	return reach.New(reach.Config{
		Self: reach.Node{Name: a.cfg.NodeName, Addr: n.self.IP},
		Port: uint16(a.cfg.ClusterHealth.Port), //nolint:gosec // validated
		Proc: a.cfg.Paths.Proc,
		Nodes: func() ([]reach.Node, error) {
			nodes, err := a.kube.nodeList()
			out := make([]reach.Node, len(nodes))
			for i, n := range nodes {
				out[i] = reach.Node{Name: n.Name, Addr: n.IP}
			}
			return out, err
		},
		Attach: func(ctx context.Context, netns *os.File) (netip.Addr, error) {
			ep, err := n.eps.add(ctx, healthRequest(), netns)
			return ep.Addr, err
		},
		Detach:  func(ctx context.Context) error { return n.eps.remove(ctx, healthRequest()) },
		Observe: a.metrics.observeProbe,
		Log:     a.log,
	})
}

// clusterHealth is nil where there is none.
func (n *node) clusterHealth() *api.ClusterHealth {
	if n.prober == nil {
		return nil
	}
	return n.prober.Report()
}
