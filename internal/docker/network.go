package docker

import (
	"context"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Subnets are a Docker network's address ranges; none when there is no such network.
func (e *Engine) Subnets(ctx context.Context, network string) (out []netip.Prefix, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("inspect network %s", network)
	r, err := e.api.NetworkInspect(lctx, network, client.NetworkInspectOptions{})
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, c := range r.Network.IPAM.Config {
		if c.Subnet.IsValid() {
			out = append(out, c.Subnet)
		}
	}
	return out, nil
}
