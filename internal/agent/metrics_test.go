package agent

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
)

func TestMetrics(t *testing.T) {
	m := newMetrics(func() snapshot {
		return snapshot{
			ready: true, endpoints: 3,
			ipam: &api.IPAM{CIDR: netip.MustParsePrefix("10.0.0.0/24"), Used: 3, Capacity: 253},
			reconcilers: []api.Reconciler{
				{Name: "devices", Healthy: true, LastSuccess: time.UnixMilli(1500)},
				{Name: "routes", ConsecutiveFailures: 4},
			},
			health: &api.ClusterHealth{Nodes: []api.NodeHealth{{Reached: api.Reached}, {Reached: api.NotReached}, {Reached: api.ReachedPartly}, {Reached: api.ReachedPartly}, {}}},
			packets: []datapath.Metric{
				{Reason: "to-kernel", Direction: datapath.FromPod, Packets: 7, Bytes: 700},
				{Reason: "source-address", Direction: datapath.FromPod, Drop: true, Packets: 2, Bytes: 84},
			},
		}
	}, nil)
	m.observeCNI("ADD", true, 3*time.Millisecond)
	m.observeCNI("ADD", false, time.Second)
	m.observeCNI("ONE", false, time.Second)
	m.observeCNI("ANOTHER", false, time.Second)
	m.observeProbe(api.Probe{Target: "node", Protocol: "icmp", Latency: time.Millisecond})
	m.observeProbe(api.Probe{Target: "endpoint", Protocol: "tcp", Error: "no answer"})
	want := `
# HELP wirelab_cluster_nodes Nodes of the cluster by whether every probe of them was answered, some or none.
# TYPE wirelab_cluster_nodes gauge
wirelab_cluster_nodes{state="partly"} 2
wirelab_cluster_nodes{state="reached"} 1
wirelab_cluster_nodes{state="unknown"} 1
wirelab_cluster_nodes{state="unreached"} 1
# HELP wirelab_datapath_dropped_bytes_total Bytes of the packets the programs dropped.
# TYPE wirelab_datapath_dropped_bytes_total counter
wirelab_datapath_dropped_bytes_total{direction="from-pod",reason="source-address"} 84
# HELP wirelab_datapath_dropped_packets_total Packets the programs dropped, by reason.
# TYPE wirelab_datapath_dropped_packets_total counter
wirelab_datapath_dropped_packets_total{direction="from-pod",reason="source-address"} 2
# HELP wirelab_datapath_forwarded_bytes_total Bytes of the packets the programs passed on.
# TYPE wirelab_datapath_forwarded_bytes_total counter
wirelab_datapath_forwarded_bytes_total{direction="from-pod",reason="to-kernel"} 700
# HELP wirelab_datapath_forwarded_packets_total Packets the programs passed on, by what became of them.
# TYPE wirelab_datapath_forwarded_packets_total counter
wirelab_datapath_forwarded_packets_total{direction="from-pod",reason="to-kernel"} 7
# HELP wirelab_endpoints Pod interfaces on this node.
# TYPE wirelab_endpoints gauge
wirelab_endpoints 3
# HELP wirelab_ipam_addresses_capacity Pod addresses this node has.
# TYPE wirelab_ipam_addresses_capacity gauge
wirelab_ipam_addresses_capacity 253
# HELP wirelab_ipam_addresses_used Pod addresses in use.
# TYPE wirelab_ipam_addresses_used gauge
wirelab_ipam_addresses_used 3
# HELP wirelab_probe_failures_total Probes of other nodes without an answer.
# TYPE wirelab_probe_failures_total counter
wirelab_probe_failures_total{protocol="tcp",target="endpoint"} 1
# HELP wirelab_ready 1 when pods on this node work.
# TYPE wirelab_ready gauge
wirelab_ready 1
# HELP wirelab_reconciler_consecutive_failures Failed runs since the last success.
# TYPE wirelab_reconciler_consecutive_failures gauge
wirelab_reconciler_consecutive_failures{reconciler="devices"} 0
wirelab_reconciler_consecutive_failures{reconciler="routes"} 4
# HELP wirelab_reconciler_healthy 1 when the reconciler's latest run succeeded.
# TYPE wirelab_reconciler_healthy gauge
wirelab_reconciler_healthy{reconciler="devices"} 1
wirelab_reconciler_healthy{reconciler="routes"} 0
# HELP wirelab_reconciler_last_success_timestamp_seconds When the reconciler succeeded last, Unix time.
# TYPE wirelab_reconciler_last_success_timestamp_seconds gauge
wirelab_reconciler_last_success_timestamp_seconds{reconciler="devices"} 1.5
`
	names := []string{"wirelab_ready", "wirelab_endpoints", "wirelab_ipam_addresses_used", "wirelab_ipam_addresses_capacity",
		"wirelab_reconciler_healthy", "wirelab_reconciler_consecutive_failures", "wirelab_reconciler_last_success_timestamp_seconds",
		"wirelab_datapath_forwarded_packets_total", "wirelab_datapath_forwarded_bytes_total",
		"wirelab_datapath_dropped_packets_total", "wirelab_datapath_dropped_bytes_total", "wirelab_cluster_nodes", "wirelab_probe_failures_total"}
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(m.registry, "wirelab_cni_operation_duration_seconds"); err != nil || n != 3 {
		t.Errorf("%d series of CNI calls, want one for each result and one for calls that nobody knows; %v", n, err)
	}
	if n, err := testutil.GatherAndCount(m.registry, "wirelab_probe_duration_seconds"); err != nil || n != 1 {
		t.Errorf("%d series of probes that were answered, want one; %v", n, err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	var problems []string
	h := healthHandler(func() []string { return problems })
	ask := func(path string) (int, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		return rec.Code, rec.Body.String()
	}
	if code, body := ask("/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	problems = []string{"routes fails: no such device", "the CNI configuration is not written"}
	if code, body := ask("/readyz"); code != 503 || body != strings.Join(problems, "\n")+"\n" {
		t.Errorf("not ready: %d %q", code, body)
	}
	if code, _ := ask("/healthz"); code != 200 {
		t.Errorf("an agent that is not ready is not alive: %d", code)
	}
}
