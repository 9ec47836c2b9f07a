package goals

import (
	"slices"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/testbed"
	"wirelab.dev/wirelab/bench/workload"
)

// atLeast and atMost are goals of comparisons: id, what, bar and aim.
func atLeast(id, what string, bar, aim float64) bench.Goal {
	return bench.Goal{ID: id, What: what, Bar: bench.AtLeast(bar), Aim: bench.AtLeast(aim)}
}

func atMost(id, what string, bar, aim float64) bench.Goal {
	return bench.Goal{ID: id, What: what, Bar: bench.AtMost(bar), Aim: bench.AtMost(aim)}
}

// speed compares how fast operations are, cost what a byte takes.
func speed(g bench.Goal, kind workload.Kind, of, by string) bench.Comparison {
	return bench.Comparison{Goal: g, Suite: string(kind), Of: of, By: by}
}

func cost(g bench.Goal, of, by string) bench.Comparison {
	return bench.Comparison{Goal: g, Suite: string(workload.TCPStream), Of: of, By: by, Cost: true}
}

// Comparisons are the goals about paths. The numbers are those of docs/performance.md.
func Comparisons() []bench.Comparison {
	return slices.Concat(byTheHost(), byKubeProxy(), sameNode())
}

const (
	rr  = workload.TCPRR
	crr = workload.TCPCRR
)

// byTheHost are the goals of the fastest mode, with many Services, against paths without a cluster.
func byTheHost() []bench.Comparison {
	pod := testbed.ToPod(testbed.EBPF, testbed.Many)
	return []bench.Comparison{
		speed(atLeast("P1", "ebpf across nodes / host to host: TCP_RR", 0.83, 0.90), rr, pod, ""),
		speed(atLeast("P2", "the same: UDP_RR", 0.81, 0.89), workload.UDPRR, pod, ""),
		speed(atLeast("P3", "the same: TCP_CRR to a pod's address", 0.78, 0.88), crr, pod, ""),
		speed(atLeast("P4", "TCP_CRR to a Service by socket / to the pod's address", 0.97, 1.00), crr, testbed.ToService(testbed.EBPF, testbed.Many), pod),
		speed(atLeast("P5", "TCP_CRR to a Service by packets / host to host", 0.76, 0.85), crr, testbed.ToServiceByPackets(testbed.EBPF, testbed.Many), ""),
		cost(atMost("P6", "ebpf across nodes / host to host: CPU a byte", 1.25, 1.12), pod, ""),
		speed(atLeast("P14", "TCP_CRR to a Service, 10,000 Services / few", 0.97, 0.99), crr, testbed.ToService(testbed.EBPF, testbed.Many), testbed.ToService(testbed.EBPF, testbed.Few)),
		speed(atLeast("P18", "ebpf across nodes / minimal redirecting program: TCP_RR", 0.93, 0.97), rr, pod, testbed.Yardstick),
	}
}

// byKubeProxy are the goals of one mode against another.
func byKubeProxy() []bench.Comparison {
	kubeproxy, replacement, ebpf := testbed.KubeProxy, testbed.Replacement, testbed.EBPF
	few, many := testbed.Few, testbed.Many
	return []bench.Comparison{
		speed(atLeast("P7", "ebpf / kubeproxy, few Services: TCP_RR", 1.20, 1.31), rr, testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		speed(atLeast("P7", "the same: TCP_CRR to a pod's address", 1.25, 1.40), crr, testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		cost(atMost("P7", "the same: CPU a byte", 0.85, 0.70), testbed.ToPod(ebpf, few), testbed.ToPod(kubeproxy, few)),
		speed(atLeast("P8", "ebpf / kubeproxy, 10,000 Services: TCP_CRR to a Service", 4, 5.5), crr, testbed.ToService(ebpf, many), testbed.ToService(kubeproxy, many)),
		speed(atLeast("P9", "ebpf / kubeproxy-replacement: TCP_RR", 1.20, 1.30), rr, testbed.ToPod(ebpf, many), testbed.ToPod(replacement, many)),
		cost(atMost("P9", "the same: CPU a byte", 0.80, 0.72), testbed.ToPod(ebpf, many), testbed.ToPod(replacement, many)),
		speed(atLeast("P10", "kubeproxy-replacement / kubeproxy, few Services: TCP_RR", 0.97, 1.0), rr, testbed.ToPod(replacement, few), testbed.ToPod(kubeproxy, few)),
		speed(atLeast("P10", "the same: TCP_CRR to a Service", 1.00, 1.1), crr, testbed.ToService(replacement, few), testbed.ToService(kubeproxy, few)),
		speed(atLeast("P10", "10,000 Services: TCP_CRR to a Service", 3.5, 4), crr, testbed.ToService(replacement, many), testbed.ToService(kubeproxy, many)),
	}
}

// sameNode are the goals between two pods of one node.
func sameNode() []bench.Comparison {
	pods := testbed.SameNode(testbed.EBPF, testbed.Many)
	return []bench.Comparison{
		speed(atLeast("P11", "ebpf / Linux bridge, same node: TCP_RR", 1.10, 1.19), rr, pods, testbed.Bridge),
		speed(atLeast("P11", "the same: TCP_CRR", 1.10, 1.21), crr, pods, testbed.Bridge),
		cost(atMost("P11", "the same: CPU a byte", 0.87, 0.79), pods, testbed.Bridge),
		speed(atLeast("P12", "ebpf, same node / one bare veth pair: TCP_RR", 0.90, 0.97), rr, pods, testbed.BareVeth),
	}
}

// NotYet are goals about what is not there.
func NotYet() []bench.Row {
	return []bench.Row{
		atLeast("P13", "VXLAN in BPF / the kernel's: TCP_RR", 1.10, 1.15).Absent("there is no tunnel mode"),
		atMost("P13", "the same: CPU a byte", 0.90, 0.87).Absent("there is no tunnel mode"),
		atLeast("P17", "policy and aggregated flow events, on / off: TCP_RR", 0.97, 0.99).Absent("there are no policies"),
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
		bench.Control{Comparison: speed(bench.Goal{What: slower}, workload.TCPRR, slower, ""), Low: known - 0.02, High: known + 0.02},
		bench.Control{Comparison: speed(bench.Goal{What: "10,000 Services in iptables"}, workload.TCPCRR, testbed.ToService(testbed.KubeProxy, testbed.Many), ""), Low: 0, High: 0.3},
	)
}
