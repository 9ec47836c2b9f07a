package lab

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/workload"
)

func TestGoalsAreAboutPathsThatAreMeasured(t *testing.T) {
	r := run{addrs: map[role]string{}, vips: map[role]string{}}
	names := []string{"", bench.SameAgain}
	for _, p := range r.paths() {
		names = append(names, p.name)
	}
	for _, mode := range []string{"kubeproxy", "kubeproxy-replacement", "ebpf"} {
		for _, g := range goals(mode) {
			if !slices.Contains(names, g.Of) || !slices.Contains(names, g.By) {
				t.Errorf("%s: %q by %q is not measured", g.What, g.Of, g.By)
			}
		}
	}
	for _, kind := range workload.Kinds() {
		s := r.suite(t.Context(), kind)
		if s.Reference.Name != nodeToNode || s.Arms[0].Name != bench.SameAgain {
			t.Errorf("%s: the reference is %s, and again %s", kind, s.Reference.Name, s.Arms[0].Name)
		}
	}
}

func TestServicesHaveThePortsOfTheirPods(t *testing.T) {
	s := far.service()
	for _, kind := range workload.Kinds() {
		proto := corev1.ProtocolTCP
		if kind == workload.UDPRR {
			proto = corev1.ProtocolUDP
		}
		if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool {
			return p.Port == int32(workload.Port(kind)) && p.Protocol == proto
		}) {
			t.Errorf("there is no port for %s: %+v", kind, s.Spec.Ports)
		}
	}
	pod := far.object("n", "image", 1)
	if pod.Labels[label] != s.Spec.Selector[label] || pod.Spec.HostNetwork || !hostFar.object("n", "image", 1).Spec.HostNetwork {
		t.Error("the Service does not lead to its pod, or a pod is in the wrong network")
	}
}

func TestUsage(t *testing.T) {
	before, err := parseUsage("wirelab-agent 40960 100\nkube-proxy 51200 7\n")
	if err != nil {
		t.Fatal(err)
	}
	after := []map[string]process{{agentName: {rssKiB: 40960, ticks: 102}, kubeProxyName: {rssKiB: 51200, ticks: 9}}}
	rows, err := usageRows([]map[string]process{before}, after, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{40, 0.2, 0.8} {
		if got := rows[i].Measured.Median; got < want-0.001 || got > want+0.001 {
			t.Errorf("%s is %v, want %v", rows[i].What, got, want)
		}
	}
	if short, goal := rows[1].Bar.Value, idleCPU(5*time.Minute).Bar.Value; goal != 0.3 || short <= goal {
		t.Errorf("the bar is %v for 10 s and %v for the goal's 5 minutes", short, goal)
	}
	delete(after[0], kubeProxyName)
	if rows, err = usageRows([]map[string]process{before}, after, time.Second); err != nil || rows[2].Verdict != bench.NotApplicable {
		t.Errorf("without kube-proxy: %+v, %v", rows, err)
	}
	delete(after[0], agentName)
	if _, err = usageRows([]map[string]process{before}, after, time.Second); err == nil {
		t.Error("a node without an agent is fine")
	}
	if _, err := parseUsage("wirelab-agent x\n"); err == nil {
		t.Error("nonsense was read")
	}
}
