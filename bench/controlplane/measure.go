package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bench/testbed"
)

// Results are what the control plane took, time after time.
type Results struct {
	// Add, Delete and DeleteAlone are CNI calls of the plugin, from its start to its end; the last are those
	// when no agent runs.
	Add, Delete, DeleteAlone []time.Duration
	// Cold and Warm are from the start of an agent to the end of the first ADD it serves: on a node without
	// anything, and after it was killed.
	Cold, Warm time.Duration
	// Change is from an EndpointSlice's change in the API server's memory to the Service's entry in the map.
	Change []time.Duration
}

// Plan is how much is measured.
type Plan struct {
	// Plugin is the path of the CNI plugin's binary, Self the command line that calls [RunAgent].
	Plugin string
	Self   []string
	// Pods are added and deleted; there are Services, and Changes to one of them.
	Pods, Services, Changes int
}

// Measure runs an agent through its life.
func Measure(ctx context.Context, b *testbed.Bed, p Plan) (r Results, err error) {
	n, err := newNode(b, p.Plugin, p.Self, p.Services, p.Pods)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	pods := make([]*testbed.Space, p.Pods)
	for i := range pods {
		if pods[i], err = b.Space(fmt.Sprintf("pod %d", i)); err != nil {
			return r, err
		}
	}
	for _, step := range []func(context.Context, *node, []*testbed.Space, *Results) error{cold, adds, p.changes, warm, deletes} {
		if err := step(ctx, n, pods, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// container names pod i.
func container(i int) string { return fmt.Sprintf("c%04d", i) }

// cold starts the first agent, which serves the first pod.
func cold(ctx context.Context, n *node, pods []*testbed.Space, r *Results) error {
	start := time.Now()
	if err := n.launch(); err != nil {
		return err
	}
	if err := n.ready(ctx); err != nil {
		return err
	}
	if _, err := n.call("ADD", container(0), pods[0].FD()); err != nil {
		return err
	}
	r.Cold = time.Since(start)
	return nil
}

// adds adds the other pods.
func adds(_ context.Context, n *node, pods []*testbed.Space, r *Results) error {
	for i, pod := range pods[1:] {
		took, err := n.call("ADD", container(i+1), pod.FD())
		if err != nil {
			return err
		}
		r.Add = append(r.Add, took)
	}
	return nil
}

// warm kills the agent and starts another, which is asked for the first pod again.
func warm(ctx context.Context, n *node, pods []*testbed.Space, r *Results) error {
	if err := n.kill(); err != nil {
		return err
	}
	if _, err := n.call("DEL", container(0), pods[0].FD()); err != nil {
		return err
	}
	start := time.Now()
	if err := n.launch(); err != nil {
		return err
	}
	err := n.await(ctx, "the agent serves again", time.Millisecond, func() (bool, error) {
		_, err := n.call("ADD", container(0), pods[0].FD())
		return err == nil, err
	})
	r.Warm = time.Since(start)
	return err
}

// deletes deletes half of the pods, kills the agent, and deletes the others.
func deletes(_ context.Context, n *node, pods []*testbed.Space, r *Results) error {
	for i, pod := range pods {
		if i == len(pods)/2 {
			if err := n.kill(); err != nil {
				return err
			}
		}
		took, err := n.call("DEL", container(i), pod.FD())
		if err != nil {
			return err
		}
		if i < len(pods)/2 {
			r.Delete = append(r.Delete, took)
		} else {
			r.DeleteAlone = append(r.DeleteAlone, took)
		}
	}
	return nil
}

// changes lets a Service's endpoints be one and two in turn, and watches its entry.
func (p Plan) changes(ctx context.Context, n *node, _ []*testbed.Space, r *Results) error {
	m, err := n.servicesMap()
	if err != nil {
		return err
	}
	defer m.Close()
	which := p.Services / 2
	key, entry, err := n.entryOf(ctx, m, serviceIP(which))
	if err != nil {
		return err
	}
	for i := range p.Changes {
		start := time.Now()
		if err := n.tell(change{Service: which, Endpoints: 2 - i%2}); err != nil {
			return err
		}
		err := n.await(ctx, "the map has the change", 50*time.Microsecond, func() (bool, error) {
			now, err := m.LookupBytes(key)
			if err != nil || bytes.Equal(now, entry) {
				return false, err
			}
			entry = now
			return true, nil
		})
		if err != nil {
			return err
		}
		r.Change = append(r.Change, time.Since(start))
	}
	return nil
}

// servicesMap opens the map of Services that the agent has pinned.
func (n *node) servicesMap() (*ebpf.Map, error) {
	found, err := filepath.Glob(filepath.Join(n.host.BPFFS, "wirelab/maps/*/lab_services"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("the agent has pinned %d maps of Services", len(found))
	}
	m, err := ebpf.LoadPinnedMap(found[0], &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open the map of Services: %w", err)
	}
	return m, nil
}

// entryOf waits for the entry whose key has the address in it.
func (n *node) entryOf(ctx context.Context, m *ebpf.Map, addr string) (key, entry []byte, err error) {
	wanted := netip.MustParseAddr(addr).As16()
	err = n.await(ctx, "the map has Service "+addr, 10*time.Millisecond, func() (bool, error) {
		key = nil
		it := m.Iterate()
		for it.Next(&key, &entry) {
			if bytes.Contains(key, wanted[:]) {
				return true, nil
			}
		}
		return false, it.Err()
	})
	return key, entry, err
}
