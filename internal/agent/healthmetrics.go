package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"wirelab.dev/wirelab/internal/api"
)

// probeMetrics are about probes of other nodes. They name no node: with one
// more series for each, the cluster would have as many as nodes times nodes.
type probeMetrics struct {
	latency  *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

func newProbeMetrics() probeMetrics {
	labels := []string{"target", "protocol"}
	return probeMetrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wirelab_probe_duration_seconds",
			Help: "Time until another node answered a probe, for probes of its address and of its health endpoint.",
			// From 50 µs, on one machine, to 1.6 s, just before a probe is given up.
			Buckets: prometheus.ExponentialBuckets(0.00005, 2, 16),
		}, labels),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wirelab_probe_failures_total", Help: "Probes of other nodes without an answer.",
		}, labels),
	}
}

// observeProbe counts one probe.
func (m *metrics) observeProbe(p api.Probe) {
	if p.Error != "" {
		m.probes.failures.WithLabelValues(p.Target, p.Protocol).Inc()
		return
	}
	m.probes.latency.WithLabelValues(p.Target, p.Protocol).Observe(p.Latency.Seconds())
}

// healthCounts is how many nodes are reached, partly or not at all, and have
// not been probed yet.
func healthCounts(h *api.ClusterHealth) map[string]int {
	states := map[api.Reach]string{api.Reached: "reached", api.ReachedPartly: "partly", api.NotReached: "unreached", "": "unknown"}
	counts := map[string]int{}
	for _, state := range states {
		counts[state] = 0
	}
	for _, n := range h.Nodes {
		counts[states[n.Reached]]++
	}
	return counts
}
