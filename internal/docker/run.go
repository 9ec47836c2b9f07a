package docker

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"wirelab.dev/wirelab/internal/interrupt"
)

// RunSpec says what container [Engine.Run] starts.
type RunSpec struct {
	Name       string            // must be free
	Image      string            // must be present in the engine
	Network    string            // a network's name, e.g. that of a lab's nodes
	Entrypoint []string          // nil: the image's
	Labels     map[string]string // may be nil
	CapAdd     []string          // e.g. NET_ADMIN; may be nil
}

// Container is a container that [Engine.Run] started.
type Container struct {
	ID, Name string
	IP       netip.Addr // its IPv4 address on the network of its RunSpec
}

// Run starts a container and returns once it runs. On error nothing is left. The caller removes it.
func (e *Engine) Run(ctx context.Context, s RunSpec) (*Container, error) {
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	made, err := e.api.ContainerCreate(lctx, client.ContainerCreateOptions{
		Name:             s.Name,
		Config:           &container.Config{Image: s.Image, Entrypoint: s.Entrypoint, Labels: s.Labels},
		HostConfig:       &container.HostConfig{NetworkMode: container.NetworkMode(s.Network), CapAdd: s.CapAdd},
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{s.Network: {}}},
	})
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", s.Name, late(err))
	}
	ip, err := e.startOn(ctx, s.Name, s.Network)
	if err != nil {
		cctx, cancelRemove := interrupt.Cleanup(ctx, removeDeadline)
		defer cancelRemove()
		return nil, joinCleanup(err, e.RemoveContainer(cctx, made.ID))
	}
	return &Container{ID: made.ID, Name: s.Name, IP: ip}, nil
}

// startOn starts a container and returns its IPv4 address on a network.
func (e *Engine) startOn(ctx context.Context, name, network string) (netip.Addr, error) {
	if err := e.Start(ctx, name); err != nil {
		return netip.Addr{}, err
	}
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	in, err := e.api.ContainerInspect(lctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("inspect container %s: %w", name, late(err))
	}
	ep := in.Container.NetworkSettings.Networks[network]
	if ep == nil || !ep.IPAddress.IsValid() {
		return netip.Addr{}, fmt.Errorf("container %s got no address on network %s", name, network)
	}
	return ep.IPAddress, nil
}

// removeDeadline bounds one removal; the engine kills the processes first.
const removeDeadline = 30 * time.Second

// RemoveContainer ends and removes a container with its anonymous volumes. One that is gone is no error.
func (e *Engine) RemoveContainer(ctx context.Context, nameOrID string) error {
	ctx, late, cancel := limit(ctx, removeDeadline)
	defer cancel()
	_, err := e.api.ContainerRemove(ctx, nameOrID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	// Somebody else is removing it at this moment: the engine says conflict, and waiting is enough.
	if errdefs.IsConflict(err) {
		return e.waitRemoved(ctx, nameOrID)
	}
	return fmt.Errorf("remove container %s: %w", nameOrID, late(err))
}

func (e *Engine) waitRemoved(ctx context.Context, id string) error {
	for {
		_, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for container %s to be removed: %w", id, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
