package reach

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

func prober(t *testing.T) *Prober {
	t.Helper()
	return New(Config{Self: Node{"n1", netip.MustParseAddr("192.0.2.1")}, Port: 4240, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

func nodes(n int) []Node {
	all := []Node{{"n1", netip.MustParseAddr("192.0.2.1")}, {"n2", netip.MustParseAddr("192.0.2.2")}, {"n3", netip.MustParseAddr("192.0.2.3")}}
	return all[:n]
}

func pickedNames(nodes []Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return names
}

func answered(targets ...string) []api.Probe {
	var probes []api.Probe
	for _, target := range targets {
		for _, protocol := range []string{"icmp", "tcp"} {
			probes = append(probes, api.Probe{Target: target, Protocol: protocol, Latency: time.Millisecond})
		}
	}
	return probes
}

func TestNodesAreDueOnce(t *testing.T) {
	p := prober(t)
	if got := pickedNames(p.due(nodes(3))); !slices.Equal(got, []string{"n1", "n2", "n3"}) {
		t.Fatalf("at first %v are due", got)
	}
	if got := p.due(nodes(3)); len(got) != 0 {
		t.Errorf("while they are probed, %v are due", got)
	}
	p.note(nodes(3)[1], netip.Addr{}, answered(onNode, onEndpoint))
	if got := p.due(nodes(3)); len(got) != 0 {
		t.Errorf("right after it was probed, %v is due", got)
	}
	p.nodes["n2"].due = time.Now()
	if got := pickedNames(p.due(nodes(3))); !slices.Equal(got, []string{"n2"}) {
		t.Errorf("when its time has come, %v are due", got)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	p := prober(t)
	p.due(nodes(2))
	p.due(nodes(1))
	if h := p.Report(); len(h.Nodes) != 1 || h.Nodes[0].Name != "n1" || !h.Nodes[0].Self {
		t.Errorf("after n2 has left: %+v", h.Nodes)
	}
	p.note(nodes(2)[1], netip.Addr{}, answered(onNode)) // probes that were under way
	if h := p.Report(); len(h.Nodes) != 1 {
		t.Errorf("a node that has left is back: %+v", h.Nodes)
	}
	moved := []Node{{"n1", netip.MustParseAddr("192.0.2.9")}}
	if got := p.due(moved); len(got) != 1 || p.Report().Nodes[0].Addr != moved[0].Addr {
		t.Errorf("a node with another address is probed there at once: %v", got)
	}
}

func TestPace(t *testing.T) {
	p := prober(t)
	p.due(nodes(2))
	n := nodes(2)[1]
	pause := func() time.Duration { return time.Until(p.nodes["n2"].due) }
	between := func(what string, want time.Duration) {
		t.Helper()
		if got := pause(); got < want*7/10 || got > want*13/10 {
			t.Errorf("%s: probed again in %v, want about %v", what, got, want)
		}
	}
	p.note(n, netip.Addr{}, answered(onNode))
	between("reached", 20*time.Second)
	lost := []api.Probe{{Target: onNode, Protocol: "icmp", Error: "no answer"}}
	for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		p.note(n, netip.Addr{}, lost)
		between("not reached", want*time.Second)
	}
	p.note(n, netip.Addr{}, answered(onNode))
	p.note(n, netip.Addr{}, lost)
	between("not reached any more", time.Second)
	p.cfg.Pace.PerNode = time.Minute
	p.note(n, netip.Addr{}, answered(onNode))
	between("in a large cluster", 2*time.Minute)
	for range 8 {
		p.note(n, netip.Addr{}, lost)
	}
	between("not reached in a large cluster", 2*time.Minute)
}

func TestReport(t *testing.T) {
	p := prober(t)
	p.due(nodes(3))
	p.note(nodes(3)[0], netip.Addr{}, answered(onNode))
	endpoint := netip.MustParseAddr("10.0.2.9")
	bad := answered(onNode, onEndpoint)
	bad[3] = api.Probe{Target: onEndpoint, Protocol: "tcp", Error: "connection refused"}
	p.note(nodes(3)[1], endpoint, bad)
	h := p.Report()
	if h.Reachable != 1 || h.Partly != 1 || h.ICMP != 2 || h.TCP != 1 || h.Nodes[0].Reached != api.Reached || h.Nodes[1].Reached != api.ReachedPartly ||
		h.Nodes[2].Reached != "" || !h.Nodes[2].ProbedAt.IsZero() {
		t.Errorf("reached are %d of %+v", h.Reachable, h.Nodes)
	}
	if want := "node n2 is partly reached: its address 192.0.2.2 by icmp and tcp; its health endpoint 10.0.2.9 by icmp, not by tcp (connection refused)"; h.Nodes[1].Failing != want {
		t.Errorf("%q, want %q", h.Nodes[1].Failing, want)
	}
	since := h.Nodes[1].Since
	p.note(nodes(3)[1], endpoint, bad)
	if again := p.Report().Nodes[1].Since; since.IsZero() || again != since {
		t.Errorf("failing since %v, and later since %v", since, again)
	}
	p.note(nodes(3)[1], endpoint, answered(onNode, onEndpoint))
	if n := p.Report().Nodes[1]; n.Reached != api.Reached || n.Failing != "" || !n.Since.IsZero() {
		t.Errorf("reached again: %+v", n)
	}
	p.setBroken(errors.New("no address is free"))
	if h := p.Report(); h.Error != "no address is free" {
		t.Errorf("the reason is %q", h.Error)
	}
}

// TestFailing: a node that answers in one way is not one that is not reached, and both ways are said.
func TestFailing(t *testing.T) {
	probe := func(target, protocol, err string) api.Probe {
		return api.Probe{Target: target, Protocol: protocol, Error: err}
	}
	endpoint := netip.MustParseAddr("10.0.2.9")
	for _, tt := range []struct {
		probes   []api.Probe
		endpoint netip.Addr
		want     string
	}{
		{
			[]api.Probe{probe(onNode, "icmp", "no answer"), probe(onNode, "tcp", "")}, netip.Addr{},
			"node n2 is partly reached: its address 192.0.2.2 by tcp, not by icmp (no answer)",
		},
		{
			[]api.Probe{probe(onNode, "icmp", ""), probe(onNode, "tcp", ""), probe(onEndpoint, "icmp", "no answer"), probe(onEndpoint, "tcp", "no answer")}, endpoint,
			"node n2 is partly reached: its address 192.0.2.2 by icmp and tcp; its health endpoint 10.0.2.9 by neither icmp nor tcp (no answer)",
		},
		{
			[]api.Probe{probe(onNode, "icmp", "no answer"), probe(onNode, "tcp", "no route to host"), probe(onEndpoint, "icmp", ""), probe(onEndpoint, "tcp", "x")}, endpoint,
			"node n2 is partly reached: its address 192.0.2.2 by neither icmp (no answer) nor tcp (no route to host); its health endpoint 10.0.2.9 by icmp, not by tcp (x)",
		},
		{
			[]api.Probe{probe(onNode, "icmp", "no answer"), probe(onNode, "tcp", "no route to host"), probe(onEndpoint, "icmp", "x"), probe(onEndpoint, "tcp", "x")}, netip.Addr{},
			"node n2 is not reached: its address 192.0.2.2 by icmp (no answer) and tcp (no route to host); its health endpoint by icmp and tcp (x)",
		},
		{[]api.Probe{probe(onNode, "icmp", "")}, netip.Addr{}, ""},
	} {
		n := api.NodeHealth{Name: "n2", Addr: netip.MustParseAddr("192.0.2.2"), Endpoint: tt.endpoint, Probes: tt.probes, Reached: reached(tt.probes)}
		if got := failing(n); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
}

// TestWhoAsksIsProbedSoon: a node that was not reached and asks is up again, and the others need not wait for its turn.
func TestWhoAsksIsProbedSoon(t *testing.T) {
	p := prober(t)
	p.due(nodes(3))
	n := nodes(3)[1]
	for range 5 {
		p.note(n, netip.Addr{}, []api.Probe{{Target: onNode, Protocol: "icmp", Error: "no answer"}})
	}
	pause := func() time.Duration { return time.Until(p.nodes["n2"].due) }
	if pause() < 2*time.Second {
		t.Fatalf("a node that has failed five times is probed again in %s", pause())
	}
	for _, name := range []string{"", "n9", "n1"} {
		p.heard(name)
	}
	if pause() < 2*time.Second {
		t.Errorf("others ask, and it is probed in %s", pause())
	}
	if _, err := asked(t, p.respond, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if pause() > time.Second {
		t.Errorf("it asks, and is probed in %s", pause())
	}
	p.note(n, netip.Addr{}, answered(onNode))
	p.heard("n2")
	if pause() < 2*time.Second {
		t.Errorf("it is reached, asks, and is probed again in %s", pause())
	}
}

// asked serves h on loopback and asks it.
func asked(t *testing.T, h http.HandlerFunc, timeout time.Duration) (answer, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	said, took, err := ask(t.Context(), "n2", netip.MustParseAddrPort(srv.Listener.Addr().String()), timeout)
	if err == nil && took <= 0 {
		t.Error("an answer took no time")
	}
	return said, err
}

func TestAnswers(t *testing.T) {
	p := prober(t)
	p.endpoint = netip.MustParseAddr("10.0.1.9")
	if said, err := asked(t, p.respond, 5*time.Second); err != nil || said != (answer{"n1", p.endpoint}) {
		t.Errorf("%+v, %v", said, err)
	}
	p.endpoint = netip.Addr{}
	if said, err := asked(t, p.respond, 5*time.Second); err != nil || said != (answer{Node: "n1"}) {
		t.Errorf("without an endpoint: %+v, %v", said, err)
	}
	for _, r := range []*http.Request{httptest.NewRequest("POST", path, nil), httptest.NewRequest("GET", "/", nil)} {
		w := httptest.NewRecorder()
		if p.respond(w, r); w.Code != http.StatusNotFound {
			t.Errorf("%s %s is answered with %d", r.Method, r.URL, w.Code)
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	wait := make(chan struct{})
	defer close(wait)
	for _, tt := range []struct {
		name, want string
		h          http.HandlerFunc
	}{
		{"another server", "something else answers on the port: 404", http.NotFound},
		{"another kind of answer", "something else answers on the port", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }},
		{"nobody's name", "something else answers on the port", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(answer{}) }},
		{"too much", "something else answers on the port", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"node":"`+strings.Repeat("x", 1<<16))
		}},
		{"silence", "no answer", func(http.ResponseWriter, *http.Request) { <-wait }},
	} {
		timeout := 5 * time.Second
		if tt.name == "silence" {
			timeout = 50 * time.Millisecond
		}
		srv := httptest.NewServer(tt.h)
		t.Cleanup(srv.Close)
		_, _, err := ask(t.Context(), "n2", netip.MustParseAddrPort(srv.Listener.Addr().String()), timeout)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	addr := netip.MustParseAddrPort(closed.Listener.Addr().String())
	closed.Close()
	if _, _, err := ask(t.Context(), "n2", addr, 5*time.Second); err == nil || err.Error() != "connection refused" {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestDefaults(t *testing.T) {
	if p := prober(t); !reflect.DeepEqual(p.cfg.Pace, DefaultPace()) || p.cfg.Observe == nil {
		t.Errorf("%+v", p.cfg)
	}
}
