package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Found is a container as a list shows it.
type Found struct {
	ID, Name, Image string
	Labels          map[string]string
	Running         bool
	Paused          bool
	Created         time.Time
	Network         string     // the network it is on; empty before it started or when on none
	IP              netip.Addr // its IPv4 address there; zero when it has none
	// Published says where on this machine the container's TCP ports are, by their number in it. A stopped one has none.
	Published map[uint16]netip.AddrPort
}

// Containers lists containers, running or not, that carry every given label (name or name=value), sorted by
// name.
func (e *Engine) Containers(ctx context.Context, labels ...string) (_ []Found, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("list containers")
	r, err := e.api.ContainerList(lctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", labels...)})
	if err != nil {
		return nil, err
	}
	out := make([]Found, 0, len(r.Items))
	for _, c := range r.Items {
		f := Found{ID: c.ID, Image: c.Image, Labels: c.Labels, Created: time.Unix(c.Created, 0), Running: c.State == container.StateRunning, Paused: c.State == container.StatePaused}
		if len(c.Names) > 0 {
			f.Name = strings.TrimPrefix(c.Names[0], "/")
		}
		if c.NetworkSettings != nil {
			for n, ep := range c.NetworkSettings.Networks {
				f.Network, f.IP = n, ep.IPAddress
			}
		}
		for _, p := range c.Ports {
			if p.Type != "tcp" || p.PublicPort == 0 {
				continue
			}
			if f.Published == nil {
				f.Published = map[uint16]netip.AddrPort{}
			}
			f.Published[p.PrivatePort] = netip.AddrPortFrom(p.IP, p.PublicPort)
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Start starts a stopped container; one that runs is no error.
func (e *Engine) Start(ctx context.Context, nameOrID string) (err error) {
	lctx, done := asking(ctx, e.doIt, &err)
	defer done("start container %s", nameOrID)
	_, err = e.api.ContainerStart(lctx, nameOrID, client.ContainerStartOptions{})
	return err
}

// Unpause resumes a container that is paused.
func (e *Engine) Unpause(ctx context.Context, nameOrID string) (err error) {
	lctx, done := asking(ctx, e.doIt, &err)
	defer done("resume container %s", nameOrID)
	_, err = e.api.ContainerUnpause(lctx, nameOrID, client.ContainerUnpauseOptions{})
	return err
}

// HasFile tells whether a path exists in a container, which need not be running.
func (e *Engine) HasFile(ctx context.Context, nameOrID, file string) (there bool, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("look for %s in %s", file, nameOrID)
	_, err = e.api.ContainerStatPath(lctx, nameOrID, client.ContainerStatPathOptions{Path: file})
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// WriteFile puts a file of root's into a container, which need not be running. Its directory must exist; a file there is
// replaced. What a running container has mounted, such as a node's /run and /tmp, cannot be written to.
func (e *Engine) WriteFile(ctx context.Context, nameOrID, file string, mode fs.FileMode, content []byte) (err error) {
	lctx, done := asking(ctx, e.doIt, &err)
	defer done("write %s in %s", file, nameOrID)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Base(file), Mode: int64(mode.Perm()), Size: int64(len(content)), ModTime: time.Now()})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("pack it: %w", err)
	}
	_, err = e.api.CopyToContainer(lctx, nameOrID, client.CopyToContainerOptions{DestinationPath: path.Dir(file), Content: &b})
	return err
}

// ReadFile reads a regular file of a container, which need not be running. What a running container has mounted, such as a
// node's /run and /tmp, cannot be read.
func (e *Engine) ReadFile(ctx context.Context, nameOrID, file string) (_ []byte, err error) {
	lctx, done := asking(ctx, e.doIt, &err)
	defer done("read %s in %s", file, nameOrID)
	r, err := e.api.CopyFromContainer(lctx, nameOrID, client.CopyFromContainerOptions{SourcePath: file})
	if err != nil {
		return nil, err
	}
	defer r.Content.Close()
	archive := tar.NewReader(r.Content)
	h, err := archive.Next()
	if err != nil {
		return nil, err
	}
	if h.Typeflag != tar.TypeReg {
		return nil, errors.New("it is no regular file")
	}
	return io.ReadAll(archive)
}

// Logs are the last lines that a container, which need not be running, has written to its standard output and error.
func (e *Engine) Logs(ctx context.Context, nameOrID string, lines int) ([]byte, error) {
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	in, err := e.api.ContainerInspect(lctx, nameOrID, client.ContainerInspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", nameOrID, late(err))
	}
	r, err := e.api.ContainerLogs(lctx, nameOrID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return nil, fmt.Errorf("read log of container %s: %w", nameOrID, late(err))
	}
	defer r.Close()
	var b bytes.Buffer
	if c := in.Container.Config; c != nil && c.Tty {
		_, err = io.Copy(&b, r)
	} else {
		_, err = stdcopy.StdCopy(&b, &b, r)
	}
	if err != nil {
		return b.Bytes(), fmt.Errorf("read log of container %s: %w", nameOrID, late(err))
	}
	return b.Bytes(), nil
}

func joinCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return errors.Join(err, fmt.Errorf("clean up: %w", cleanup))
}
