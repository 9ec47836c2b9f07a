package plan

import (
	"wirelab.dev/wirelab/internal/bench"
	"wirelab.dev/wirelab/internal/bench/bed"
	"wirelab.dev/wirelab/internal/bench/workload"
)

// atLeast and atMost are goals of comparisons: id, what, bar and aim.
func atLeast(id, what string, bar, aim float64) bench.Goal {
	return bench.Goal{ID: id, What: what, Bar: bench.AtLeast(bar), Aim: bench.AtLeast(aim)}
}

func atMost(id, what string, bar, aim float64) bench.Goal {
	return bench.Goal{ID: id, What: what, Bar: bench.AtMost(bar), Aim: bench.AtMost(aim)}
}

// speed compares how fast operations are.
func speed(g bench.Goal, kind workload.Kind, of, by string) bench.Comparison {
	return bench.Comparison{Goal: g, Suite: string(kind), Of: of, By: by}
}

// Comparisons are the goals about paths. The numbers are those of docs/performance.md.
func Comparisons() []bench.Comparison {
	const rr, crr = workload.TCPRR, workload.TCPCRR
	kubeproxy, replacement := bed.KubeProxy, bed.Replacement
	return []bench.Comparison{
		speed(atLeast("P10", "kubeproxy-replacement / kubeproxy, few Services: TCP_RR", 0.97, 1.0), rr, bed.ToPod(replacement, bed.Few), bed.ToPod(kubeproxy, bed.Few)),
		speed(atLeast("P10", "the same: TCP_CRR to a Service", 1.00, 1.1), crr, bed.ToService(replacement, bed.Few), bed.ToService(kubeproxy, bed.Few)),
		speed(atLeast("P10", "10,000 Services: TCP_CRR to a Service", 3.5, 4), crr, bed.ToService(replacement, bed.Many), bed.ToService(kubeproxy, bed.Many)),
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
		bench.Control{Comparison: speed(bench.Goal{What: "10,000 Services in iptables"}, workload.TCPCRR, bed.ToService(bed.KubeProxy, bed.Many), ""), Low: 0, High: 0.3},
	)
}
