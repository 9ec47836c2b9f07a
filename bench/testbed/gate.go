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
// card of the node that they go to. In a mode that has no program there, fromNIC is nil.
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
	switch card, err := c.atCard(f); {
	case err == nil:
		subjects = append(subjects, card)
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
	node, pod := c.Nodes[0], c.Nodes[0].pods[0]
	p, err := node.find(pod.hostIf)
	if err != nil {
		return subject{}, err
	}
	veth, err := node.link(pod.hostIf)
	if err != nil {
		return subject{}, err
	}
	inside, err := pod.link(podDevice)
	if err != nil {
		return subject{}, err
	}
	frame, err := f.frame(inside.Attrs().HardwareAddr, veth.Attrs().HardwareAddr, first)
	return subject{node, p, frame}, err
}

// atCard is a frame of the flow for the program that it meets at the card of the other node.
func (c *Cluster) atCard(f *flow) (subject, error) {
	node := c.Nodes[1]
	p, err := node.find(nic)
	if err != nil {
		return subject{}, err
	}
	there, err := node.link(nic)
	if err != nil {
		return subject{}, err
	}
	here, err := c.Nodes[0].link(nic)
	if err != nil {
		return subject{}, err
	}
	frame, err := f.frame(here.Attrs().HardwareAddr, there.Attrs().HardwareAddr, false)
	return subject{node, p, frame}, err
}

const (
	// flatServices is how many Services, and connections, Flat takes the mean of: how far an entry is from its
	// place in a map's table, and which of the CPU's caches it shares with others, is chance.
	flatServices = 10
	// flatTurns is how often Flat measures with few Services and with many.
	flatTurns = 5
)

// Flat measures, in turn, what a pod's first program takes for a packet that opens a connection to a Service,
// which has it looked up: when its node has few Services, and when it has many.
func (c *Cluster) Flat(ctx context.Context, few, many int) (with, withMany Cost, err error) {
	if err := c.serve(ctx, few); err != nil {
		return with, withMany, err
	}
	var subjects []subject
	for i := range flatServices {
		f, err := c.establish(netip.AddrPortFrom(clusterIP(i), servicePort))
		if err != nil {
			return with, withMany, fmt.Errorf("connect a pod to a Service: %w", err)
		}
		opening, err := c.fromPod(f, true)
		if err := errors.Join(err, f.close()); err != nil {
			return with, withMany, err
		}
		subjects = append(subjects, opening)
	}
	for range flatTurns {
		for n, sum := range map[int]*Cost{few: &with, many: &withMany} {
			if err := c.serve(ctx, n); err != nil {
				return with, withMany, err
			}
			list, err := costs(true, subjects...)
			if err != nil {
				return with, withMany, err
			}
			for _, cost := range list {
				sum.Program = cost.Program
				sum.Took += cost.Took
				sum.Empty += cost.Empty
			}
		}
	}
	for _, sum := range []*Cost{&with, &withMany} {
		sum.Took /= flatTurns * flatServices
		sum.Empty /= flatTurns * flatServices
	}
	return with, withMany, nil
}

// serve gives the first node n Services, the first of which all lead to the cluster's backend.
func (c *Cluster) serve(ctx context.Context, n int) error {
	list := withOneBackend(services(n, c.backend(), c.Nodes[1].cfg.NodeName)) // for two there is no room
	for i := range flatServices {
		list[i].Backends = list[n/2].Backends
	}
	if err := c.Nodes[0].reconcile(ctx, list); err != nil {
		return fmt.Errorf("give a node %d Services: %w", n, err)
	}
	return nil
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
