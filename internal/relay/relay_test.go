package relay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/flowapi"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/logtest"
	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/internal/mtls/mtlstest"
	"wirelab.dev/wirelab/internal/serve"
)

// bed is a relay's source, and agents that it asks, each at a loopback address of its own and all at one port.
type bed struct {
	*source
	t   *testing.T
	ca  *mtlstest.Authority
	at  []place
	log *logtest.Buffer
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, ca: mtlstest.New(t), log: &logtest.Buffer{}}
	b.ca.Sign(t, "tls", api.RelayCertName, time.Now().Add(time.Hour))
	b.ca.Sign(t, "agent", api.AgentCertName, time.Now().Add(time.Hour))
	b.source = newSource(func() []place { return b.at }, Options{AgentTLS: b.ca.Dir}.forAgents(), 0, slog.New(slog.NewTextHandler(b.log, nil)))
	return b
}

// agent runs one that shows a certificate of a's; stop stops it.
func (b *bed) agent(name string, a *mtlstest.Authority, file string) (buffer *flows.Buffer, stop func()) {
	b.t.Helper()
	return b.agentWith(name, mtls.Files{Cert: a.File(file + ".crt"), Key: a.File(file + ".key"), CA: b.ca.File("ca.crt")})
}

// agentWith is agent with any files.
func (b *bed) agentWith(name string, files mtls.Files) (buffer *flows.Buffer, stop func()) {
	b.t.Helper()
	addr := netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + len(b.at))})
	i := slices.IndexFunc(b.at, func(p place) bool { return p.name == name })
	if i >= 0 {
		addr = b.at[i].addr
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, b.port).String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.port = l.Addr().(*net.TCPAddr).AddrPort().Port() // of the first one
	if i < 0 {
		b.at = append(b.at, place{name: name, addr: addr})
	}
	buffer = flows.NewBuffer(name, 64, nil)
	who := flows.NewWho(identity.NewNumbers())
	mux := http.NewServeMux()
	mux.HandleFunc(api.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		kept := buffer.Stats()
		fmt.Fprintf(w, `{"version":"1","node":%q,"started":%q,"flows":{"kept":%d,"capacity":64}}`, name, time.Now().Format(time.RFC3339), kept.Kept)
	})
	mux.HandleFunc(api.FlowRecordsPath, func(w http.ResponseWriter, r *http.Request) {
		f, err := api.ParseFlowFilter(r.URL.Query())
		if err == nil {
			_ = buffer.Serve(r.Context(), w, f, who) // the relay may go
		}
	})
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.TLS(ctx, l, files.Renewed(api.RelayCertName, nil), mux, slog.New(slog.NewTextHandler(io.Discard, nil)), func(err error) error { return err })
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				b.t.Error(err)
			}
		}
	}
	b.t.Cleanup(stop)
	return buffer, stop
}

// serve serves the relay's clients, with mutual TLS if as has it.
func (b *bed) serve(as flowapi.Serving, c credentials.TransportCredentials) observerpb.ObserverClient {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- flowapi.Serve(ctx, l, b.source, as) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(c))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return observerpb.NewObserverClient(conn)
}

func flow(node string, length int) api.FlowRecord {
	return api.FlowRecord{
		Time: time.Now(), Node: node, Verdict: api.FlowForwarded, Protocol: "udp", Length: length,
		Source: api.FlowEnd{Addr: netip.MustParseAddr("10.0.0.1"), Port: uint16(length)}, Destination: api.FlowEnd{Addr: netip.MustParseAddr("10.0.0.2"), Port: 53}, //nolint:gosec // a few
	}
}

// next is the next flow's node and port, or what is told of a node.
func next(t *testing.T, stream grpc.ServerStreamingClient[observerpb.GetFlowsResponse]) string {
	t.Helper()
	r, err := stream.Recv()
	switch {
	case err != nil:
		t.Fatal(err)
	case r.GetFlow() != nil:
		return fmt.Sprint(r.GetNodeName(), r.GetFlow().GetL4().GetUDP().GetSourcePort())
	}
	return fmt.Sprint(r.GetNodeStatus().GetNodeNames(), r.GetNodeStatus().GetMessage())
}

// TestRelay: a client with a certificate gets the flows of all nodes, picked, in order, and hears of a node that stops and of
// what that tells when it is back; nodes that come are followed too.
func TestRelay(t *testing.T) {
	b := newBed(t)
	clients := mtlstest.New(t)
	clients.Sign(t, "tls", "wirelab-relay", time.Now().Add(time.Hour))
	clients.Sign(t, "client", "someone", time.Now().Add(time.Hour))
	own, err := mtls.Files{Cert: clients.File("client.crt"), Key: clients.File("client.key"), CA: clients.File("ca.crt")}.Client(time.Now(), "wirelab-relay")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := b.agent("n1", b.ca, "agent")
	second, stop := b.agent("n2", b.ca, "agent")
	for i, buffer := range []*flows.Buffer{first, second, first, second} {
		buffer.Put(flow(fmt.Sprint("n", 1+i%2), 100+i))
	}
	c := b.serve(flowapi.Serving{Cluster: "lab", Secure: mtls.InDir(clients.Dir).Renewed("", flowapi.Protocols())}, credentials.NewTLS(own))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := c.ServerStatus(ctx, &observerpb.ServerStatusRequest{})
	if err != nil || s.GetNumFlows() != 4 || s.GetNumConnectedNodes().GetValue() != 2 {
		t.Fatalf("the status is %v, %v", s, err)
	}
	stream, err := c.GetFlows(ctx, &observerpb.GetFlowsRequest{Number: 3, Follow: true, Whitelist: []*flowpb.FlowFilter{{DestinationPort: []string{"53"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"n2101", "n1102", "n2103"} {
		if got := next(t, stream); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	stop()
	if got := next(t, stream); !strings.HasPrefix(got, "[n2]node n2 tells no more: ") {
		t.Errorf("of a node that stops it is told %q", got)
	}
	second, _ = b.agent("n2", b.ca, "agent")
	second.Put(flow("n2", 104))
	if got := next(t, stream); got != "n2104" {
		t.Errorf("of a node that is back it is told %q", got)
	}
}

// TestCertificatesThatDoNotFit: what is the matter with a node is said to the client and logged, with what to do, and the flows
// of the others are told.
func TestCertificatesThatDoNotFit(t *testing.T) {
	b := newBed(t)
	theirs := mtlstest.New(t)
	theirs.Sign(t, "agent", api.AgentCertName, time.Now().Add(time.Hour))
	b.ca.Sign(t, "relay2", api.RelayCertName, time.Now().Add(time.Hour))
	good, _ := b.agent("good", b.ca, "agent")
	good.Put(flow("good", 7))
	b.agent("other-ca", theirs, "agent")
	b.agent("missing", b.ca, "nowhere")
	b.agent("no-agents", b.ca, "relay2") // one with the relay's name
	b.ca.Sign(t, "old", api.AgentCertName, time.Now().Add(-time.Hour))
	b.agent("expired", b.ca, "old")
	b.agentWith("wary", mtls.Files{Cert: b.ca.File("agent.crt"), Key: b.ca.File("agent.key"), CA: theirs.File("ca.crt")})
	b.at = append(b.at, place{name: "away", addr: netip.MustParseAddr("127.0.0.200")}, place{name: "new"})
	var got []int
	err := b.Flows(t.Context(), api.FlowFilter{Last: -1}, func(l api.FlowLine) error {
		if l.Flow != nil {
			got = append(got, l.Flow.Length)
		}
		return nil
	}, func(string, error) {})
	if len(got) != 1 || got[0] != 7 {
		t.Errorf("told is %v", got)
	}
	if err == nil {
		t.Fatal("nothing is said")
	}
	said := strings.Split(err.Error(), "\n")
	const (
		mend   = "delete the Secrets wirelab-relay and wirelab-relay-agent, and bring the lab up again"
		refuse = "its agent " // refuses this relay's certificate, or ends the connection where that came first
	)
	for i, want := range []string{
		"node other-ca: its agent's certificate is not to be trusted (x509: certificate signed by unknown authority", "node missing: its agent refuses this relay's certificate, or has none itself (tls: ",
		"node no-agents: its agent's certificate is not to be trusted (x509: certificate is valid for relay", "node expired: its agent refuses this relay's certificate, or has none itself (tls: ", "node wary: " + refuse, "node away: ask the agent at 127.0.0.200:", "node new: its LabNode has no address yet",
	} {
		if len(said) != 7 || !strings.HasPrefix(said[i], want) || strings.Contains(said[i], mend) != (i < 5) {
			t.Fatalf("said is\n%s\nwant in line %d %q", err, i+1, want)
		}
	}
	nodes, err := b.Nodes(t.Context())
	if err != nil || len(nodes) != 8 || nodes[0].Agent == nil || nodes[0].Agent.Flows.Kept != 1 || nodes[1].Agent != nil || nodes[7].Address != "" {
		t.Errorf("nodes are %+v, %v", nodes, err)
	}

	for _, node := range []string{"other-ca", "missing", "no-agents", "expired", "wary", "away", "new"} { // twice asked
		if n := strings.Count(b.log.String(), "node="+node+" err="); n != 1 {
			t.Errorf("of node %s there are %d lines in\n%s", node, n, b.log)
		}
	}
	if strings.Contains(b.log.String(), "node=good") || strings.Count(b.log.String(), mend) != 5 {
		t.Errorf("the log is\n%s", b.log)
	}

	// Of its own certificate nothing is asked with, once it is gone.
	if err := os.Remove(b.ca.File("tls.crt")); err != nil {
		t.Fatal(err)
	}
	err = b.Flows(t.Context(), api.FlowFilter{}, func(api.FlowLine) error { return nil }, func(string, error) {})
	if err == nil || !strings.Contains(err.Error(), "this relay has nothing to show agents: read the certificate "+b.ca.File("tls.crt")+" of the Secret wirelab-relay") || !strings.Contains(err.Error(), mend) {
		t.Errorf("without its certificate: %v", err)
	}
	b.ca.Sign(t, "tls", api.RelayCertName, time.Now().Add(-time.Hour))
	err = b.Flows(t.Context(), api.FlowFilter{}, func(api.FlowLine) error { return nil }, func(string, error) {})
	if err == nil || !strings.Contains(err.Error(), b.ca.File("tls.crt")+" of the Secret wirelab-relay has expired on ") || !strings.Contains(err.Error(), mend) {
		t.Errorf("with one that has expired: %v", err)
	}
}

// TestAnAgentThatIsSilent is given up, and the flows of others are told.
func TestAnAgentThatIsSilent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	good, _ := b.agent("good", b.ca, "agent")
	good.Put(flow("good", 7))
	silent, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), b.port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b.at = append(b.at, place{name: "silent", addr: netip.MustParseAddr("127.0.0.9")})
	told := 0
	err = b.Flows(t.Context(), api.FlowFilter{Last: -1}, func(l api.FlowLine) error { told++; return nil }, func(string, error) {})
	if err == nil || !strings.HasPrefix(err.Error(), "node silent: ") || told != 1 {
		t.Errorf("told %d, %v", told, err)
	}
}

func TestPlaces(t *testing.T) {
	node := func(name, gone string, addrs ...netip.Addr) *crd.LabNode {
		n := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: crd.LabNodeSpec{Addresses: addrs}}
		if gone != "" {
			n.Annotations = map[string]string{crd.NodeGone: gone}
		}
		return n
	}
	a, b := netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("172.18.0.3")
	got := places([]*crd.LabNode{node("z", "", b, a), node("went", "2026-01-02T15:04:05Z", a), node("a", "", a), node("new", "")})
	if want := []place{{"a", a}, {"new", netip.Addr{}}, {"z", b}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestProbes: a relay is ready when it knows the nodes and has what it shows agents and clients.
func TestProbes(t *testing.T) {
	agents, clients := mtlstest.New(t), mtlstest.New(t)
	log := &logtest.Buffer{}
	told := &readiness{log: slog.New(slog.NewTextHandler(log, nil))}
	ask := func(o Options, synced bool, path string) (int, string) {
		w := httptest.NewRecorder()
		probe(o, func() bool { return synced }, told).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	const mendClients = ": delete the Secrets wirelab-relay-server and wirelab-relay-client, and bring the lab up again"
	o := Options{AgentTLS: agents.Dir, TLS: clients.Dir}
	code, said := ask(o, false, "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(said, "the list of nodes is not there yet\nagents cannot be asked: read the certificate") || !strings.Contains(said, "\nclients cannot be answered: read the certificate") {
		t.Errorf("%d %s", code, said)
	}
	if code, _ := ask(o, false, "/healthz"); code != http.StatusOK {
		t.Errorf("a relay that waits is not healthy: %d", code)
	}
	agents.Sign(t, "tls", api.RelayCertName, time.Now().Add(time.Hour))
	clients.Sign(t, "tls", "wirelab-relay", time.Now().Add(-time.Hour))
	if code, said := ask(o, true, "/readyz"); code != http.StatusServiceUnavailable || !strings.HasPrefix(said, "clients cannot be answered: the certificate ") || !strings.Contains(said, "has expired on") || !strings.Contains(said, mendClients) {
		t.Errorf("%d %s", code, said)
	}
	ask(o, true, "/readyz")
	if n := strings.Count(log.String(), "has expired on"); n != 1 || strings.Count(log.String(), "level=WARN") != 2 || strings.Contains(log.String(), "msg=ready") {
		t.Errorf("that a certificate has expired is logged %d times in\n%s", n, log)
	}
	clients.Sign(t, "tls", "wirelab-relay", time.Now().Add(time.Hour))
	if code, said := ask(o, true, "/readyz"); code != http.StatusOK || !strings.HasSuffix(log.String(), "level=INFO msg=ready\n") {
		t.Errorf("%d %s, logged is\n%s", code, said, log)
	}
	o.TLS = ""
	if err := os.Remove(clients.File("tls.crt")); err != nil {
		t.Fatal(err)
	}
	if code, said := ask(o, true, "/readyz"); code != http.StatusOK {
		t.Errorf("without TLS: %d %s", code, said)
	}
}
