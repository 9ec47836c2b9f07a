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
	Cmd        []string          // nil: the image's
	Env        []string          // NAME=value
	Labels     map[string]string // may be nil
	CapAdd     []string          // e.g. NET_ADMIN; may be nil
	Files      map[string][]byte // executables put in before it starts, by path; may be nil
	Privileged bool
}

// Container is a container that [Engine.Run] started.
type Container struct {
	ID, Name string
	IP       netip.Addr // its IPv4 address on the network of its RunSpec
	engine   *Engine
}

// Run starts a container and returns once it runs. On error nothing is left. The caller removes it.
func (e *Engine) Run(ctx context.Context, s RunSpec) (*Container, error) {
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	made, err := e.api.ContainerCreate(lctx, client.ContainerCreateOptions{
		Name: s.Name,
		Config: &container.Config{
			Image: s.Image, Entrypoint: s.Entrypoint, Cmd: s.Cmd, Env: s.Env, Labels: s.Labels,
		},
		HostConfig: &container.HostConfig{
			NetworkMode: container.NetworkMode(s.Network), CapAdd: s.CapAdd, Privileged: s.Privileged,
		},
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{s.Network: {}}},
	})
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", s.Name, late(err))
	}
	c := &Container{ID: made.ID, Name: s.Name, engine: e}
	if err := c.start(ctx, s); err != nil {
		cctx, cancelRemove := interrupt.Cleanup(ctx, removeDeadline)
		defer cancelRemove()
		return nil, joinCleanup(err, c.Remove(cctx))
	}
	return c, nil
}

func (c *Container) start(ctx context.Context, s RunSpec) error {
	for path, content := range s.Files {
		if err := c.engine.WriteFile(ctx, c.ID, path, 0o755, content); err != nil {
			return err
		}
	}
	lctx, late, cancel := limit(ctx, c.engine.doIt)
	defer cancel()
	if _, err := c.engine.api.ContainerStart(lctx, c.ID, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start container %s: %w", c.Name, late(err))
	}
	in, err := c.engine.api.ContainerInspect(lctx, c.ID, client.ContainerInspectOptions{})
	if err != nil {
		return fmt.Errorf("inspect container %s: %w", c.Name, late(err))
	}
	ep := in.Container.NetworkSettings.Networks[s.Network]
	if ep == nil || !ep.IPAddress.IsValid() {
		return fmt.Errorf("container %s got no address on network %s", c.Name, s.Network)
	}
	c.IP = ep.IPAddress
	return nil
}

// removeDeadline bounds one removal; the engine kills the processes first.
const removeDeadline = 30 * time.Second

// Remove ends the container and removes it with its volumes. Removing it twice is fine.
func (c *Container) Remove(ctx context.Context) error { return c.engine.RemoveContainer(ctx, c.ID) }

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
