package flowapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/internal/mtls/mtlstest"
)

var begin = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// fakeSource has lines, and tells more when it is followed, without an end if it shall be endless.
type fakeSource struct {
	lines, more []api.FlowLine
	endless     bool
	err         error
	nodes       []Node
	stopped     chan error // gets why emit ended an endless stream
}

func (s *fakeSource) Flows(ctx context.Context, f api.FlowFilter, emit func(api.FlowLine) error, stopped func(string, error)) error {
	for _, l := range s.lines {
		if f.Last == 0 || l.Time().Before(f.Since) {
			continue
		}
		if err := emit(l); err != nil {
			return err
		}
	}
	if !f.Follow {
		return s.err
	}
	if s.err != nil {
		stopped("lab-worker", s.err)
	}
	if err := emit(api.FlowLine{UpTo: begin}); err != nil {
		return err
	}
	for _, l := range s.more {
		if err := emit(l); err != nil {
			return err
		}
	}
	for s.endless {
		if err := emit(s.more[0]); err != nil {
			s.stopped <- err
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (s *fakeSource) Nodes(context.Context) ([]Node, error) { return s.nodes, nil }

// record is the nth, from pod a to a web server outside, or dropped if n is even.
func record(n int) api.FlowLine {
	r := &api.FlowRecord{
		Time: begin.Add(time.Duration(n) * time.Second), Node: "lab-worker", Verdict: api.FlowForwarded, Reason: "forwarded", At: "from-pod",
		Direction: api.FlowEgress, Protocol: "tcp", TCPFlags: 2, Length: n, Iface: "lxc1", IfIndex: 7, Reply: new(false),
		Source:      api.FlowEnd{Addr: netip.MustParseAddr("10.0.1.7"), Port: 40000, Identity: 300, Endpoint: 5, Namespace: "default", Pod: "demo-abc", Labels: map[string]string{"app": "demo"}},
		Destination: api.FlowEnd{Addr: netip.MustParseAddr("192.0.2.1"), Port: 443, Identity: 2, Name: "world"},
	}
	if n%2 == 0 {
		r.Verdict, r.Reason = api.FlowDropped, "no-backend"
	}
	return api.FlowLine{Flow: r}
}

func lost(n uint64) api.FlowLine {
	return api.FlowLine{Lost: &api.LostFlows{Time: begin, Node: "lab-worker", Count: n, By: api.LostByReader}}
}

// serving serves s, and returns the address.
func serving(t *testing.T, s Source, secure *tls.Config, patience time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, s, Serving{Cluster: "lab", Secure: secure, patience: patience}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func connect(t *testing.T, addr string, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func observer(t *testing.T, s Source) observerpb.ObserverClient {
	t.Helper()
	return observerpb.NewObserverClient(connect(t, serving(t, s, nil, time.Minute), insecure.NewCredentials()))
}

// told are n answers, or all until the end if n is 0: seconds of flows, -n for n lost ones, "!" for what nodes say.
func told(t *testing.T, c observerpb.ObserverClient, req *observerpb.GetFlowsRequest, n int) (out []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := c.GetFlows(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for n == 0 || len(out) < n {
		r, err := stream.Recv()
		if err != nil {
			if ctx.Err() != nil {
				t.Fatalf("no end after %v", out)
			}
			return out, err
		}
		switch {
		case r.GetFlow() != nil:
			out = append(out, fmt.Sprint(int(r.GetTime().AsTime().Sub(begin).Seconds())))
		case r.GetLostEvents() != nil:
			out = append(out, fmt.Sprint("-", r.GetLostEvents().GetNumEventsLost()))
		default:
			out = append(out, "!"+r.GetNodeStatus().GetMessage())
		}
	}
	return out, nil
}

func TestGetFlows(t *testing.T) {
	s := &fakeSource{lines: []api.FlowLine{record(1), record(2), lost(9), record(3), record(4), record(5)}, more: []api.FlowLine{record(6), record(7)}}
	c := observer(t, s)
	dropped := []*flowpb.FlowFilter{{Verdict: []flowpb.Verdict{flowpb.Verdict_DROPPED}}}
	for name, x := range map[string]struct {
		req  *observerpb.GetFlowsRequest
		n    int
		want string
	}{
		"all":                   {&observerpb.GetFlowsRequest{}, 0, "[1 2 -9 3 4 5]"},
		"last two":              {&observerpb.GetFlowsRequest{Number: 2}, 0, "[4 5]"},
		"last three":            {&observerpb.GetFlowsRequest{Number: 3}, 0, "[3 4 5]"},
		"first two":             {&observerpb.GetFlowsRequest{Number: 2, First: true}, 0, "[1 2]"},
		"since":                 {&observerpb.GetFlowsRequest{Since: timestamppb.New(begin.Add(4 * time.Second))}, 0, "[4 5]"},
		"until":                 {&observerpb.GetFlowsRequest{Until: timestamppb.New(begin.Add(2 * time.Second))}, 0, "[1 2 -9]"},
		"last dropped":          {&observerpb.GetFlowsRequest{Number: 1, Whitelist: dropped}, 0, "[4]"},
		"last of none":          {&observerpb.GetFlowsRequest{Number: 2, Whitelist: []*flowpb.FlowFilter{{SourcePod: []string{"a/b"}}}}, 0, "[-9]"},
		"not dropped":           {&observerpb.GetFlowsRequest{Number: 2, Blacklist: dropped}, 0, "[3 5]"},
		"follow":                {&observerpb.GetFlowsRequest{Follow: true}, 2, "[6 7]"},
		"follow after the last": {&observerpb.GetFlowsRequest{Follow: true, Number: 1}, 3, "[5 6 7]"},
	} {
		if got, _ := told(t, c, x.req, x.n); fmt.Sprint(got) != x.want {
			t.Errorf("%s: %v, want %s", name, got, x.want)
		}
	}
}

func TestGetFlowsRefuses(t *testing.T) {
	c := observer(t, &fakeSource{lines: []api.FlowLine{record(1)}})
	for want, req := range map[string]*observerpb.GetFlowsRequest{
		"flows cannot be picked by http_method here": {Whitelist: []*flowpb.FlowFilter{{HttpMethod: []string{"GET"}}}},
		`"10.0.1" is neither an address`:             {Blacklist: []*flowpb.FlowFilter{{SourceIp: []string{"10.0.1"}}}},
		`"a in" is no label selector`:                {Whitelist: []*flowpb.FlowFilter{{SourceLabel: []string{"a in"}}}},
		`"http": there are tcp`:                      {Whitelist: []*flowpb.FlowFilter{{Protocol: []string{"http"}}}},
		"at once":                                    {First: true, Follow: true, Number: 1},
		"fields that flows have not got":             {FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"none"}}},
	} {
		_, err := told(t, c, req, 0)
		if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), want) {
			t.Errorf("%v, want something with %q", err, want)
		}
	}
	if got, _ := told(t, c, &observerpb.GetFlowsRequest{}, 0); fmt.Sprint(got) != "[1]" {
		t.Errorf("after that others get %v", got)
	}
}

// TestNodesThatFail: what the others tell is told, and then which do not; where no node answers it is an error.
func TestNodesThatFail(t *testing.T) {
	down := errors.New("node lab-worker is paused")
	if got, _ := told(t, observer(t, &fakeSource{lines: []api.FlowLine{record(1)}, err: down}), &observerpb.GetFlowsRequest{}, 0); fmt.Sprint(got) != "[1 !node lab-worker is paused]" {
		t.Errorf("got %v", got)
	}
	if got, _ := told(t, observer(t, &fakeSource{err: down, more: []api.FlowLine{record(2)}}), &observerpb.GetFlowsRequest{Follow: true}, 2); fmt.Sprint(got) != "[!node lab-worker tells no more: node lab-worker is paused 2]" {
		t.Errorf("who follows gets %v", got)
	}
	_, err := told(t, observer(t, &fakeSource{err: down}), &observerpb.GetFlowsRequest{}, 0)
	if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != down.Error() {
		t.Errorf("got %v", err)
	}
}

func TestFlowHasWhatIsKnown(t *testing.T) {
	s := &server{cluster: "lab"}
	f := s.flowOf(record(2).Flow)
	if f.GetVerdict() != flowpb.Verdict_DROPPED || f.GetDropReasonDesc() != flowpb.DropReason_SERVICE_BACKEND_NOT_FOUND || f.GetEventType().GetType() != typeDrop ||
		f.GetIP().GetSource() != "10.0.1.7" || f.GetL4().GetTCP().GetDestinationPort() != 443 || !f.GetL4().GetTCP().GetFlags().GetSYN() ||
		f.GetTrafficDirection() != flowpb.TrafficDirection_EGRESS || f.GetIsReply() == nil || f.GetIsReply().GetValue() || f.GetInterface().GetName() != "lxc1" {
		t.Errorf("it is %v", f)
	}
	src, dst := f.GetSource(), f.GetDestination()
	if src.GetPodName() != "demo-abc" || src.GetIdentity() != 300 || src.GetID() != 5 || src.GetClusterName() != "lab" ||
		!slices.Equal(src.GetLabels(), []string{"k8s:app=demo", "k8s:io.kubernetes.pod.namespace=default"}) || !slices.Equal(dst.GetLabels(), []string{"reserved:world"}) {
		t.Errorf("ends are %v and %v", src, dst)
	}
	masked := only(f, &fieldmaskpb.FieldMask{Paths: []string{"source.pod_name", "verdict"}})
	if masked.GetSource().GetPodName() != "demo-abc" || masked.GetSource().GetIdentity() != 0 || masked.GetVerdict() != f.GetVerdict() || masked.GetIP() != nil {
		t.Errorf("masked it is %v", masked)
	}
}

func TestFilters(t *testing.T) {
	s := &server{}
	f := s.flowOf(record(1).Flow)
	for _, x := range []struct {
		filter *flowpb.FlowFilter
		want   bool
	}{
		{&flowpb.FlowFilter{}, true},
		{&flowpb.FlowFilter{SourceIp: []string{"10.0.1.7"}}, true}, {&flowpb.FlowFilter{SourceIp: []string{"10.0.0.0/16"}}, true}, {&flowpb.FlowFilter{DestinationIp: []string{"10.0.1.7"}}, false},
		{&flowpb.FlowFilter{SourcePod: []string{"demo"}}, true}, {&flowpb.FlowFilter{SourcePod: []string{"default/demo-abc"}}, true}, {&flowpb.FlowFilter{SourcePod: []string{"default/"}}, true},
		{&flowpb.FlowFilter{SourcePod: []string{"/demo"}}, true}, {&flowpb.FlowFilter{SourcePod: []string{"other/demo"}}, false}, {&flowpb.FlowFilter{SourcePod: []string{"emo"}}, false},
		{&flowpb.FlowFilter{DestinationPod: []string{"/"}}, false},
		{&flowpb.FlowFilter{SourceLabel: []string{"app=demo"}}, true}, {&flowpb.FlowFilter{SourceLabel: []string{"k8s:app in (demo,x)"}}, true}, {&flowpb.FlowFilter{SourceLabel: []string{"app!=demo"}}, false},
		{&flowpb.FlowFilter{DestinationLabel: []string{"reserved:world"}}, true}, {&flowpb.FlowFilter{DestinationLabel: []string{"reserved:host"}}, false},
		{&flowpb.FlowFilter{SourceIdentity: []uint32{300}}, true}, {&flowpb.FlowFilter{DestinationIdentity: []uint32{300}}, false},
		{&flowpb.FlowFilter{DestinationPort: []string{"443"}}, true}, {&flowpb.FlowFilter{SourcePort: []string{"443"}}, false},
		{&flowpb.FlowFilter{Protocol: []string{"TCP"}}, true}, {&flowpb.FlowFilter{Protocol: []string{"icmp", "udp"}}, false},
		{&flowpb.FlowFilter{Verdict: []flowpb.Verdict{flowpb.Verdict_FORWARDED}}, true}, {&flowpb.FlowFilter{Verdict: []flowpb.Verdict{flowpb.Verdict_DROPPED}}, false},
		{&flowpb.FlowFilter{Reply: []bool{false}}, true}, {&flowpb.FlowFilter{Reply: []bool{true}}, false},
		{&flowpb.FlowFilter{EventType: []*flowpb.EventTypeFilter{{Type: typeTrace}}}, true}, {&flowpb.FlowFilter{EventType: []*flowpb.EventTypeFilter{{Type: typeTrace, MatchSubType: true}}}, false},
		{&flowpb.FlowFilter{TcpFlags: []*flowpb.TCPFlags{{SYN: true}}}, true}, {&flowpb.FlowFilter{TcpFlags: []*flowpb.TCPFlags{{SYN: true, ACK: true}}}, false},
		{&flowpb.FlowFilter{NodeName: []string{"*-worker"}}, true}, {&flowpb.FlowFilter{NodeName: []string{"worker"}}, false},
		{&flowpb.FlowFilter{Interface: []*flowpb.NetworkInterface{{Name: "lxc1"}}}, true}, {&flowpb.FlowFilter{Interface: []*flowpb.NetworkInterface{{Name: "lxc2"}}}, false},
		{&flowpb.FlowFilter{TrafficDirection: []flowpb.TrafficDirection{flowpb.TrafficDirection_EGRESS}}, true}, {&flowpb.FlowFilter{IpVersion: []flowpb.IPVersion{flowpb.IPVersion_IPv6}}, false},
		{&flowpb.FlowFilter{SourcePod: []string{"demo"}, DestinationPort: []string{"80"}}, false},
	} {
		pick, err := picker([]*flowpb.FlowFilter{x.filter}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := pick(f); got != x.want {
			t.Errorf("%v picks it: %v", x.filter, got)
		}
	}
}

func TestServerStatus(t *testing.T) {
	s := &fakeSource{lines: []api.FlowLine{record(1)}, nodes: []Node{
		{Name: "a", Address: "172.18.0.2", Agent: &api.Status{Version: "1", Started: time.Now().Add(-time.Hour), Flows: &api.FlowsKept{Kept: 5, Capacity: 10, Seen: 20, PerSecond: 1.5}}},
		{Name: "b", Agent: &api.Status{Version: "1", Started: time.Now(), Flows: &api.FlowsKept{Kept: 1, Capacity: 10, Seen: 1, PerSecond: 0.5}}},
		{Name: "c"}, {Name: "d", Agent: &api.Status{}},
	}}
	c := observer(t, s)
	got, err := c.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
	if err != nil || got.GetNumFlows() != 6 || got.GetMaxFlows() != 20 || got.GetSeenFlows() != 21 || got.GetFlowsRate() != 2 || got.GetUptimeNs() < uint64(time.Hour) ||
		got.GetNumConnectedNodes().GetValue() != 2 || !slices.Equal(got.GetUnavailableNodes(), []string{"c", "d"}) {
		t.Errorf("%v, %v", got, err)
	}
	nodes, err := c.GetNodes(t.Context(), &observerpb.GetNodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 4 || nodes.GetNodes()[0].GetState().String() != "NODE_CONNECTED" || nodes.GetNodes()[2].GetState().String() != "NODE_UNAVAILABLE" {
		t.Errorf("%v, %v", nodes, err)
	}
	s.lines[0].Flow.Time = time.Now()
	names, err := c.GetNamespaces(t.Context(), &observerpb.GetNamespacesRequest{})
	if err != nil || len(names.GetNamespaces()) != 1 || names.GetNamespaces()[0].GetNamespace() != "default" {
		t.Errorf("%v, %v", names, err)
	}
	for _, err := range []error{errOf(c.GetAgentEvents(t.Context(), &observerpb.GetAgentEventsRequest{})), errOf(c.GetDebugEvents(t.Context(), &observerpb.GetDebugEventsRequest{}))} {
		if status.Code(err) != codes.Unimplemented || !strings.HasPrefix(status.Convert(err).Message(), "wirelab's agents keep no") {
			t.Errorf("got %v", err)
		}
	}
	healthy := healthpb.NewHealthClient(connect(t, serving(t, s, nil, time.Minute), insecure.NewCredentials()))
	if got, err := healthy.Check(t.Context(), &healthpb.HealthCheckRequest{Service: observerService}); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", got, err)
	}
}

// TestTooManyClients: one too many is refused, and the next one is served when one of the others has gone.
func TestTooManyClients(t *testing.T) {
	c := observer(t, &fakeSource{lines: []api.FlowLine{record(1)}, more: []api.FlowLine{record(2)}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range maxAsking {
		stream, err := c.GetFlows(ctx, &observerpb.GetFlowsRequest{Follow: true})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := told(t, c, &observerpb.GetFlowsRequest{}, 0); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "16 clients are being told of flows already") {
		t.Errorf("one too many gets %v", err)
	}
	cancel()
	for deadline := time.Now().Add(20 * time.Second); ; {
		got, _ := told(t, c, &observerpb.GetFlowsRequest{}, 0)
		if fmt.Sprint(got) == "[1]" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("when the others have gone it is %v", got)
		}
	}
}

// TestClientsThatSayOtherThings: a method that is not there, as of another API, and bytes that are no request, get an error
// each, and others are served on.
func TestClientsThatSayOtherThings(t *testing.T) {
	addr := serving(t, &fakeSource{lines: []api.FlowLine{record(1)}}, nil, time.Minute)
	conn := connect(t, addr, insecure.NewCredentials())
	for want, method := range map[string]string{"unknown service": "/observer.Former/GetFlows", "unknown method": "/observer.Observer/GetFormerFlows"} {
		if err := conn.Invoke(t.Context(), method, &observerpb.GetNodesRequest{}, &observerpb.GetNodesResponse{}); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", method, err)
		}
	}
	garbage := &observerpb.GetFlowsRequest{}
	garbage.ProtoReflect().SetUnknown([]byte{6<<3 | 2, 5, 1}) // a filter of five bytes, of which one is there
	if err := conn.Invoke(t.Context(), "/observer.Observer/GetFlows", garbage, &observerpb.GetFlowsResponse{}); status.Code(err) != codes.Internal {
		t.Errorf("bytes that are no request: %v", err)
	}
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	fmt.Fprint(raw, "GET / HTTP/1.1\r\n\r\n")
	if got, _ := told(t, observerpb.NewObserverClient(conn), &observerpb.GetFlowsRequest{}, 0); fmt.Sprint(got) != "[1]" {
		t.Errorf("after that others get %v", got)
	}
}

// errOf is the first error of a stream.
func errOf[T any](stream grpc.ServerStreamingClient[T], err error) error {
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

// TestMutualTLS: a client whose certificate the CA has signed is served; one without, one of another CA, one that has
// expired and one that speaks without TLS are not, and the first is served on. Who speaks TLS is told why, each time: the reason
// comes as the answer to what the client has begun to send.
func TestMutualTLS(t *testing.T) {
	ours, theirs := mtlstest.New(t), mtlstest.New(t)
	ours.Sign(t, "tls", "lab.test", time.Now().Add(time.Hour))
	ours.Sign(t, "client", "", time.Now().Add(time.Hour))
	ours.Sign(t, "old", "", time.Now().Add(-time.Minute))
	theirs.Sign(t, "client", "", time.Now().Add(time.Hour))
	addr := serving(t, &fakeSource{lines: []api.FlowLine{record(1)}}, mtls.InDir(ours.Dir).Renewed("", []string{"h2"}), time.Minute)
	ask := func(c credentials.TransportCredentials) error {
		_, err := observerpb.NewObserverClient(connect(t, addr, c)).ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		return err
	}
	with := func(a *mtlstest.Authority, name string) credentials.TransportCredentials {
		c, err := mtls.Files{Cert: a.File(name + ".crt"), Key: a.File(name + ".key"), CA: ours.File("ca.crt")}.Client(time.Now().Add(-90*time.Second), "lab.test")
		if err != nil {
			t.Fatal(err)
		}
		return credentials.NewTLS(c)
	}
	nobody := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12, ServerName: "lab.test"}
	pem, err := os.ReadFile(ours.File("ca.crt"))
	if err != nil || !nobody.RootCAs.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	stranger := nobody.Clone() // one shows what it has only where the CA that is asked for fits, unless it is made to
	stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(theirs.File("client.crt"), theirs.File("client.key"))
		return &cert, err
	}
	for name, c := range map[string]struct {
		with credentials.TransportCredentials
		told string
	}{
		"without a certificate": {credentials.NewTLS(nobody), "tls: certificate required"},
		"of another CA":         {credentials.NewTLS(stranger), "tls: unknown certificate authority"},
		"expired":               {with(ours, "old"), "tls: expired certificate"},
		"without TLS":           {insecure.NewCredentials(), ""},
	} {
		for range 30 {
			if err := ask(c.with); err == nil || !strings.Contains(err.Error(), c.told) {
				t.Fatalf("a client %s is told %v", name, err)
			}
		}
		if err := ask(with(ours, "client")); err != nil {
			t.Errorf("after a client %s the right one is not served: %v", name, err)
		}
	}
}

// TestClientThatStopsReading is cut off, and others are served on.
func TestClientThatStopsReading(t *testing.T) {
	s := &fakeSource{lines: []api.FlowLine{record(1)}, more: []api.FlowLine{record(2)}, endless: true, stopped: make(chan error, 1)}
	addr := serving(t, s, nil, 300*time.Millisecond)
	stuck, err := observerpb.NewObserverClient(connect(t, addr, insecure.NewCredentials())).GetFlows(t.Context(), &observerpb.GetFlowsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.stopped:
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("it ended by %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it is not cut off")
	}
	for err == nil {
		_, err = stuck.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the client is told %v", err)
	}
	if got, _ := told(t, observerpb.NewObserverClient(connect(t, addr, insecure.NewCredentials())), &observerpb.GetFlowsRequest{}, 0); fmt.Sprint(got) != "[1]" {
		t.Errorf("another client gets %v", got)
	}
}
