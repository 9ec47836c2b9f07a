// Package plan says which paths are measured by which workload, and what they have to reach.
package plan

import (
	"fmt"
	"time"

	"wirelab.dev/wirelab/internal/bench"
	"wirelab.dev/wirelab/internal/bench/bed"
	"wirelab.dev/wirelab/internal/bench/workload"
)

// slower is the reference with something added that is known.
const slower = "host to host, 5 % slower"

// slowerBy is how much, as a part of an operation.
const slowerBy = 0.05

// paths are those that are measured by a workload, besides the reference.
func paths(kind workload.Kind) []string {
	switch kind {
	case workload.TCPRR:
		return []string{
			slower, bed.BareVeth, bed.Bridge, bed.Yardstick,
			bed.ToPod(bed.KubeProxy, bed.Few),
			bed.ToPod(bed.Replacement, bed.Few), bed.ToPod(bed.Replacement, bed.Many),
			bed.ToPod(bed.EBPF, bed.Few), bed.ToPod(bed.EBPF, bed.Many), bed.SameNode(bed.EBPF, bed.Many),
		}
	case workload.UDPRR:
		return []string{bed.ToPod(bed.KubeProxy, bed.Few), bed.ToPod(bed.Replacement, bed.Many), bed.ToPod(bed.EBPF, bed.Many)}
	case workload.TCPCRR:
		return []string{
			bed.Bridge,
			bed.ToPod(bed.KubeProxy, bed.Few), bed.ToService(bed.KubeProxy, bed.Few), bed.ToService(bed.KubeProxy, bed.Many),
			bed.ToService(bed.Replacement, bed.Few), bed.ToService(bed.Replacement, bed.Many),
			bed.ToPod(bed.EBPF, bed.Few), bed.ToService(bed.EBPF, bed.Few),
			bed.ToPod(bed.EBPF, bed.Many), bed.ToService(bed.EBPF, bed.Many), bed.ToServiceByPackets(bed.EBPF, bed.Many),
			bed.SameNode(bed.EBPF, bed.Many),
		}
	}
	return []string{
		bed.Bridge,
		bed.ToPod(bed.KubeProxy, bed.Few), bed.ToPod(bed.Replacement, bed.Many),
		bed.ToPod(bed.EBPF, bed.Few), bed.ToPod(bed.EBPF, bed.Many), bed.SameNode(bed.EBPF, bed.Many),
	}
}

// Suites are one a workload.
func Suites(l *bed.Layout, w workload.Window) ([]bench.Suite, error) {
	var suites []bench.Suite
	for _, kind := range workload.Kinds() {
		s, err := suite(l, kind, w)
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", kind, err)
		}
		suites = append(suites, s)
	}
	return suites, nil
}

func suite(l *bed.Layout, kind workload.Kind, w workload.Window) (s bench.Suite, err error) {
	s.Name = string(kind)
	if s.Reference, err = arm(l, bed.HostToHost, kind, w); err != nil {
		return s, err
	}
	again := s.Reference
	again.Name = bench.SameAgain
	s.Arms = append(s.Arms, again)
	for _, name := range paths(kind) {
		a, err := arm(l, name, kind, w)
		if err != nil {
			return s, err
		}
		s.Arms = append(s.Arms, a)
	}
	return s, nil
}

func arm(l *bed.Layout, name string, kind workload.Kind, w workload.Window) (bench.Arm, error) {
	if name == slower {
		return slowed(l, kind, w)
	}
	path, err := l.Paths.Get(name)
	if err != nil {
		return bench.Arm{}, err
	}
	return path.Arm(name, kind, w)
}

// slowed is the reference with a delay in every operation that is a part of what one takes now.
func slowed(l *bed.Layout, kind workload.Kind, w workload.Window) (bench.Arm, error) {
	path, err := l.Paths.Get(bed.HostToHost)
	if err != nil {
		return bench.Arm{}, err
	}
	a, err := path.Arm(slower, kind, w)
	if err != nil {
		return a, err
	}
	pair := path.Pair(kind, w)
	now, err := pair.Measure()
	if err != nil {
		return a, err
	}
	pair.Client.Delay = time.Duration(float64(now.P50) * slowerBy)
	a.Measure = pair.Measure
	return a, nil
}
