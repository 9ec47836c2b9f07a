package bed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/datapath"
)

// Cost is what one program takes for a packet of an established flow.
type Cost struct {
	Program
	// Took is the time of a test run, Empty that of a program that does nothing.
	Took, Empty time.Duration
}

// PacketCosts are those of the program that a pod's packets meet first, and of the one that they meet at the
// card of the node that they go to. In a mode that has no program there, fromNIC is nil.
func (c *Cluster) PacketCosts() (fromPod Cost, fromNIC *Cost, err error) {
	f, err := c.establish(netip.AddrPortFrom(c.Nodes[1].pods[0].addr, flowPort))
	if err != nil {
		return fromPod, nil, fmt.Errorf("connect two pods: %w", err)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if fromPod, err = c.fromPod(f, false); err != nil {
		return fromPod, nil, err
	}
	node := c.Nodes[1]
	p, err := node.find(nic)
	if errors.Is(err, errNoProgram) {
		return fromPod, nil, nil
	}
	if err != nil {
		return fromPod, nil, err
	}
	there, err := node.link(nic)
	if err != nil {
		return fromPod, nil, err
	}
	here, err := c.Nodes[0].link(nic)
	if err != nil {
		return fromPod, nil, err
	}
	cost, err := node.costOf(p, f, here.Attrs().HardwareAddr, there.Attrs().HardwareAddr, false)
	return fromPod, &cost, err
}

func (c *Cluster) fromPod(f *flow, once bool) (Cost, error) {
	node, pod := c.Nodes[0], c.Nodes[0].pods[0]
	p, err := node.find(pod.hostIf)
	if err != nil {
		return Cost{}, err
	}
	veth, err := node.link(pod.hostIf)
	if err != nil {
		return Cost{}, err
	}
	inside, err := pod.link(podDevice)
	if err != nil {
		return Cost{}, err
	}
	return node.costOf(p, f, inside.Attrs().HardwareAddr, veth.Attrs().HardwareAddr, once)
}

func (n *Node) costOf(p Program, f *flow, src, dst net.HardwareAddr, once bool) (Cost, error) {
	frame, err := f.frame(src, dst, once)
	if err != nil {
		return Cost{}, err
	}
	cost := Cost{Program: p}
	cost.Took, cost.Empty, err = n.cost(p, frame, once)
	return cost, err
}

// Flat measures what a pod's first program takes for a packet that opens a connection to the Service, which has
// it looked up, with the cluster's Services and with n.
func (c *Cluster) Flat(ctx context.Context, n int) (before, after Cost, err error) {
	f, err := c.establish(measured(c.Services))
	if err != nil {
		return before, after, fmt.Errorf("connect a pod to a Service: %w", err)
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if before, err = c.fromPod(f, true); err != nil {
		return before, after, err
	}
	list := withOneBackend(services(n, c.backend(), c.Nodes[1].cfg.NodeName)) // for two there is no room
	// The Service of the flow stays what it is.
	list[c.Services/2] = services(c.Services, c.backend(), c.Nodes[1].cfg.NodeName)[c.Services/2]
	if err := c.Nodes[0].reconcile(ctx, list); err != nil {
		return before, after, fmt.Errorf("give a node %d Services: %w", n, err)
	}
	after, err = c.fromPod(f, true)
	return before, after, err
}

// FillTime is how long the first node takes to have n Services after it had none. The cluster's Services are
// gone then.
func (c *Cluster) FillTime(ctx context.Context, n int) (took time.Duration, err error) {
	node := c.Nodes[0]
	if err := node.reconcile(ctx, nil); err != nil {
		return 0, err
	}
	list := services(n, c.backend(), c.Nodes[1].cfg.NodeName)
	err = node.do(func() error {
		start := time.Now()
		err := node.dp.Services().Apply(ctx, datapath.ServiceState{Services: list})
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
