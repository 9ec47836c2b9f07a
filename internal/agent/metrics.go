package agent

import (
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/agent/services"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/version"
)

// metrics are the agent's own registry. Most values are read when they are
// asked for; only counts and durations of calls and probes are kept.
type metrics struct {
	registry *prometheus.Registry
	cniOps   *prometheus.HistogramVec
	services *services.Metrics // registered where the agent carries Services
	probes   probeMetrics
	flows    *flows.Metrics
}

// snapshot is what is there to count at one moment.
type snapshot struct {
	ready       bool
	endpoints   int
	ipam        *api.IPAM // nil when there is no pool yet
	reconcilers []api.Reconciler
	packets     []datapath.Metric
	health      *api.ClusterHealth // nil where other nodes are not probed
}

// newMetrics registers everything, of flows the groups that are on. take is called at each scrape.
func newMetrics(take func() snapshot, groups []string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		cniOps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wirelab_cni_operation_duration_seconds",
			Help: "Time the agent took to answer a call of the CNI plugin.",
			// From 2 ms, under any ADD, to 16 s, past any good one.
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}, []string{"command", "result"}),
		services: services.NewMetrics(),
		probes:   newProbeMetrics(),
		flows:    flows.NewMetrics(groups),
	}
	m.registry.MustRegister(
		m.cniOps, m.probes.latency, m.probes.failures,
		snapshotCollector{take: take, descs: newDescs()},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.registry.MustRegister(m.flows.Collectors()...)
	return m
}

// withServices registers what an agent that carries Services has besides.
func (m *metrics) withServices() { m.registry.MustRegister(m.services.Collectors()...) }

// handler answers with all series.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// observeCNI counts a call of the CNI plugin. Commands that nobody knows have one series together.
func (m *metrics) observeCNI(command string, ok bool, took time.Duration) {
	if !slices.Contains([]string{api.CNIAdd, api.CNIDel, api.CNICheck, api.CNIGC, api.CNIStatus}, command) {
		command = "other"
	}
	result := "success"
	if !ok {
		result = "error"
	}
	m.cniOps.WithLabelValues(command, result).Observe(took.Seconds())
}

// snapshotCollector makes metrics of snapshots.
type snapshotCollector struct {
	take  func() snapshot
	descs map[string]*prometheus.Desc // by the name behind wirelab_
}

func newDescs() map[string]*prometheus.Desc {
	all := map[string]*prometheus.Desc{}
	add := func(name, help string, labels ...string) {
		all[name] = prometheus.NewDesc("wirelab_"+name, help, labels, nil)
	}
	add("build_info", "The agent's version; always 1.", "version", "goversion")
	add("ready", "1 when pods on this node work.")
	add("endpoints", "Pod interfaces on this node.")
	add("ipam_addresses_used", "Pod addresses in use.")
	add("ipam_addresses_capacity", "Pod addresses this node has.")
	add("reconciler_healthy", "1 when the reconciler's latest run succeeded.", "reconciler")
	add("reconciler_consecutive_failures", "Failed runs since the last success.", "reconciler")
	add("reconciler_last_success_timestamp_seconds", "When the reconciler succeeded last, Unix time.", "reconciler")
	add("cluster_nodes", "Nodes of the cluster by whether every probe of them was answered, some or none.", "state")
	add("datapath_forwarded_packets_total", "Packets the programs passed on, by what became of them.", "reason", "direction")
	add("datapath_forwarded_bytes_total", "Bytes of the packets the programs passed on.", "reason", "direction")
	add("datapath_dropped_packets_total", "Packets the programs dropped, by reason.", "reason", "direction")
	add("datapath_dropped_bytes_total", "Bytes of the packets the programs dropped.", "reason", "direction")
	return all
}

// Describe sends all there can be.
func (c snapshotCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect sends what there is.
func (c snapshotCollector) Collect(ch chan<- prometheus.Metric) {
	now := c.take()
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v, labels...)
	}
	gauge("build_info", 1, version.Version, runtime.Version())
	gauge("ready", oneIf(now.ready))
	gauge("endpoints", float64(now.endpoints))
	if now.ipam != nil {
		gauge("ipam_addresses_used", float64(now.ipam.Used))
		gauge("ipam_addresses_capacity", float64(now.ipam.Capacity))
	}
	for _, h := range now.reconcilers {
		gauge("reconciler_healthy", oneIf(h.Healthy), h.Name)
		gauge("reconciler_consecutive_failures", float64(h.ConsecutiveFailures), h.Name)
		if !h.LastSuccess.IsZero() {
			gauge("reconciler_last_success_timestamp_seconds", float64(h.LastSuccess.UnixMilli())/1000, h.Name)
		}
	}
	if now.health != nil {
		for state, n := range healthCounts(now.health) {
			gauge("cluster_nodes", float64(n), state)
		}
	}
	for _, p := range now.packets {
		name := "datapath_forwarded_"
		if p.Drop {
			name = "datapath_dropped_"
		}
		counter := func(what string, n uint64) {
			ch <- prometheus.MustNewConstMetric(c.descs[name+what], prometheus.CounterValue, float64(n), p.Reason, string(p.Direction))
		}
		counter("packets_total", p.Packets)
		counter("bytes_total", p.Bytes)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
