package testbed

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
)

// Bed is everything that is compared.
type Bed struct {
	// CPU is where both ends of every measurement are pinned.
	CPU int

	cgroups *cgroups
	closers []func() error
}

// Make makes a bed without networks. It moves this process to another cgroup, until the bed is closed.
func Make(cpu int) (*Bed, error) {
	c, err := enterCgroups()
	if err != nil {
		return nil, err
	}
	return &Bed{CPU: cpu, cgroups: c, closers: []func() error{c.leave}}, nil
}

// Close removes everything, last things first.
func (b *Bed) Close() error {
	var errs []error
	for _, closer := range slices.Backward(b.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

func (b *Bed) onClose(f func() error) { b.closers = append(b.closers, f) }

// Space makes a namespace without devices.
func (b *Bed) Space(name string) (*Space, error) {
	s, err := newSpace(name)
	if err != nil {
		return nil, err
	}
	b.onClose(s.close)
	return s, nil
}

// Cluster is two nodes: the first with two pods, the second with one.
type Cluster struct {
	Nodes [2]*Node
	// Services is how many there are.
	Services int
}

// cluster makes one. Its nodes run with the settings that set makes, and have n Services, by the data plane
// or, where that leaves them to others, by rules.
func (b *Bed) cluster(ctx context.Context, name string, n int, set func(*datapath.Config)) (*Cluster, error) {
	hosts, err := b.hosts(name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Services: n}
	for i, host := range hosts {
		if c.Nodes[i], err = b.openNode(host, i, set); err != nil {
			return nil, err
		}
		for range 2 - i {
			if err := b.addPod(ctx, c.Nodes[i]); err != nil {
				return nil, err
			}
		}
	}
	list := services(n, c.backend(), c.Nodes[1].cfg.NodeName)
	rules := kubeProxyRules(withOneBackend(list), allPods)
	return c, c.each(func(node *Node) error {
		if err := node.dp.IPCache().Apply(ctx, c.whoHas(node)); err != nil {
			return err
		}
		if err := node.reconcile(ctx, list); err != nil || node.cfg.KubeProxyReplacement {
			return err
		}
		return node.run(rules, "iptables-restore", "--noflush")
	})
}

// whoHas is what an agent tells a node of who has which address.
func (c *Cluster) whoHas(node *Node) []api.IPCacheEntry {
	one := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	entries := []api.IPCacheEntry{{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Identity: uint32(identity.World)}}
	for _, other := range c.Nodes {
		host, at := identity.RemoteNode, other.cfg.NodeIP
		if other == node {
			host, at = identity.Host, netip.Addr{}
		}
		entries = append(entries,
			api.IPCacheEntry{Prefix: one(other.cfg.NodeIP), Identity: uint32(host), Node: at, NodeAddress: true},
			api.IPCacheEntry{Prefix: other.cfg.PodCIDR, Node: at})
		for _, pod := range other.pods {
			entries = append(entries, api.IPCacheEntry{Prefix: one(pod.addr), Identity: podIdentity, Node: at})
		}
	}
	return entries
}

// each calls f for both nodes at once.
func (c *Cluster) each(f func(*Node) error) error {
	var both errgroup.Group
	for _, node := range c.Nodes {
		both.Go(func() error { return f(node) })
	}
	return both.Wait()
}
