package goals

import (
	"slices"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/testbed"
	"wirelab.dev/wirelab/bench/workload"
)

// atLeast and atMost are goals: id, what, bar and aim.
func atLeast(id, what string, bar, aim float64) bench.Goal {
	return bench.Goal{ID: id, What: what, Bar: bench.AtLeast(bar), Aim: bench.AtLeast(aim)}
}

func atMost(id, what string, bar, aim float64) bench.Goal {
	return bench.Goal{ID: id, What: what, Bar: bench.AtMost(bar), Aim: bench.AtMost(aim)}
}

// information is a number without a bar.
func information(id, what string) bench.Goal { return bench.Goal{ID: id, What: what} }

// speed compares how fast operations are, cost what a byte takes, overhead what either takes beyond the wire.
func speed(g bench.Goal, kind workload.Kind, of, by string) bench.Comparison {
	return bench.Comparison{Goal: g, Suite: string(kind), Of: of, By: by, As: bench.Speed}
}

func cost(g bench.Goal, of, by string) bench.Comparison {
	return bench.Comparison{Goal: g, Suite: string(stream), Of: of, By: by, As: bench.Cost}
}

func overhead(g bench.Goal, kind workload.Kind, of, by string) bench.Comparison {
	return bench.Comparison{Goal: g, Suite: string(kind), Of: of, By: by, As: bench.Overhead}
}

const (
	rr     = workload.TCPRR
	udp    = workload.UDPRR
	crr    = workload.TCPCRR
	stream = workload.TCPStream
)

// Comparisons are the goals about paths, and then what is for information. The numbers are those of
// docs/performance.md.
func Comparisons() []bench.Comparison {
	return slices.Concat(byTheYardstick(), byKubeProxy(), byTheBridge(), byTheKernelsTunnel(), byFewServices(), byTellingNothing(), ratios())
}

// byTheYardstick say what the programs themselves cost, with many Services.
func byTheYardstick() []bench.Comparison {
	pod, service := testbed.ToPod(testbed.EBPF, testbed.Many), testbed.ToService(testbed.EBPF, testbed.Many)
	packets, socketless := testbed.ToServiceByPackets(testbed.EBPF, testbed.Many), testbed.ToPodBySocketless(testbed.EBPF, testbed.Many)
	return []bench.Comparison{
		speed(atLeast("Y1", "ebpf across nodes / minimal redirecting program: TCP_RR", 0.94, 0.98), rr, pod, testbed.Yardstick),
		speed(atLeast("Y1", "the same: UDP_RR", 0.94, 0.98), udp, pod, testbed.Yardstick),
		speed(atLeast("Y2", "the same: TCP_CRR to a pod's address", 0.93, 0.97), crr, pod, testbed.Yardstick),
		speed(atLeast("Y2", "the same: TCP_CRR to a Service by socket", 0.93, 0.97), crr, service, testbed.Yardstick),
		cost(atMost("Y3", "the same: CPU a byte", 1.05, 1.01), pod, testbed.Yardstick),
		speed(atLeast("Y4", "TCP_CRR to a Service by packets / to the pod's address, both without socket programs", 0.93, 0.98), crr, packets, socketless),
		speed(atLeast("Y5", "ebpf, same node / one bare veth pair: TCP_RR", 0.92, 0.97), rr, testbed.SameNode(testbed.EBPF, testbed.Many), testbed.BareVeth),
	}
}

// byKubeProxy say what is left of what the other way costs over the wire.
func byKubeProxy() []bench.Comparison {
	kubeproxy, replacement, ebpf := testbed.KubeProxy, testbed.KubeProxyReplacement, testbed.EBPF
	few, many := testbed.Few, testbed.Many
	return []bench.Comparison{
		overhead(atMost("O1", "overhead of ebpf / of kubeproxy, few Services: TCP_RR", 0.30, 0.20), rr, testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		overhead(atMost("O1", "the same: TCP_CRR to a pod's address", 0.30, 0.20), crr, testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		overhead(atMost("O1", "the same: CPU a byte", 0.30, 0.20), stream, testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		overhead(atMost("O2", "overhead of ebpf / of kubeproxy, 10,000 Services: TCP_CRR to a Service", 0.07, 0.04), crr, testbed.ToService(ebpf, many), testbed.ToService(kubeproxy, many)),
		overhead(atMost("O3", "overhead of kubeproxy-replacement / of kubeproxy, few Services: TCP_RR", 1.03, 1.0), rr, testbed.ToPod(replacement, few), testbed.ToPod(kubeproxy, few)),
		overhead(atMost("O3", "the same: TCP_CRR to a Service", 0.95, 0.85), crr, testbed.ToService(replacement, few), testbed.ToService(kubeproxy, few)),
		overhead(atMost("O3", "10,000 Services: TCP_CRR to a Service", 0.25, 0.20), crr, testbed.ToService(replacement, many), testbed.ToService(kubeproxy, many)),
	}
}

// byTheBridge are between two pods of one node.
func byTheBridge() []bench.Comparison {
	pods := testbed.SameNode(testbed.EBPF, testbed.Many)
	return []bench.Comparison{
		overhead(atMost("O4", "overhead of ebpf / of a Linux bridge, same node: TCP_RR", 0.60, 0.30), rr, pods, testbed.Bridge),
		overhead(atMost("O4", "the same: TCP_CRR", 0.50, 0.30), crr, pods, testbed.Bridge),
		overhead(atMost("O4", "the same: CPU a byte", 0.75, 0.30), stream, pods, testbed.Bridge),
	}
}

// byTheKernelsTunnel say what our way into a tunnel and out of it is worth, with many Services. The device in between is
// the same.
func byTheKernelsTunnel() []bench.Comparison {
	ours := testbed.ToPod(testbed.Tunnel, testbed.Many)
	return []bench.Comparison{
		speed(atLeast("P13", "ebpf by VXLAN / the kernel's VXLAN, routed: TCP_RR", 1.10, 1.15), rr, ours, testbed.KernelTunnel),
		cost(atMost("P13", "the same: CPU a byte", 0.90, 0.87), ours, testbed.KernelTunnel),
	}
}

// byFewServices says what many Services cost.
func byFewServices() []bench.Comparison {
	service := func(fill testbed.Fill) string { return testbed.ToService(testbed.EBPF, fill) }
	return []bench.Comparison{
		speed(atLeast("P14", "TCP_CRR to a Service, 10,000 Services / few", 0.97, 1), crr, service(testbed.Many), service(testbed.Few)),
	}
}

// byTellingNothing say what is left where nodes tell of flows, and somebody reads that.
func byTellingNothing() []bench.Comparison {
	told, untold := testbed.ToPod(testbed.Told, testbed.Few), testbed.ToPod(testbed.EBPF, testbed.Few)
	return []bench.Comparison{
		speed(atLeast("P17", "ebpf, flows told (medium) / not told: TCP_RR", 0.99, 1), rr, told, untold),
		speed(atLeast("P17", "the same: TCP_CRR to a pod's address", 0.95, 0.98), crr, told, untold),
	}
}

// ratios have no bars: what all paths cost is in both numbers, and it differs from processor to processor.
func ratios() []bench.Comparison {
	kubeproxy, replacement, ebpf := testbed.KubeProxy, testbed.KubeProxyReplacement, testbed.EBPF
	few, many := testbed.Few, testbed.Many
	pod, same, tunnel := testbed.ToPod(ebpf, many), testbed.SameNode(ebpf, many), testbed.ToPod(testbed.Tunnel, many)
	return []bench.Comparison{
		speed(information("P1", "ebpf across nodes / host to host: TCP_RR"), rr, pod, ""),
		speed(information("P2", "the same: UDP_RR"), udp, pod, ""),
		speed(information("P3", "the same: TCP_CRR to a pod's address"), crr, pod, ""),
		speed(information("P4", "TCP_CRR to a Service by socket / to the pod's address"), crr, testbed.ToService(ebpf, many), pod),
		speed(information("P5", "TCP_CRR to a Service by packets / host to host"), crr, testbed.ToServiceByPackets(ebpf, many), ""),
		cost(information("P6", "ebpf across nodes / host to host: CPU a byte"), pod, ""),
		speed(information("P7", "ebpf / kubeproxy, few Services: TCP_RR"), rr, testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		speed(information("P7", "the same: TCP_CRR to a pod's address"), crr, testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		cost(information("P7", "the same: CPU a byte"), testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		speed(information("P8", "ebpf / kubeproxy, 10,000 Services: TCP_CRR to a Service"), crr, testbed.ToService(ebpf, many), testbed.ToService(kubeproxy, many)),
		speed(information("P9", "ebpf / kubeproxy-replacement: TCP_RR"), rr, pod, testbed.ToPod(replacement, many)),
		cost(information("P9", "the same: CPU a byte"), pod, testbed.ToPod(replacement, many)),
		speed(information("P10", "kubeproxy-replacement / kubeproxy, few Services: TCP_RR"), rr, testbed.ToPod(replacement, few), testbed.ToPod(kubeproxy, few)),
		speed(information("P10", "the same: TCP_CRR to a Service"), crr, testbed.ToService(replacement, few), testbed.ToService(kubeproxy, few)),
		speed(information("P10", "10,000 Services: TCP_CRR to a Service"), crr, testbed.ToService(replacement, many), testbed.ToService(kubeproxy, many)),
		speed(information("P11", "ebpf / Linux bridge, same node: TCP_RR"), rr, same, testbed.Bridge),
		speed(information("P11", "the same: TCP_CRR"), crr, same, testbed.Bridge),
		cost(information("P11", "the same: CPU a byte"), same, testbed.Bridge),
		speed(information("P13", "ebpf by VXLAN / the kernel's VXLAN, routed: TCP_CRR to a pod's address"), crr, tunnel, testbed.KernelTunnel),
		overhead(information("P13", "overhead of ebpf by VXLAN / of the kernel's VXLAN: TCP_RR"), rr, tunnel, testbed.KernelTunnel),
		overhead(information("P13", "the same: CPU a byte"), stream, tunnel, testbed.KernelTunnel),
		overhead(information("P13", "overhead of ebpf by VXLAN / of ebpf without a tunnel: TCP_RR"), rr, tunnel, pod),
		overhead(information("P13", "the same: CPU a byte"), stream, tunnel, pod),
	}
}

// Controls have a known outcome.
func Controls() []bench.Control {
	var controls []bench.Control
	for _, kind := range workload.Kinds() {
		again := speed(bench.Goal{What: "the reference by another name"}, kind, bench.SameAgain, "")
		controls = append(controls, bench.Control{Comparison: again, Low: 0.97, High: 1.03})
	}
	known := 1 / (1 + slowerBy)
	return append(controls,
		bench.Control{Comparison: speed(bench.Goal{What: slower}, rr, slower, ""), Low: known - 0.02, High: known + 0.02},
		bench.Control{Comparison: speed(bench.Goal{What: "10,000 Services in iptables"}, crr, testbed.ToService(testbed.KubeProxy, testbed.Many), ""), Low: 0, High: 0.3},
	)
}
