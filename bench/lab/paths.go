package lab

import (
	"context"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/workload"
)

// path leads from a client's pod to an address.
type path struct {
	name string
	from role
	to   string
}

// Names of the paths. The reference is from node to node.
const (
	nodeToNode  = "node to node"
	sameNode    = "pod to pod, same node"
	across      = "pod to pod, across nodes"
	sameService = "pod to Service, same node"
	farService  = "pod to Service, across nodes"
)

// paths are all, the reference first.
func (r *run) paths() []path {
	return []path{
		{nodeToNode, hostClient, r.addrs[hostFar]},
		{sameNode, client, r.addrs[near]},
		{across, client, r.addrs[far]},
		{sameService, serviceClient, r.vips[near]},
		{farService, serviceClient, r.vips[far]},
	}
}

func (r *run) suite(ctx context.Context, kind workload.Kind) bench.Suite {
	s := bench.Suite{Name: string(kind)}
	for i, p := range r.paths() {
		arm := bench.Arm{Name: p.name, Measure: func() (workload.Result, error) {
			return r.measure(ctx, p, kind, workload.DefaultWindow())
		}}
		if i == 0 {
			s.Reference = arm
			arm.Name = bench.SameAgain
		}
		s.Arms = append(s.Arms, arm)
	}
	return s
}

// controls are wider than those of a bed: a lab's nodes have other work, and rounds are few.
func controls() []bench.Control {
	var list []bench.Control
	for _, kind := range workload.Kinds() {
		list = append(list, bench.Control{Low: 0.9, High: 1.1, Comparison: bench.Comparison{
			Goal: bench.Goal{What: "the reference by another name"}, Suite: string(kind), Of: bench.SameAgain,
		}})
	}
	return list
}

// bars are what a mode has to reach. They are loose: they show that a mode is what it says, no more. From node
// to node a packet passes Docker's bridge and the iptables of both nodes, so a node's own pods are faster.
type bars struct {
	across, sameNode, farService, sameService float64 // speed by another path's
	bytes                                     float64 // cost by another path's
}

func barsOf(mode string) bars {
	switch mode {
	case "ebpf":
		return bars{across: 0.80, sameNode: 1.2, farService: 0.85, sameService: 0.85, bytes: 1.6}
	case "kubeproxy-replacement":
		return bars{across: 0.55, sameNode: 1.2, farService: 0.85, sameService: 0.85, bytes: 2.2}
	}
	// On the same node BPF delivers to the pod's address, and the stack carries the Service.
	return bars{across: 0.55, sameNode: 1.2, farService: 0.60, sameService: 0.50, bytes: 2.2}
}

func goals(mode string) []bench.Comparison {
	b := barsOf(mode)
	speed := func(what string, kind workload.Kind, of, by string, bar float64) bench.Comparison {
		return bench.Comparison{
			Goal:  bench.Goal{ID: "lab", What: what, Bar: bench.AtLeast(bar), Aim: bench.AtLeast(1)},
			Suite: string(kind), Of: of, By: by,
		}
	}
	return []bench.Comparison{
		speed("across nodes / node to node: TCP_RR", workload.TCPRR, across, "", b.across),
		speed("the same: UDP_RR", workload.UDPRR, across, "", b.across),
		speed("the same: TCP_CRR", workload.TCPCRR, across, "", b.across),
		{
			Goal:  bench.Goal{ID: "lab", What: "the same: CPU a byte", Bar: bench.AtMost(b.bytes), Aim: bench.AtMost(1)},
			Suite: string(workload.TCPStream), Of: across, As: bench.Cost,
		},
		speed("same node / node to node: TCP_RR", workload.TCPRR, sameNode, "", b.sameNode),
		speed("Service / pod's address, across nodes: TCP_CRR", workload.TCPCRR, farService, across, b.farService),
		speed("Service / pod's address, same node: TCP_CRR", workload.TCPCRR, sameService, sameNode, b.sameService),
	}
}
