package flows

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

// counted is a registry with groups of metrics that have counted events.
func counted(t *testing.T, groups []string, events ...api.Event) *prometheus.Registry {
	t.Helper()
	m, r := NewMetrics(groups), prometheus.NewRegistry()
	r.MustRegister(m.Collectors()...)
	if err := NewBuffer("a", 16, nil).Keep(t.Context(), told(events), people(t), m); err != nil {
		t.Fatal(err)
	}
	return r
}

// passes is an event about a packet of demo's that passes.
func passes(protocol uint8, port uint16, state api.State) api.Event {
	return api.Event{
		Type: api.EventTrace, Node: "a", Time: begin, Reason: "forwarded", Point: api.ToNetwork, State: state, EtherType: unix.ETH_P_IP, Proto: protocol,
		Src: netip.MustParseAddrPort("10.0.1.7:40000"), Dst: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), SrcEndpoint: 5,
	}
}

func dropped(e api.Event, reason string) api.Event {
	e.Type, e.Reason, e.Point, e.State = api.EventDrop, reason, api.FromPod, ""
	return e
}

func segment(flags uint8, state api.State) api.Event {
	e := passes(unix.IPPROTO_TCP, 443, state)
	e.TCPFlags = flags
	return e
}

func message(icmpType uint8) api.Event {
	e := passes(unix.IPPROTO_ICMP, 77, api.StateNew)
	e.ICMPType = icmpType
	return e
}

// everything is some of all that records tell apart.
func everything() []api.Event {
	const fin, syn, rst, psh, ack = 0x01, 0x02, 0x04, 0x08, 0x10
	arrives := passes(unix.IPPROTO_TCP, 443, api.StateNew)
	arrives.Reason = "" // which is told again when it leaves
	toPod, noIP := segment(syn|ack, api.StateReply), passes(0, 0, "")
	toPod.Point = api.ToPod
	noIP.EtherType = unix.ETH_P_IPV6
	return []api.Event{
		arrives,
		segment(syn, api.StateNew), toPod, segment(psh|ack, api.StateEstablished), segment(fin|ack, api.StateEstablished), segment(rst, api.StateReply),
		dropped(segment(syn, ""), "no-backend"), dropped(passes(unix.IPPROTO_UDP, 53, ""), "no-backend"), dropped(noIP, "unsupported-protocol"),
		passes(unix.IPPROTO_UDP, 53, api.StateNew), passes(unix.IPPROTO_SCTP, 3868, api.StateNew), passes(unix.IPPROTO_GRE, 0, api.StateNew),
		message(8), message(0), message(200), dropped(message(8), "source-address"),
		{Type: api.EventLost, Node: "a", Time: begin, Missed: 12},
	}
}

func TestMetrics(t *testing.T) {
	want := map[string]string{
		settings.FlowMetricsDrop: `
# HELP hubble_drop_total Packets that were dropped, by reason.
# TYPE hubble_drop_total counter
hubble_drop_total{protocol="ICMPv4",reason="source-address"} 1
hubble_drop_total{protocol="TCP",reason="no-backend"} 1
hubble_drop_total{protocol="UDP",reason="no-backend"} 1
hubble_drop_total{protocol="other",reason="unsupported-protocol"} 1
`,
		settings.FlowMetricsTCP: `
# HELP hubble_tcp_flags_total TCP segments that passed, by flags that open and end connections.
# TYPE hubble_tcp_flags_total counter
hubble_tcp_flags_total{family="IPv4",flag="FIN"} 1
hubble_tcp_flags_total{family="IPv4",flag="RST"} 1
hubble_tcp_flags_total{family="IPv4",flag="SYN"} 1
hubble_tcp_flags_total{family="IPv4",flag="SYN-ACK"} 1
`,
		settings.FlowMetricsFlow: `
# HELP hubble_flows_processed_total Flows that the programs reported.
# TYPE hubble_flows_processed_total counter
hubble_flows_processed_total{protocol="ICMPv4",subtype="",type="Drop",verdict="DROPPED"} 1
hubble_flows_processed_total{protocol="ICMPv4",subtype="to-network",type="Trace",verdict="FORWARDED"} 3
hubble_flows_processed_total{protocol="SCTP",subtype="to-network",type="Trace",verdict="FORWARDED"} 1
hubble_flows_processed_total{protocol="TCP",subtype="",type="Drop",verdict="DROPPED"} 1
hubble_flows_processed_total{protocol="TCP",subtype="to-endpoint",type="Trace",verdict="FORWARDED"} 1
hubble_flows_processed_total{protocol="TCP",subtype="to-network",type="Trace",verdict="FORWARDED"} 4
hubble_flows_processed_total{protocol="UDP",subtype="",type="Drop",verdict="DROPPED"} 1
hubble_flows_processed_total{protocol="UDP",subtype="to-network",type="Trace",verdict="FORWARDED"} 1
hubble_flows_processed_total{protocol="other",subtype="",type="Drop",verdict="DROPPED"} 1
hubble_flows_processed_total{protocol="other",subtype="to-network",type="Trace",verdict="FORWARDED"} 1
`,
		settings.FlowMetricsPorts: `
# HELP hubble_port_distribution_total Packets that passed and answer nothing, by destination port.
# TYPE hubble_port_distribution_total counter
hubble_port_distribution_total{port="0",protocol="ICMPv4"} 3
hubble_port_distribution_total{port="3868",protocol="SCTP"} 1
hubble_port_distribution_total{port="443",protocol="TCP"} 3
hubble_port_distribution_total{port="53",protocol="UDP"} 1
`,
		settings.FlowMetricsICMP: `
# HELP hubble_icmp_total ICMP messages, by type.
# TYPE hubble_icmp_total counter
hubble_icmp_total{family="IPv4",type="EchoReply"} 1
hubble_icmp_total{family="IPv4",type="EchoRequest"} 2
hubble_icmp_total{family="IPv4",type="other"} 1
`,
	}
	const lost = `
# HELP hubble_lost_events_total Events about packets that the agent did not read in time, so that no flow counts them.
# TYPE hubble_lost_events_total counter
hubble_lost_events_total{source="perf_event_ring_buffer"} 12
`
	key, _, _ := settings.Keys().Find("flows.metrics")
	for _, group := range key.Allowed {
		// Of the others, which are off, there is nothing.
		if err := testutil.GatherAndCompare(counted(t, []string{group}, everything()...), strings.NewReader(want[group]+lost)); err != nil {
			t.Errorf("%s: %v", group, err)
		}
	}
	all := lost
	for _, text := range want {
		all += text
	}
	if err := testutil.GatherAndCompare(counted(t, key.Allowed, everything()...), strings.NewReader(all)); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(counted(t, nil, everything()...)); err != nil || n != 0 {
		t.Errorf("%d series where no group is on, %v", n, err)
	}
}

// TestPortsAreBounded: who tries all ports of a pod makes no more series than a group may have, and is counted.
func TestPortsAreBounded(t *testing.T) {
	events := []api.Event{passes(unix.IPPROTO_TCP, 443, api.StateNew)}
	for port := range uint16(1000) {
		events = append(events, passes(unix.IPPROTO_UDP, 10000+port, api.StateNew))
	}
	events = append(events, passes(unix.IPPROTO_TCP, 443, api.StateNew), passes(unix.IPPROTO_SCTP, 443, api.StateNew))
	r := counted(t, []string{settings.FlowMetricsPorts}, events...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got, sum := map[string]float64{}, 0.0
	for _, f := range families {
		if f.GetName() != "hubble_port_distribution_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got[fmt.Sprint(m.GetLabel()[1].GetValue(), " ", m.GetLabel()[0].GetValue())] = m.GetCounter().GetValue()
			sum += m.GetCounter().GetValue()
		}
	}
	if len(got) != maxPorts+2 || sum != float64(len(events)) {
		t.Errorf("%d series of %v packets, want %d and two of others, of %d", len(got), sum, maxPorts, len(events))
	}
	for series, want := range map[string]float64{"TCP 443": 2, "UDP 10000": 1, "UDP other": 1000 - (maxPorts - 1), "SCTP other": 1} {
		if got[series] != want {
			t.Errorf("%s has %v, want %v", series, got[series], want)
		}
	}
}
