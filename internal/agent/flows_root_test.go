package agent

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// flows are the records that the agent keeps and f picks.
func (n *testNode) flows(f api.FlowFilter) (start *api.FlowStart, records []api.FlowRecord, lost uint64) {
	n.t.Helper()
	for line, err := range client.New(n.cfg.Paths.AgentSocket()).FlowRecords(n.t.Context(), f) {
		switch {
		case err != nil:
			n.t.Fatal(err)
		case line.Start != nil:
			start = line.Start
		case line.Flow != nil:
			records = append(records, *line.Flow)
		case line.Lost != nil:
			lost += line.Lost.Count
		}
	}
	return start, records, lost
}

// twoTalkers is a node that reports every packet, keeps so many flows and makes these metrics of them, with pods a and b, of which the API server has told.
func twoTalkers(t *testing.T, capacity int, metrics ...string) (n *testNode, pods [2]*netnstest.NS, addrs [2]netip.Addr) {
	t.Helper()
	n = newTestNode(t)
	n.cfg.BPF.MonitorAggregation, n.cfg.Flows.Capacity, n.cfg.Flows.Metrics = settings.AggregationNone, capacity, metrics
	n.start()
	r := n.runtime()
	for i, name := range []string{"a", "b"} {
		n.tell("pod %s app=%s", name, name)
		pods[i] = netnstest.New(t, "pod")
		var err error
		if addrs[i], err = r.addTold(name, pods[i]); err != nil {
			t.Fatal(err)
		}
	}
	return n, pods, addrs
}

// TestFlowsOfPods: what pods send is kept with both pods, their labels and identities, and what is dropped with the reason; the
// filters pick it; who follows hears of it.
func TestFlowsOfPods(t *testing.T) {
	netnstest.RequireRoot(t)
	n, pods, addrs := twoTalkers(t, 4096)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	followed := make(chan api.FlowRecord, 100)
	following := make(chan struct{})
	go func() {
		defer close(followed)
		for line, err := range client.New(n.cfg.Paths.AgentSocket()).FlowRecords(ctx, api.FlowFilter{Follow: true, ToPod: api.PodName{Namespace: "default", Name: "b"}}) {
			switch {
			case err != nil:
				t.Error(err)
				return
			case line.Start != nil:
				close(following)
			case line.Flow != nil:
				followed <- *line.Flow
			}
		}
	}()
	<-following
	if _, err := pods[0].Ping(addrs[1], netnstest.PingOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := func(name string) api.PodName { return api.PodName{Namespace: "default", Name: name} }
	var there []api.FlowRecord
	eventually(t, "request and reply are kept", func() bool {
		_, there, _ = n.flows(api.FlowFilter{Last: -1, Pod: pod("a"), Protocol: "icmp"})
		return len(there) == 2
	})
	ids := map[string]uint32{}
	for _, ep := range n.endpoints() {
		ids[ep.Pod] = ep.Identity
	}
	for i, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
		r := there[i]
		for j, end := range []api.FlowEnd{r.Source, r.Destination} {
			if end.Namespace != "default" || end.Pod != names[j] || end.Labels["app"] != names[j] || end.Identity != ids[names[j]] || end.Identity < 256 {
				t.Errorf("end %d of packet %d is %+v", j, i, end)
			}
		}
		if r.Verdict != api.FlowForwarded || r.Node != "n1" || r.Reason != "delivered" {
			t.Errorf("packet %d: %+v", i, r)
		}
	}
	if got := <-followed; got.Source.Pod != "a" || got.Destination.Pod != "b" {
		t.Errorf("who follows what is sent to b heard of %+v", got)
	}

	pods[0].Run("ip", "addr", "add", "10.99.1.200/32", "dev", "eth0")
	pods[0].Run("ip", "route", "add", addrs[1].String(), "via", "10.99.1.1", "dev", "eth0", "src", "10.99.1.200")
	if _, err := pods[0].Ping(addrs[1], netnstest.PingOptions{Timeout: 100 * time.Millisecond}); err == nil {
		t.Error("b answers what a sends with another's address")
	}
	eventually(t, "the packet with another's address is kept as dropped", func() bool {
		_, dropped, _ := n.flows(api.FlowFilter{Last: -1, Verdict: api.FlowDropped, ToPod: pod("b")})
		return len(dropped) > 0 && dropped[0].Reason == "source-address" && dropped[0].Source.Addr == netip.MustParseAddr("10.99.1.200")
	})

	for name, f := range map[string]api.FlowFilter{"pod default/nobody": {Pod: pod("nobody")}, "namespace none": {Namespace: "none"}, "identity 60000": {Identity: 60000}} {
		if start, _, _ := n.flows(f); strings.Join(start.Unknown, ", ") != name {
			t.Errorf("unknown is %v, want %s", start.Unknown, name)
		}
	}
	if s := n.status().Flows; s == nil || s.Kept == 0 || s.Capacity != 4096 {
		t.Errorf("the status has %+v", s)
	}
}

// TestFlowMetrics: what pods send is counted once by the one program that it meets, in the groups that are on.
func TestFlowMetrics(t *testing.T) {
	netnstest.RequireRoot(t)
	n, pods, addrs := twoTalkers(t, 16, settings.FlowMetricsICMP, settings.FlowMetricsDrop)
	counted := func(series string) bool {
		page, err := n.get(uint16(n.cfg.Prometheus.Port), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(page, "hubble_flows_processed_total") {
			t.Fatal("a group that is off is counted")
		}
		return strings.Contains(page, "\n"+series+"\n")
	}
	if _, err := pods[0].Ping(addrs[1], netnstest.PingOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, series := range []string{`hubble_icmp_total{family="IPv4",type="EchoRequest"} 1`, `hubble_icmp_total{family="IPv4",type="EchoReply"} 1`, `hubble_lost_events_total{source="perf_event_ring_buffer"} 0`} {
		eventually(t, "metrics have "+series, func() bool { return counted(series) })
	}
	pods[0].Run("ip", "addr", "add", "10.99.1.200/32", "dev", "eth0")
	pods[0].Run("ip", "route", "add", addrs[1].String(), "via", "10.99.1.1", "dev", "eth0", "src", "10.99.1.200")
	if _, err := pods[0].Ping(addrs[1], netnstest.PingOptions{Timeout: 100 * time.Millisecond}); err == nil {
		t.Error("b answers what a sends with another's address")
	}
	eventually(t, "the drop is counted", func() bool { return counted(`hubble_drop_total{protocol="ICMPv4",reason="source-address"} 1`) })
}

func TestNoFlowsAreKept(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.cfg.Flows.Capacity = 0
	n.start()
	for _, err := range client.New(n.cfg.Paths.AgentSocket()).FlowRecords(t.Context(), api.FlowFilter{Last: 1}) {
		if want := "no flows are kept: flows.capacity is 0"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if s := n.status().Flows; s != nil {
		t.Errorf("the status has %+v", s)
	}
}

// TestFullFlowBuffer: all packets of a burst are told of or counted as lost, and a full buffer, with somebody who follows and
// reads nothing, takes little memory. What that is says a run without the race detector.
func TestFullFlowBuffer(t *testing.T) {
	netnstest.RequireRoot(t)
	n, pods, addrs := twoTalkers(t, 4096)
	stuck := n.stuckFollower()
	defer stuck.Close()
	before := n.memory()
	const packets, bursts = 50000, 3
	c, err := pods[0].Dial("udp", netip.AddrPortFrom(addrs[1], 9))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// What the collector has yet to collect is in RAM, too, and after one burst it may be as much as the buffer: it is not so after each.
	least := math.MaxInt
	for range bursts {
		told := n.status().Flows
		for range packets {
			_, _ = c.Write([]byte("x")) // a refusal of the packet before is no matter
		}
		eventually(t, "all packets are seen or counted as lost", func() bool {
			s := n.status().Flows
			return s.Kept == s.Capacity && s.Seen+s.Lost >= told.Seen+told.Lost+packets
		})
		if _, all, _ := n.flows(api.FlowFilter{Last: -1}); len(all) == 0 || len(all) > 4096 {
			t.Errorf("%d records are told", len(all))
		}
		s, after := n.status().Flows, n.memory()
		t.Logf("%+v; memory of the agent: %d KiB, %d KiB before", *s, after>>10, before>>10)
		least = min(least, after-before)
	}
	if !underRace && least > 15<<20 {
		t.Errorf("the agent has grown by %d KiB at least", least>>10)
	}
}

// memory is what the agent holds in RAM, in bytes.
func (n *testNode) memory() int {
	n.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.agent.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	kib, err := strconv.Atoi(regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(string(status))[1])
	if err != nil {
		n.t.Fatal(err)
	}
	return kib << 10
}

// stuckFollower asks to follow the flows and reads nothing.
func (n *testNode) stuckFollower() net.Conn {
	n.t.Helper()
	conn, err := net.Dial("unix", n.cfg.Paths.AgentSocket())
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s?follow=true HTTP/1.1\r\nHost: agent\r\n\r\n", api.FlowRecordsPath); err != nil {
		n.t.Fatal(err)
	}
	return conn
}
