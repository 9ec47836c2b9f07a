package services

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wirelab.dev/wirelab/datapath"
)

// Metrics are kept where the agent carries Services.
type Metrics struct {
	applied prometheus.Histogram
	lag     prometheus.Histogram
	entries *prometheus.GaugeVec
	room    *prometheus.GaugeVec
	expired prometheus.Counter
}

// NewMetrics makes them, of no registry yet.
func NewMetrics() *Metrics {
	return &Metrics{
		applied: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "wirelab_services_apply_duration_seconds",
			Help:    "Time to bring the maps up to date with all Services.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // to 4 s
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "wirelab_services_change_to_map_seconds",
			Help:    "Time from when the agent was told of a changed Service or endpoint slice to when the maps had it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		entries: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wirelab_services_flow_entries",
			Help: "Entries of the maps of translated flows, as of the latest collection.",
		}, []string{"map"}),
		room: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wirelab_services_flow_entries_max",
			Help: "Room in the maps of translated flows: bpf.ctMax.",
		}, []string{"map"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wirelab_services_flow_entries_expired_total",
			Help: "Entries of flows that were over and have been removed.",
		}),
	}
}

// Collectors are what a registry takes.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.applied, m.lag, m.entries, m.room, m.expired}
}

// observe notes an update of the maps, and when what it brought had
// become known.
func (m *Metrics) observe(took time.Duration, changed []time.Time) {
	m.applied.Observe(took.Seconds())
	for _, at := range changed {
		m.lag.Observe(time.Since(at).Seconds())
	}
}

// ObserveCollected notes a collection of flows.
func (m *Metrics) ObserveCollected(got datapath.Collected) {
	m.entries.WithLabelValues("lab_ct").Set(float64(got.Flows))
	m.entries.WithLabelValues("lab_nat").Set(float64(got.Translations))
	for _, name := range []string{"lab_ct", "lab_nat"} {
		m.room.WithLabelValues(name).Set(float64(got.Room))
	}
	m.expired.Add(float64(got.Expired))
}
