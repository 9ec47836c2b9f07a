package labs

import (
	"cmp"
	"context"
	"os"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/profiles"
)

// NeedsOf is what a profile asks of the machine.
func NeedsOf(p *profiles.Profile) doctor.Needs {
	// The network kind puts nodes on unless that variable says otherwise.
	network := cmp.Or(os.Getenv("KIND_EXPERIMENTAL_DOCKER_NETWORK"), "kind")
	tunnel, _, _ := p.Network.Tunnel()
	return doctor.Needs{
		Nodes: p.Nodes(), PodSubnetKey: p.PodSubnetKey(), PodSubnet: p.Cluster.PodSubnet, ServiceSubnet: p.Cluster.ServiceSubnet,
		APIServerPort: p.Cluster.APIServerPort, Network: network,
		KubeProxyReplacement: p.Network.KubeProxyReplacement, Tunnel: tunnel,
	}
}

// Examine runs the doctor for a profile. Findings are no error, not even those of what is missing.
func Examine(ctx context.Context, p *profiles.Profile) []doctor.Finding {
	e, err := docker.Connect(ctx)
	if e != nil {
		defer e.Close()
	}
	return doctor.Doctor{}.Examine(ctx, e, err, NeedsOf(p))
}
