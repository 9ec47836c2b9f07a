package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/datapath/lb"
)

// Cost is what one program takes for a packet of an established flow.
type Cost struct {
	Program
	// Took is the time of a test run, Empty that of a program that does nothing.
	Took, Empty time.Duration
}

// PacketCosts are those of the program that a pod's packets meet first, and of the one that they meet at the
// NIC of the node that they go to. In a mode that has no program there, fromNIC is nil.
func (c *Cluster) PacketCosts() (fromPod Cost, fromNIC *Cost, err error) {
	f, err := c.establish(netip.AddrPortFrom(c.Nodes[1].pods[0].addr, flowPort))
	if err != nil {
		return fromPod, nil, fmt.Errorf("connect two pods: %w", err)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	pod, err := c.fromPod(f, false)
	if err != nil {
		return fromPod, nil, err
	}
	subjects := []subject{pod}
	switch nic, err := c.atNIC(f); {
	case err == nil:
		subjects = append(subjects, nic)
	case !errors.Is(err, errNoProgram):
		return fromPod, nil, err
	}
	list, err := costs(false, subjects...)
	if err != nil {
		return fromPod, nil, err
	}
	if len(list) > 1 {
		fromNIC = &list[1]
	}
	return list[0], fromNIC, nil
}

// fromPod is a frame of the flow, or its first, for the program that it meets as it leaves the pod.
func (c *Cluster) fromPod(f *flow, first bool) (subject, error) {
	pod := c.Nodes[0].pods[0]
	return c.Nodes[0].subject(f, first, pod.Space, podDevice, pod.hostIf)
}

// atNIC is a frame of the flow for the program that it meets at the NIC of the other node.
func (c *Cluster) atNIC(f *flow) (subject, error) {
	return c.Nodes[1].subject(f, false, c.Nodes[0].Space, nic, nic)
}

// subject is a frame of the flow, or its first, that a device of from sends to a device of the node.
func (n *Node) subject(f *flow, first bool, from *Space, out, in string) (subject, error) {
	p, err := n.find(in)
	if err != nil {
		return subject{}, err
	}
	here, err := n.link(in)
	if err != nil {
		return subject{}, err
	}
	there, err := from.link(out)
	if err != nil {
		return subject{}, err
	}
	frame, err := f.frame(there.Attrs().HardwareAddr, here.Attrs().HardwareAddr, first)
	return subject{n, p, frame}, err
}

// FillTime is how long the first node takes to have n Services after it had none. The cluster's Services are
// gone then.
func (c *Cluster) FillTime(ctx context.Context, n int) (took time.Duration, err error) {
	node := c.Nodes[0]
	if err := node.reconcile(ctx, nil); err != nil {
		return 0, err
	}
	list := services(n, c.backend(), c.Nodes[1].cfg.NodeName)
	err = node.Do(func() error {
		start := time.Now()
		err := node.dp.Services().Apply(ctx, lb.State{Services: list})
		took = time.Since(start)
		return err
	})
	return took, err
}

// MapMemory is the kernel memory of all maps of a node, pinned ones and those that only programs hold, in bytes.
func (n *Node) MapMemory() (total uint64, err error) {
	seen := map[ebpf.MapID]bool{}
	count := func(m *ebpf.Map) error {
		info, err := m.Info()
		if err != nil {
			return err
		}
		id, _ := info.ID()
		if memory, ok := info.Memlock(); ok && !seen[id] {
			total += memory
		}
		seen[id] = true
		return nil
	}
	err = filepath.WalkDir(n.mapsDir+"/", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer m.Close()
		return count(m)
	})
	if err != nil {
		return 0, fmt.Errorf("read pinned maps: %w", err)
	}
	attached, err := n.attached()
	if err != nil {
		return 0, err
	}
	for _, p := range attached {
		if err := p.eachMap(count); err != nil {
			return 0, err
		}
	}
	return total, nil
}
