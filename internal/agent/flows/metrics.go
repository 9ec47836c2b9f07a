package flows

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

// Metrics count flow records, in the series that dashboards of this field know by name. It is for one goroutine at a time.
type Metrics struct {
	groups []group
	lost   *prometheus.CounterVec
}

// group is what is counted by one name.
type group struct {
	counter *prometheus.CounterVec
	count   func(*prometheus.CounterVec, api.FlowRecord)
}

// NewMetrics makes those of the groups that are named, of no registry yet.
func NewMetrics(groups []string) *Metrics {
	m := &Metrics{lost: counter("lost_events_total", "Events about packets that the agent did not read in time, so that no flow counts them.", "source")}
	m.lost.WithLabelValues(lostByAgent)
	known := knownGroups()
	for _, name := range groups {
		m.groups = append(m.groups, known[name])
	}
	return m
}

// Collectors are what a registry takes: nothing where no group is on.
func (m *Metrics) Collectors() (all []prometheus.Collector) {
	for _, g := range m.groups {
		all = append(all, g.counter)
	}
	if len(all) > 0 {
		all = append(all, m.lost)
	}
	return all
}

func (m *Metrics) count(r api.FlowRecord) {
	for _, g := range m.groups {
		g.count(g.counter, r)
	}
}

func (m *Metrics) missed(n int) {
	m.lost.WithLabelValues(lostByAgent).Add(float64(n))
}

// lostByAgent is the known name of the place between programs and agent.
const lostByAgent = "perf_event_ring_buffer"

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hubble_" + name, Help: help}, labels)
}

func knownGroups() map[string]group {
	seen := map[[2]string]bool{}
	return map[string]group{
		settings.FlowMetricsDrop: {counter("drop_total", "Packets that were dropped, by reason.", "reason", "protocol"), countDrop},
		settings.FlowMetricsTCP: {
			counter("tcp_flags_total", "TCP segments that passed, by flags that open and end connections.", "flag", "family"), countTCP,
		},
		settings.FlowMetricsFlow: {
			counter("flows_processed_total", "Flows that the programs reported.", "protocol", "type", "subtype", "verdict"), countFlow,
		},
		settings.FlowMetricsPorts: {
			counter("port_distribution_total", "Packets that passed and answer nothing, by destination port.", "protocol", "port"),
			func(c *prometheus.CounterVec, r api.FlowRecord) { countPort(c, r, seen) },
		},
		settings.FlowMetricsICMP: {counter("icmp_total", "ICMP messages, by type.", "family", "type"), countICMP},
	}
}

const (
	other = "other" // what a label says of all that has no value of its own
	ipv4  = "IPv4"
)

// Protocols, places that packets go to, and types of messages as the series have them.
var (
	protocols = map[string]string{"tcp": "TCP", "udp": "UDP", "icmp": "ICMPv4", "sctp": "SCTP"}
	points    = map[api.Point]string{
		api.ToPod: "to-endpoint", api.ToTunnel: "to-overlay", api.ToStack: "to-stack", api.ToNetwork: "to-network",
	}
	icmpTypes = map[uint8]string{
		0: "EchoReply", 3: "DestinationUnreachable", 4: "SourceQuench", 5: "Redirect", 8: "EchoRequest", 9: "RouterAdvertisement",
		10: "RouterSolicitation", 11: "TimeExceeded", 12: "ParameterProblem", 13: "TimestampRequest", 14: "TimestampReply",
	}
)

// word is what words have for key, or other.
func word[K comparable](words map[K]string, key K) string {
	if w, ok := words[key]; ok {
		return w
	}
	return other
}

func countDrop(c *prometheus.CounterVec, r api.FlowRecord) {
	if r.Verdict == api.FlowDropped {
		c.WithLabelValues(r.Reason, word(protocols, r.Protocol)).Inc()
	}
}

func countFlow(c *prometheus.CounterVec, r api.FlowRecord) {
	if r.Verdict == api.FlowDropped {
		c.WithLabelValues(word(protocols, r.Protocol), "Drop", "", "DROPPED").Inc()
		return
	}
	c.WithLabelValues(word(protocols, r.Protocol), "Trace", word(points, api.Point(r.At)), "FORWARDED").Inc()
}

func countTCP(c *prometheus.CounterVec, r api.FlowRecord) {
	const fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	if r.Protocol != "tcp" || r.Verdict != api.FlowForwarded {
		return
	}
	if r.TCPFlags&fin != 0 {
		c.WithLabelValues("FIN", ipv4).Inc()
	}
	switch r.TCPFlags & (syn | ack) {
	case syn:
		c.WithLabelValues("SYN", ipv4).Inc()
	case syn | ack:
		c.WithLabelValues("SYN-ACK", ipv4).Inc()
	}
	if r.TCPFlags&rst != 0 {
		c.WithLabelValues("RST", ipv4).Inc()
	}
}

func countICMP(c *prometheus.CounterVec, r api.FlowRecord) {
	if r.Protocol == "icmp" {
		c.WithLabelValues(ipv4, word(icmpTypes, r.ICMPType)).Inc()
	}
}

// maxPorts is how many ports, each of a protocol, have a series of their own; what comes later is counted as other.
const maxPorts = 256

// countPort counts packets of who opens a flow: answers go to ports that say nothing. Seen are the ports that have a series.
func countPort(c *prometheus.CounterVec, r api.FlowRecord, seen map[[2]string]bool) {
	if r.Verdict != api.FlowForwarded || r.Reply == nil || *r.Reply {
		return
	}
	protocol, ok := protocols[r.Protocol]
	if !ok {
		return // which has no ports
	}
	port := [2]string{protocol, strconv.Itoa(int(r.Destination.Port))}
	if r.Protocol == "icmp" {
		port[1] = "0" // where records may have the id of an echo
	}
	if !seen[port] && len(seen) < maxPorts {
		seen[port] = true
	}
	if !seen[port] {
		port[1] = other
	}
	c.WithLabelValues(port[0], port[1]).Inc()
}
