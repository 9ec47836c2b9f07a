package docker

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Subnets are a Docker network's address ranges; none when there is no such network.
func (e *Engine) Subnets(ctx context.Context, network string) ([]netip.Prefix, error) {
	lctx, late, cancel := limit(ctx, e.lookUp)
	defer cancel()
	r, err := e.api.NetworkInspect(lctx, network, client.NetworkInspectOptions{})
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inspect network %s: %w", network, late(err))
	}
	var out []netip.Prefix
	for _, c := range r.Network.IPAM.Config {
		if c.Subnet.IsValid() {
			out = append(out, c.Subnet)
		}
	}
	return out, nil
}
