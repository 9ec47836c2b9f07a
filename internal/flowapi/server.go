// Package flowapi speaks the flow API that clients of this field know, observer.Observer over gRPC, for flow records of any
// number of nodes. What it cannot answer truthfully it refuses in a sentence.
package flowapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	relaypb "github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"wirelab.dev/wirelab/internal/api"
)

// Source is where flows come from.
type Source interface {
	// Flows hands on what nodes have and f picks, in the order of their times, until ctx is done or emit fails. A line with
	// UpTo comes once all that was there is handed on, when f follows. Stopped is called, not at once with emit, for each node
	// that is followed and tells no more. The error says which nodes did not answer.
	Flows(ctx context.Context, f api.FlowFilter, emit func(api.FlowLine) error, stopped func(node string, err error)) error
	// Nodes asks how the nodes are, sorted by name.
	Nodes(ctx context.Context) ([]Node, error)
}

// Node is one that flows come from.
type Node struct {
	Name    string
	Address string
	Agent   *api.Status // nil when it does not answer
}

// server answers for a source.
type server struct {
	observerpb.UnimplementedObserverServer
	source   Source
	cluster  string
	patience time.Duration
	asking   chan struct{} // has room for those who are told of flows
}

// maxAsking bounds how many are told of flows at a time: for each of them every node is read.
const maxAsking = 16

// admit returns how to leave, or refuses one too many.
func (s *server) admit() (leave func(), err error) {
	select {
	case s.asking <- struct{}{}:
		return func() { <-s.asking }, nil
	default:
		return nil, status.Errorf(codes.ResourceExhausted, "%d clients are being told of flows already: end one of them, or ask later", cap(s.asking))
	}
}

// observerService is the name by which clients ask whether the service is healthy.
const observerService = "hubble.server.Observer"

// Serving is what a server is told.
type Serving struct {
	Cluster string          // the name that flows are told with
	Secure  *tls.Config     // nil: without TLS
	Refused func(err error) // told of each client that Secure does not take, err wraps the reason; may be nil

	patience time.Duration // 0: the usual
}

// patience is how long a client may take to accept a flow. One that takes longer has stopped reading.
const patience = 30 * time.Second

// Protocols are those that clients speak above TLS.
func Protocols() []string { return []string{"h2"} }

// Serve answers on l, which it closes, until ctx is done.
func Serve(ctx context.Context, l net.Listener, source Source, as Serving) error {
	opts := []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.MaxRecvMsgSize(1 << 20), grpc.MaxConcurrentStreams(64), grpc.ConnectionTimeout(10 * time.Second),
	}
	if as.Secure != nil {
		opts = append(opts, grpc.Creds(observed{credentials.NewTLS(as.Secure), as.Refused}))
	}
	s := grpc.NewServer(opts...)
	observerpb.RegisterObserverServer(s, &server{
		source: source, cluster: as.Cluster, patience: cmp.Or(as.patience, patience), asking: make(chan struct{}, maxAsking),
	})
	healthy := health.NewServer()
	healthy.SetServingStatus(observerService, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s, healthy)
	defer context.AfterFunc(ctx, s.Stop)()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve the flow API at %s: %w", l.Addr(), err)
	}
	return nil
}

// ServerStatus is the nodes' buffers together.
func (s *server) ServerStatus(ctx context.Context, _ *observerpb.ServerStatusRequest) (*observerpb.ServerStatusResponse, error) {
	nodes, err := s.source.Nodes(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	out := &observerpb.ServerStatusResponse{}
	versions := []string{}
	connected := uint32(0)
	for _, n := range nodes {
		if n.Agent == nil || n.Agent.Flows == nil {
			out.UnavailableNodes = append(out.UnavailableNodes, n.Name)
			continue
		}
		connected++
		f := n.Agent.Flows
		out.NumFlows += uint64(f.Kept)     //nolint:gosec // not negative
		out.MaxFlows += uint64(f.Capacity) //nolint:gosec // not negative
		out.SeenFlows += f.Seen
		out.FlowsRate += f.PerSecond
		out.UptimeNs = max(out.UptimeNs, uint64(time.Since(n.Agent.Started))) //nolint:gosec // not negative
		versions = append(versions, n.Agent.Version)
	}
	slices.Sort(versions)
	out.Version = "wirelab " + strings.Join(slices.Compact(versions), ", ")
	out.NumConnectedNodes = wrapperspb.UInt32(connected)
	out.NumUnavailableNodes = wrapperspb.UInt32(uint32(len(out.UnavailableNodes))) //nolint:gosec // a few
	return out, nil
}

// GetNodes are the nodes, with how their buffers are.
func (s *server) GetNodes(ctx context.Context, _ *observerpb.GetNodesRequest) (*observerpb.GetNodesResponse, error) {
	nodes, err := s.source.Nodes(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	out := &observerpb.GetNodesResponse{}
	for _, n := range nodes {
		node := &observerpb.Node{Name: n.Name, Address: n.Address, State: relaypb.NodeState_NODE_UNAVAILABLE, Tls: &observerpb.TLS{}}
		if a := n.Agent; a != nil {
			node.Version, node.UptimeNs = a.Version, uint64(time.Since(a.Started)) //nolint:gosec // not negative
			if a.Flows != nil {
				node.State = relaypb.NodeState_NODE_CONNECTED
				node.NumFlows, node.MaxFlows, node.SeenFlows = uint64(a.Flows.Kept), uint64(a.Flows.Capacity), a.Flows.Seen //nolint:gosec // not negative
			}
		}
		out.Nodes = append(out.Nodes, node)
	}
	return out, nil
}

// flowsOfAnHour is how long ago a flow may be whose namespaces are told.
const flowsOfAnHour = time.Hour

// GetNamespaces are those of the pods that the flows of the last hour are of, as far as these are kept.
func (s *server) GetNamespaces(ctx context.Context, _ *observerpb.GetNamespacesRequest) (*observerpb.GetNamespacesResponse, error) {
	leave, err := s.admit()
	if err != nil {
		return nil, err
	}
	defer leave()
	found := map[string]bool{}
	err = s.source.Flows(ctx, api.FlowFilter{Last: -1, Since: time.Now().Add(-flowsOfAnHour)}, func(l api.FlowLine) error {
		if l.Flow != nil {
			found[l.Flow.Source.Namespace], found[l.Flow.Destination.Namespace] = true, true
		}
		return nil
	}, func(string, error) {})
	delete(found, "")
	if err != nil && len(found) == 0 {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	out := &observerpb.GetNamespacesResponse{}
	for name := range found {
		out.Namespaces = append(out.Namespaces, &observerpb.Namespace{Cluster: s.cluster, Namespace: name})
	}
	slices.SortFunc(out.Namespaces, func(a, b *observerpb.Namespace) int { return strings.Compare(a.GetNamespace(), b.GetNamespace()) })
	return out, nil
}

// GetAgentEvents is refused: agents keep no events of their own.
func (s *server) GetAgentEvents(*observerpb.GetAgentEventsRequest, grpc.ServerStreamingServer[observerpb.GetAgentEventsResponse]) error {
	return status.Error(codes.Unimplemented, "wirelab's agents keep no events about themselves: lab logs and lab status say what they do")
}

// GetDebugEvents is refused: agents keep no debug events.
func (s *server) GetDebugEvents(*observerpb.GetDebugEventsRequest, grpc.ServerStreamingServer[observerpb.GetDebugEventsResponse]) error {
	return status.Error(codes.Unimplemented, "wirelab's agents keep no debug events: lab monitor prints what programs report, as it happens")
}

// nodeStatus tells a client that nodes do not answer, by their names where these are known.
func nodeStatus(message string, names ...string) *observerpb.GetFlowsResponse {
	return &observerpb.GetFlowsResponse{ResponseTypes: &observerpb.GetFlowsResponse_NodeStatus{
		NodeStatus: &relaypb.NodeStatusEvent{StateChange: relaypb.NodeState_NODE_ERROR, NodeNames: names, Message: message},
	}}
}
