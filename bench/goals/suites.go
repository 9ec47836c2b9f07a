// Package goals says which paths are measured by which workload, and what they have to reach.
package goals

import (
	"fmt"
	"time"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/testbed"
	"wirelab.dev/wirelab/bench/workload"
)

// slower is the reference with something added that is known.
const slower = "host to host, 5 % slower"

// slowerBy is how much, as a part of an operation.
const slowerBy = 0.05

// paths are those that are measured by a workload, besides the reference.
func paths(kind workload.Kind) []string {
	kubeproxy, replacement, ebpf := testbed.KubeProxy, testbed.KubeProxyReplacement, testbed.EBPF
	few, many := testbed.Few, testbed.Many
	tunnels := []string{testbed.KernelTunnel, testbed.ToPod(testbed.Tunnel, many)}
	common := []string{testbed.Yardstick, testbed.ToPod(kubeproxy, few), testbed.ToPod(ebpf, many)}
	var more []string
	switch kind {
	case workload.TCPRR:
		more = append(tunnels,
			slower, testbed.BareVeth, testbed.Bridge,
			testbed.ToPod(replacement, few), testbed.ToPod(replacement, many), testbed.ToPod(ebpf, few), testbed.ToPod(testbed.Told, few),
			testbed.SameNode(ebpf, many),
		)
	case workload.UDPRR:
		more = []string{testbed.ToPod(replacement, many)}
	case workload.TCPCRR:
		more = append(tunnels,
			testbed.Bridge,
			testbed.ToService(kubeproxy, few), testbed.ToService(kubeproxy, many),
			testbed.ToService(replacement, few), testbed.ToService(replacement, many),
			testbed.ToPod(ebpf, few), testbed.ToPod(testbed.Told, few), testbed.ToService(ebpf, few), testbed.ToService(ebpf, many),
			testbed.ToPodBySocketless(ebpf, many), testbed.ToServiceByPackets(ebpf, many), testbed.SameNode(ebpf, many),
		)
	case workload.TCPStream:
		more = append(tunnels, testbed.Bridge, testbed.ToPod(replacement, many), testbed.ToPod(ebpf, few), testbed.SameNode(ebpf, many))
	}
	return append(common, more...)
}

// Suites are one a workload.
func Suites(l *testbed.Setup, w workload.Window) ([]bench.Suite, error) {
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

func suite(l *testbed.Setup, kind workload.Kind, w workload.Window) (s bench.Suite, err error) {
	s.Name = string(kind)
	if s.Reference, err = arm(l, testbed.HostToHost, kind, w); err != nil {
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

func arm(l *testbed.Setup, name string, kind workload.Kind, w workload.Window) (bench.Arm, error) {
	if name == slower {
		return slowed(l, kind, w)
	}
	path, err := l.Paths.Get(name)
	if err != nil {
		return bench.Arm{}, err
	}
	return path.Arm(name, kind, w)
}

// slowed is the reference with a delay in every operation that is a part of what one took just before: a delay is a time, and
// what it is a part of changes with the machine's speed.
func slowed(l *testbed.Setup, kind workload.Kind, w workload.Window) (bench.Arm, error) {
	path, err := l.Paths.Get(testbed.HostToHost)
	if err != nil {
		return bench.Arm{}, err
	}
	a, err := path.Arm(slower, kind, w)
	if err != nil {
		return a, err
	}
	a.Measure = func() (workload.Result, error) {
		pair := path.Pair(kind, w)
		now, err := pair.Measure()
		if err != nil {
			return now, err
		}
		pair.Client.Delay = time.Duration(float64(now.P50) * slowerBy)
		return pair.Measure()
	}
	return a, nil
}
