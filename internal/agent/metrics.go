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

// observeCNI is an observeCNI. Commands that nobody knows have one series together.
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
	descs descs
}

type descs struct {
	build, ready, endpoints, used, capacity          *prometheus.Desc
	healthy, failures, lastSuccess, nodes            *prometheus.Desc
	forwarded, forwardedBytes, dropped, droppedBytes *prometheus.Desc
}

func newDescs() descs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("wirelab_"+name, help, labels, nil)
	}
	return descs{
		build:          desc("build_info", "The agent's version; always 1.", "version", "goversion"),
		ready:          desc("ready", "1 when pods on this node work."),
		endpoints:      desc("endpoints", "Pod interfaces on this node."),
		used:           desc("ipam_addresses_used", "Pod addresses in use."),
		capacity:       desc("ipam_addresses_capacity", "Pod addresses this node has."),
		healthy:        desc("reconciler_healthy", "1 when the reconciler's latest run succeeded.", "reconciler"),
		failures:       desc("reconciler_consecutive_failures", "Failed runs since the last success.", "reconciler"),
		lastSuccess:    desc("reconciler_last_success_timestamp_seconds", "When the reconciler succeeded last, Unix time.", "reconciler"),
		nodes:          desc("cluster_nodes", "Nodes of the cluster by whether every probe of them was answered, some or none.", "state"),
		forwarded:      desc("datapath_forwarded_packets_total", "Packets the programs passed on, by what became of them.", "reason", "direction"),
		forwardedBytes: desc("datapath_forwarded_bytes_total", "Bytes of the packets the programs passed on.", "reason", "direction"),
		dropped:        desc("datapath_dropped_packets_total", "Packets the programs dropped, by reason.", "reason", "direction"),
		droppedBytes:   desc("datapath_dropped_bytes_total", "Bytes of the packets the programs dropped.", "reason", "direction"),
	}
}

// Describe sends all there can be.
func (c snapshotCollector) Describe(ch chan<- *prometheus.Desc) {
	d := c.descs
	for _, one := range []*prometheus.Desc{d.build, d.ready, d.endpoints, d.used, d.capacity, d.healthy, d.failures,
		d.lastSuccess, d.nodes, d.forwarded, d.forwardedBytes, d.dropped, d.droppedBytes} {
		ch <- one
	}
}

// Collect sends what there is.
func (c snapshotCollector) Collect(ch chan<- prometheus.Metric) {
	d, now := c.descs, c.take()
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	gauge(d.build, 1, version.Version, runtime.Version())
	gauge(d.ready, oneIf(now.ready))
	gauge(d.endpoints, float64(now.endpoints))
	if now.ipam != nil {
		gauge(d.used, float64(now.ipam.Used))
		gauge(d.capacity, float64(now.ipam.Capacity))
	}
	for _, h := range now.reconcilers {
		gauge(d.healthy, oneIf(h.Healthy), h.Name)
		gauge(d.failures, float64(h.ConsecutiveFailures), h.Name)
		if !h.LastSuccess.IsZero() {
			gauge(d.lastSuccess, float64(h.LastSuccess.UnixMilli())/1000, h.Name)
		}
	}
	if now.health != nil {
		for state, n := range healthCounts(now.health) {
			gauge(d.nodes, float64(n), state)
		}
	}
	for _, p := range now.packets {
		packets, bytes := d.forwarded, d.forwardedBytes
		if p.Drop {
			packets, bytes = d.dropped, d.droppedBytes
		}
		ch <- prometheus.MustNewConstMetric(packets, prometheus.CounterValue, float64(p.Packets), p.Reason, string(p.Direction))
		ch <- prometheus.MustNewConstMetric(bytes, prometheus.CounterValue, float64(p.Bytes), p.Reason, string(p.Direction))
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
