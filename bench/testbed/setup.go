package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/settings"
)

// Names of the paths that are in no cluster.
const (
	// HostToHost is the reference: two hosts, and one wire between their NICs.
	HostToHost = "host to host"
	// BareVeth is the same between two other namespaces.
	BareVeth = "bare veth"
	// Bridge is two pods of one node on a Linux bridge.
	Bridge = "bridge"
	// Yardstick is pod to pod across nodes with the least that BPF can do.
	Yardstick = "minimal redirect"
	// KernelTunnel is pod to pod across nodes that route in the kernel, by its own VXLAN.
	KernelTunnel = "kernel's VXLAN"
)

// Fill says how many Services a cluster has.
type Fill string

const (
	// Few Services are 10, Many 10,000, unless it is only tried whether everything works.
	Few  Fill = "few"
	Many Fill = "many"
)

// Sizes are the numbers.
type Sizes map[Fill]int

// FullSizes are those of the goals.
func FullSizes() Sizes { return Sizes{Few: 10, Many: 10000} }

// mode is a way to run a node.
type mode struct {
	name string
	set  func(*datapath.Config)
}

// modes are set as the agent does for the shipped profiles that route natively.
func modes() []mode {
	return []mode{
		{KubeProxy, func(*datapath.Config) {}},
		{KubeProxyReplacement, func(c *datapath.Config) { c.KubeProxyReplacement = true }},
		{EBPF, byEBPF},
	}
}

func byEBPF(c *datapath.Config) { c.KubeProxyReplacement, c.BPF.Masquerade = true, true }

// Names of the modes, and of the one with a tunnel between the nodes, as profile vxlan has it.
const (
	KubeProxy            = string(settings.ModeKubeProxy)
	KubeProxyReplacement = string(settings.ModeKubeProxyReplacement)
	EBPF                 = string(settings.ModeEBPF)
	Tunnel               = EBPF + " by VXLAN"
)

// Told is the mode ebpf in which nodes tell of flows, as bpf.monitorAggregation medium has it, and somebody reads that.
const Told = EBPF + " that tells of flows"

// told is how a node of that one is set.
func told(c *datapath.Config) {
	byEBPF(c)
	c.BPF.MonitorAggregation = settings.AggregationMedium
}

// tunnel is how a node of the one with a tunnel is set.
func tunnel(c *datapath.Config) {
	byEBPF(c)
	c.RoutingMode, c.TunnelProtocol, c.AutoDirectNodeRoutes = settings.RoutingTunnel, settings.TunnelVXLAN, false
}

// ToPod is the way from pod to pod across nodes, in a cluster of a mode.
func ToPod(mode string, fill Fill) string { return fmt.Sprintf("%s, %s: to pod", mode, fill) }

// ToService is to the same pod through its Service.
func ToService(mode string, fill Fill) string { return fmt.Sprintf("%s, %s: to Service", mode, fill) }

// ToServiceByPackets is the same for a client whose sockets no program sees.
func ToServiceByPackets(mode string, fill Fill) string {
	return fmt.Sprintf("%s, %s: to Service by packets", mode, fill)
}

// ToPodBySocketless is to the pod's address for the same client.
func ToPodBySocketless(mode string, fill Fill) string {
	return fmt.Sprintf("%s, %s: to pod, no socket programs", mode, fill)
}

// SameNode is between two pods of one node.
func SameNode(mode string, fill Fill) string { return fmt.Sprintf("%s, %s: same node", mode, fill) }

// Setup is all that is compared.
type Setup struct {
	Paths Paths
	// Clusters by mode and fill.
	Clusters map[string]map[Fill]*Cluster
}

// SetUp makes every network and starts every node. Progress is told what it is about to make.
func (b *Bed) SetUp(ctx context.Context, sizes Sizes, progress func(string)) (*Setup, error) {
	l := &Setup{Paths: Paths{}, Clusters: map[string]map[Fill]*Cluster{}}
	progress("hosts")
	if err := b.setUpHosts(l.Paths); err != nil {
		return nil, fmt.Errorf("set up hosts: %w", err)
	}
	for _, m := range modes() {
		l.Clusters[m.name] = map[Fill]*Cluster{}
		for _, fill := range []Fill{Few, Many} {
			progress(fmt.Sprintf("%s with %d Services", m.name, sizes[fill]))
			c, err := b.cluster(ctx, m.name+", "+string(fill), sizes[fill], m.set)
			if err != nil {
				return nil, fmt.Errorf("set up %s with %d Services: %w", m.name, sizes[fill], err)
			}
			l.Clusters[m.name][fill] = c
			l.Paths[ToPod(m.name, fill)] = b.across(c)
			l.Paths[ToService(m.name, fill)] = b.service(c)
			l.Paths[ToServiceByPackets(m.name, fill)] = b.packets(c)
			l.Paths[ToPodBySocketless(m.name, fill)] = b.socketless(c)
			l.Paths[SameNode(m.name, fill)] = b.within(c)
		}
	}
	if err := b.setUpTold(ctx, sizes, l.Paths, progress); err != nil {
		return nil, err
	}
	return l, b.setUpTunnels(ctx, sizes, l.Paths, progress)
}

// setUpTold makes what tells of flows.
func (b *Bed) setUpTold(ctx context.Context, sizes Sizes, paths Paths, progress func(string)) error {
	progress("nodes that tell of flows")
	c, err := b.cluster(ctx, Told, sizes[Few], told)
	if err != nil {
		return fmt.Errorf("set up %s: %w", Told, err)
	}
	for _, n := range c.Nodes {
		b.listen(n)
	}
	paths[ToPod(Told, Few)] = b.across(c)
	return nil
}

// setUpTunnels makes what has a tunnel between the nodes.
func (b *Bed) setUpTunnels(ctx context.Context, sizes Sizes, paths Paths, progress func(string)) error {
	progress("tunnels")
	_, pods, err := b.kernelTunnel()
	if err != nil {
		return fmt.Errorf("set up the %s: %w", KernelTunnel, err)
	}
	paths[KernelTunnel] = b.straight(pods[0].Space, pods[1].Space, pods[1].addr)
	c, err := b.cluster(ctx, Tunnel, sizes[Many], tunnel)
	if err != nil {
		return fmt.Errorf("set up %s: %w", Tunnel, err)
	}
	paths[ToPod(Tunnel, Many)] = b.across(c)
	return nil
}

// setUpHosts makes what is in no cluster.
func (b *Bed) setUpHosts(paths Paths) error {
	for _, name := range []string{HostToHost, BareVeth} {
		pair, err := b.hosts(name)
		if err != nil {
			return err
		}
		paths[name] = b.straight(pair[0], pair[1], hostAddr(1))
	}
	pods, err := b.yardstick()
	if err != nil {
		return err
	}
	paths[Yardstick] = b.straight(pods[0].Space, pods[1].Space, pods[1].addr)
	bridged, err := b.bridge()
	if err != nil {
		return err
	}
	paths[Bridge] = b.straight(bridged[0], bridged[1], hostAddr(1))
	return nil
}

// bridge makes two pods on the bridge of a node.
func (b *Bed) bridge() (pods [2]*Space, err error) {
	node, err := b.Space("node with a bridge")
	if err != nil {
		return pods, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	if err := node.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return pods, fmt.Errorf("make bridge: %w", err)
	}
	for i := range pods {
		if pods[i], err = b.Space(fmt.Sprintf("bridged pod %d", i)); err != nil {
			return pods, err
		}
		port := fmt.Sprintf("port%d", i)
		if err := errors.Join(connect(pods[i], podDevice, node, port), node.enslave(port, "br0"),
			pods[i].addAddr(podDevice, netip.PrefixFrom(hostAddr(i), hostBits))); err != nil {
			return pods, err
		}
	}
	return pods, node.up("br0")
}

func (s *Space) enslave(port, bridge string) error {
	p, err := s.link(port)
	if err != nil {
		return err
	}
	br, err := s.link(bridge)
	if err != nil {
		return err
	}
	if err := s.nl.LinkSetMaster(p, br); err != nil {
		return fmt.Errorf("connect %s to %s: %w", port, bridge, err)
	}
	return nil
}
