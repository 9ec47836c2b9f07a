package testbed

import (
	"errors"
	"fmt"
	"net/netip"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/workload"
)

// Path is a way from a client's place to a server's.
type Path struct {
	client, server workload.Place
	// to is where the client goes, bind where the server listens. Without a port, it is the workload's.
	to, bind netip.AddrPort
	space    *Space
	// nodes are those whose programs are in the way.
	nodes []*Node
}

func withPort(at netip.AddrPort, kind workload.Kind) netip.AddrPort {
	if at.Port() != 0 {
		return at
	}
	return netip.AddrPortFrom(at.Addr(), workload.Port(kind))
}

func (b *Bed) at(s *Space) workload.Place { return workload.Place{NetNS: s.fd, CPU: b.CPU} }

// straight leads from one namespace to another's address.
func (b *Bed) straight(from, to *Space, addr netip.Addr) Path {
	at := netip.AddrPortFrom(addr, 0)
	return Path{client: b.at(from), server: b.at(to), to: at, bind: at, space: from}
}

// across leads from the first node's first pod to the pod of the second node.
func (b *Bed) across(c *Cluster) Path { return b.between(c, c.Nodes[1], 0) }

// within leads from the first node's first pod to its second.
func (b *Bed) within(c *Cluster) Path { return b.between(c, c.Nodes[0], 1) }

func (b *Bed) between(c *Cluster, node *Node, pod int) Path {
	client, server := c.Nodes[0].pods[0], node.pods[pod]
	p := b.straight(client.Space, server.Space, server.addr)
	p.client.Cgroup, p.server.Cgroup = c.Nodes[0].cgroup, node.cgroup
	p.nodes = c.Nodes[:]
	return p
}

// service leads to the same pod as across, by way of the Service. It is for TCP_CRR.
func (b *Bed) service(c *Cluster) Path {
	p := b.across(c)
	p.to, p.bind = measured(c.Services), c.backend()
	return p
}

// socketless is across for a client whose sockets no program sees.
func (b *Bed) socketless(c *Cluster) Path {
	p := b.across(c)
	p.client.Cgroup = ""
	return p
}

// packets is the service's path for a client whose sockets no program sees, so that its packets are translated. It
// is another pod, since to the Service and to its backend the same client may use the same port at once, which
// the two would then have to be told apart by.
func (b *Bed) packets(c *Cluster) Path {
	p, client := b.service(c), c.Nodes[0].pods[1]
	p.client, p.space = b.at(client.Space), client.Space
	return p
}

// backend is where the measured Service leads.
func (c *Cluster) backend() netip.AddrPort {
	return netip.AddrPortFrom(c.Nodes[1].pods[0].addr, workload.Port(workload.TCPCRR))
}

// Pair is what measures the path.
func (p Path) Pair(kind workload.Kind, w workload.Window) workload.Pair {
	return workload.Pair{
		Client: workload.Client{Place: p.client, Kind: kind, To: withPort(p.to, kind), Window: w},
		Server: p.server,
		Bind:   withPort(p.bind, kind),
	}
}

// measure runs a pair of the path, and fails where nodes in the way tell of flows and nobody hears that.
func (p Path) measure(pair workload.Pair) (workload.Result, error) {
	var heard []func() error
	for _, n := range p.nodes {
		heard = append(heard, n.hear())
	}
	r, err := pair.Measure()
	for _, check := range heard {
		err = errors.Join(err, check())
	}
	return r, err
}

// Arm is the path in a suite.
func (p Path) Arm(name string, kind workload.Kind, w workload.Window) (bench.Arm, error) {
	pair := p.Pair(kind, w)
	a := bench.Arm{Name: name, Measure: func() (workload.Result, error) { return p.measure(pair) }}
	l, err := p.space.link(nic)
	if err != nil {
		return a, err
	}
	a.MTU = l.Attrs().MTU
	if a.Offloads, err = p.space.offloads(nic); err != nil {
		return a, err
	}
	a.Programs = map[string]int{}
	for _, n := range p.nodes {
		attached, err := n.attached()
		if err != nil {
			return a, err
		}
		for _, prog := range attached {
			a.Programs[prog.Name] = prog.Instructions
		}
	}
	return a, nil
}

// Paths are the ways of a bed by name.
type Paths map[string]Path

// Get finds one.
func (p Paths) Get(name string) (Path, error) {
	path, ok := p[name]
	if !ok {
		return path, fmt.Errorf("there is no path %q", name)
	}
	return path, nil
}
