package testbed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/settings"
)

const (
	// nic is every host's NIC.
	nic = "eth0"
	// podDevice is every pod's interface.
	podDevice = "eth0"
	// hostBits is how wide the hosts' network is.
	hostBits = 24
)

// native is where pods keep their addresses; allPods are the cluster's.
var (
	native  = netip.MustParsePrefix("10.0.0.0/8")
	allPods = netip.MustParsePrefix("10.244.0.0/16")
)

// hostAddr is host i's address, from 0.
func hostAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}) }

// podCIDR is node i's.
func podCIDR(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24)
}

// hosts makes two hosts with their NICs wired to each other.
func (b *Bed) hosts(name string) ([2]*Space, error) {
	var pair [2]*Space
	for i := range pair {
		var err error
		if pair[i], err = b.Space(fmt.Sprintf("%s %d", name, i)); err != nil {
			return pair, err
		}
	}
	if err := connect(pair[0], nic, pair[1], nic); err != nil {
		return pair, err
	}
	for i, s := range pair {
		if err := s.addAddr(nic, netip.PrefixFrom(hostAddr(i), hostBits)); err != nil {
			return pair, err
		}
	}
	return pair, nil
}

// gateway is the next hop of pods that no data plane of ours serves.
var gateway = netip.MustParseAddr("169.254.1.1")

// hostsWithPods makes two hosts with a pod each, whose packets leave so much room as overhead says. Nothing takes them any
// further than to their host yet.
func (b *Bed) hostsWithPods(name string, overhead int) (hosts [2]*Space, pods [2]Pod, err error) {
	if hosts, err = b.hosts(name); err != nil {
		return hosts, pods, err
	}
	const hostIf = "pod"
	for i, host := range hosts {
		s, err := b.Space(fmt.Sprintf("pod of %s %d", name, i))
		if err != nil {
			return hosts, pods, err
		}
		pods[i] = Pod{Space: s, addr: podCIDR(i).Addr().Next().Next(), hostIf: hostIf}
		if err := connect(host, hostIf, s, podDevice); err != nil {
			return hosts, pods, err
		}
		veth, err := host.link(hostIf)
		if err != nil {
			return hosts, pods, err
		}
		if err := errors.Join(
			s.addAddr(podDevice, netip.PrefixFrom(pods[i].addr, 32)),
			s.addGateway(podDevice, gateway, veth.Attrs().HardwareAddr, veth.Attrs().MTU-overhead),
		); err != nil {
			return hosts, pods, err
		}
	}
	return hosts, pods, nil
}

// Node is a host that runs the real data plane.
type Node struct {
	*Space
	// Datapath may only be called in the node's namespace.
	dp     *datapath.Datapath
	cfg    datapath.Config
	cgroup string
	pods   []Pod
	// mapsDir is where the node's maps are pinned.
	mapsDir string
	// reader is who reads the node's events; nil where nobody does.
	reader *reader
}

// podIdentity is every pod's: the first that a cluster gives to a set of labels.
const podIdentity = uint32(identity.FirstPod)

// Pod is one of a node's.
type Pod struct {
	*Space
	addr   netip.Addr
	hostIf string
}

// openNode starts the data plane of host i.
func (b *Bed) openNode(s *Space, i int, set func(*datapath.Config)) (*Node, error) {
	bpffs, cgroup, err := b.filesystems()
	if err != nil {
		return nil, err
	}
	n := &Node{Space: s, cgroup: cgroup, mapsDir: bpffs + "/wirelab/maps"}
	n.cfg = datapath.Config{
		NodeName:   fmt.Sprintf("node%d", i),
		NodeIP:     hostAddr(i),
		PodCIDR:    podCIDR(i),
		Network:    settings.Default(),
		BPFFS:      bpffs,
		CgroupRoot: cgroup,
	}
	n.cfg.RoutingMode, n.cfg.AutoDirectNodeRoutes, n.cfg.IPv4NativeRoutingCIDR = settings.RoutingNative, true, native
	set(&n.cfg)
	err = n.Do(func() (err error) {
		n.dp, err = datapath.Open(context.Background(), n.cfg, slog.New(slog.DiscardHandler))
		return err
	})
	if err != nil {
		return nil, err
	}
	b.onClose(n.dp.Close)
	return n, nil
}

// reconcile gives the node everything but its pods.
func (n *Node) reconcile(ctx context.Context, services []lb.Service) error {
	var nodes []datapath.Node
	for i := range 2 {
		nodes = append(nodes, datapath.Node{Name: fmt.Sprintf("node%d", i), IP: hostAddr(i), PodCIDRs: []netip.Prefix{podCIDR(i)}})
	}
	return n.Do(func() error {
		skipped, err := n.dp.Routes().Apply(ctx, nodes)
		if err == nil && len(skipped) != 0 {
			err = fmt.Errorf("routes to %v were skipped", skipped)
		}
		err = errors.Join(err, n.dp.Masquerade().Apply(ctx, nodes), n.dp.Untracked().Apply(ctx, nodes))
		if !n.cfg.KubeProxyReplacement {
			return err
		}
		return errors.Join(err, n.dp.Services().Apply(ctx, lb.State{Services: services}))
	})
}

// addPod gives the node its next pod.
func (b *Bed) addPod(ctx context.Context, n *Node) error {
	s, err := b.Space(fmt.Sprintf("pod %d of %s", len(n.pods), n.name))
	if err != nil {
		return err
	}
	addr := n.cfg.Router()
	for range len(n.pods) + 1 {
		addr = addr.Next()
	}
	spec := datapath.EndpointSpec{
		HostIf: api.HostIfName(rand.Text(), podDevice), IfName: podDevice, Namespace: "bench", Pod: s.name, Addr: addr,
		Identity: podIdentity, NetNS: s.fd,
	}
	var ep api.Endpoint
	err = n.Do(func() (err error) {
		ep, err = n.dp.AddEndpoint(ctx, spec)
		return err
	})
	if err != nil {
		return err
	}
	n.pods = append(n.pods, Pod{Space: s, addr: addr, hostIf: ep.HostIf})
	return nil
}
