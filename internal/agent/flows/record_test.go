package flows

import (
	"iter"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
)

func people(t *testing.T) *Who {
	t.Helper()
	numbers := identity.NewNumbers()
	numbers.Put(identity.Entry{ID: 300, Set: identity.Set{Namespace: "default", Labels: map[string]string{"app": "demo"}}})
	w := NewWho(numbers)
	entry := func(prefix string, id uint32) api.IPCacheEntry {
		return api.IPCacheEntry{Prefix: netip.MustParsePrefix(prefix), Identity: id}
	}
	w.Know([]api.IPCacheEntry{
		entry("0.0.0.0/0", 2), entry("10.0.2.0/24", 0), entry("10.0.1.7/32", 300), entry("10.0.2.9/32", 301), entry("172.18.0.2/32", 1),
	}, map[netip.Addr]api.PodName{netip.MustParseAddr("10.0.1.7"): {Namespace: "default", Name: "demo"}})
	return w
}

func TestWho(t *testing.T) {
	w := people(t)
	for addr, want := range map[string]api.FlowEnd{
		"10.0.1.7":   {Identity: 300, Namespace: "default", Pod: "demo", Labels: map[string]string{"app": "demo"}},
		"10.0.2.9":   {Identity: 301}, // the number is not known yet
		"10.0.2.10":  {},              // of a node that has not told
		"172.18.0.2": {Identity: 1, Name: "host"},
		"192.0.2.1":  {Identity: 2, Name: "world"},
	} {
		got := api.FlowEnd{Addr: netip.MustParseAddr(addr)}
		want.Addr = got.Addr
		if w.fill(&got); !cmp.Equal(got, want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
			t.Errorf("%s is %+v, want %+v", addr, got, want)
		}
	}
	told := api.FlowEnd{Addr: netip.MustParseAddr("10.0.2.10"), Identity: 300}
	if w.fill(&told); told.Namespace != "default" || told.Labels["app"] != "demo" {
		t.Errorf("of a pod whose identity the packet had: %+v", told)
	}
	if !w.HasPod(api.PodName{Namespace: "default", Name: "demo"}) || w.HasPod(api.PodName{Namespace: "default", Name: "other"}) ||
		!w.HasNamespace("default") || w.HasNamespace("other") || !w.HasIdentity(2) || !w.HasIdentity(300) || w.HasIdentity(999) {
		t.Error("it has others than it was told of")
	}
}

// TestNewPodIsKnownAtOnce: of a new pod of its own the node knows before the table of all is made anew.
func TestNewPodIsKnownAtOnce(t *testing.T) {
	w := people(t)
	addr := netip.MustParseAddr("10.0.1.8")
	pod := api.PodName{Namespace: "default", Name: "new"}
	w.KnowOwn(func() []Pod { return []Pod{{Addr: addr, Name: pod, Identity: 300}} })
	e := api.FlowEnd{Addr: addr}
	if w.fill(&e); e.Pod != "new" || e.Identity != 300 || !w.HasPod(pod) || !w.HasNamespace("default") {
		t.Errorf("it is %+v", e)
	}
	w.KnowOwn(func() []Pod { return nil })
	e = api.FlowEnd{Addr: addr}
	if w.fill(&e); e.Pod != "" || w.HasPod(pod) {
		t.Errorf("when it has gone it is %+v", e)
	}
}

// TestGonePodIsRemembered: events come later than packets; an address that another pod has is that pod's.
func TestGonePodIsRemembered(t *testing.T) {
	w := people(t)
	now := time.Now()
	w.now = func() time.Time { return now }
	pod := func() string {
		e := api.FlowEnd{Addr: netip.MustParseAddr("10.0.1.7")}
		w.fill(&e)
		return e.Pod
	}
	world := api.IPCacheEntry{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Identity: 2}
	w.Know([]api.IPCacheEntry{world}, nil)
	if got := pod(); got != "demo" {
		t.Errorf("just after it is gone it is %q", got)
	}
	now = now.Add(remembered - time.Second)
	if w.Know([]api.IPCacheEntry{world}, nil); pod() != "demo" {
		t.Error("it is forgotten too soon")
	}
	now = now.Add(time.Second)
	if w.Know([]api.IPCacheEntry{world}, nil); pod() != "" {
		t.Error("it is never forgotten")
	}
	addr := netip.MustParseAddr("10.0.1.7")
	next := []api.IPCacheEntry{world, {Prefix: netip.PrefixFrom(addr, 32), Identity: 300}}
	w.Know(next, map[netip.Addr]api.PodName{addr: {Namespace: "default", Name: "next"}})
	if got := pod(); got != "next" {
		t.Errorf("the next pod with the address is %q", got)
	}
}

// told are those events, as a datapath tells them that has told all up to the last one's time then.
func told(events []api.Event) iter.Seq2[api.MonitorLine, error] {
	return func(yield func(api.MonitorLine, error) bool) {
		for _, e := range events {
			if !yield(api.MonitorLine{Event: &e}, nil) {
				return
			}
		}
		yield(api.MonitorLine{UpTo: events[len(events)-1].Time}, nil)
	}
}

func TestKeep(t *testing.T) {
	b := NewBuffer("a", 16, nil)
	src, dst := netip.MustParseAddrPort("10.0.1.7:40000"), netip.MustParseAddrPort("192.0.2.1:443")
	base := api.Event{Type: api.EventTrace, Node: "a", Time: begin, Reason: "forwarded", Direction: "from-pod", Point: api.ToNetwork, State: api.StateNew, EtherType: unix.ETH_P_IP, Proto: 6, Src: src, Dst: dst, SrcEndpoint: 5}
	changed := func(change func(*api.Event)) api.Event {
		e := base
		change(&e)
		return e
	}
	events := []api.Event{
		base,
		changed(func(e *api.Event) { e.Reason = "" }), // it has only arrived
		changed(func(e *api.Event) { e.EtherType, e.Reason = unix.ETH_P_ARP, "arp-reply" }),
		{Type: api.EventLost, Node: "a", Time: begin, CPU: 1, Missed: 12},
		changed(func(e *api.Event) {
			e.Type, e.Reason, e.EtherType, e.Src, e.Dst, e.Proto = api.EventDrop, "not-ipv4", unix.ETH_P_IPV6, netip.AddrPort{}, netip.AddrPort{}, 0
			e.Point, e.State = api.FromPod, ""
		}),
		changed(func(e *api.Event) {
			e.Src, e.Dst, e.SrcEndpoint, e.DstEndpoint = dst, src, 0, 5
			e.Direction, e.Point, e.State = "from-network", api.ToPod, api.StateReply
		}),
	}
	marked := func(yield func(api.MonitorLine, error) bool) {
		for line, err := range told(events) {
			if !yield(line, err) {
				return
			}
		}
		if got := b.complete(); !got.Equal(begin) {
			t.Errorf("all is there up to %s, want %s", got, begin)
		}
	}
	if err := b.Keep(t.Context(), marked, people(t), NewMetrics(nil)); err != nil {
		t.Fatal(err)
	}
	demo := api.FlowEnd{Addr: src.Addr(), Port: 40000, Endpoint: 5, Identity: 300, Namespace: "default", Pod: "demo", Labels: map[string]string{"app": "demo"}}
	world := api.FlowEnd{Addr: dst.Addr(), Port: 443, Identity: 2, Name: "world"}
	record := api.FlowRecord{Time: begin, Node: "a", Verdict: "forwarded", Reason: "forwarded", At: "to-network", Direction: "egress", Reply: new(false), Protocol: "tcp", Source: demo, Destination: world}
	back := record
	back.Source, back.Destination, back.At, back.Reply = world, demo, "to-pod", new(true)
	want := []api.FlowLine{
		{Flow: &record},
		{Lost: &api.LostFlows{Time: begin, Node: "a", Count: 12, By: api.LostByAgent}},
		{Flow: &api.FlowRecord{Time: begin, Node: "a", Verdict: "dropped", Reason: "not-ipv4", At: "from-pod", Direction: "egress", Protocol: "0x86dd", Source: api.FlowEnd{Endpoint: 5}}},
		{Flow: &back},
	}
	got, _ := b.latest(api.FlowFilter{Last: -1})
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// TestReply: an ICMP error may come from either side, and of a packet without a flow nothing is known.
func TestReply(t *testing.T) {
	for state, want := range map[api.State]*bool{api.StateNew: new(false), api.StateEstablished: new(false), api.StateReply: new(true), api.StateRelated: nil, "": nil} {
		if got := record(api.Event{State: state}, people(t)).Reply; !cmp.Equal(got, want) {
			t.Errorf("%q: %v, want %v", state, got, want)
		}
	}
}

// TestDirection is of connections, not of packets.
func TestDirection(t *testing.T) {
	yes, no := new(true), new(false)
	for _, c := range []struct {
		src, dst uint32
		reply    *bool
		want     string
	}{
		{5, 0, nil, "egress"}, {5, 0, no, "egress"}, {5, 0, yes, "ingress"},
		{0, 5, nil, "ingress"}, {0, 5, no, "ingress"}, {0, 5, yes, "egress"},
		{5, 6, no, "egress"}, {5, 6, yes, "ingress"}, {0, 0, no, ""},
	} {
		r := api.FlowRecord{Source: api.FlowEnd{Endpoint: c.src}, Destination: api.FlowEnd{Endpoint: c.dst}, Reply: c.reply}
		if got := direction(r); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
