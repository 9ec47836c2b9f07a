package flowapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"wirelab.dev/wirelab/internal/api"
)

// errEnough ends a stream that has told all it was asked for.
var errEnough = errors.New("enough")

// GetFlows tells of the flows that are there, and with follow of those that come.
func (s *server) GetFlows(req *observerpb.GetFlowsRequest, stream grpc.ServerStreamingServer[observerpb.GetFlowsResponse]) error {
	pick, err := picker(req.GetWhitelist(), req.GetBlacklist())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if req.GetFirst() && req.GetFollow() {
		return status.Error(codes.InvalidArgument, "the first flows and those that come cannot be asked for at once")
	}
	if mask := req.GetFieldMask(); mask != nil && !mask.IsValid(&flowpb.Flow{}) {
		return status.Error(codes.InvalidArgument, "the field mask has fields that flows have not got")
	}
	leave, err := s.admit()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	a := &answer{server: s, req: req, pick: pick, send: s.sender(ctx, stream)}
	f := api.FlowFilter{Follow: req.GetFollow(), Last: -1}
	if req.GetSince() != nil {
		f.Since = req.GetSince().AsTime()
	}
	if req.GetFollow() && req.GetNumber() == 0 && req.GetSince() == nil {
		f.Last = 0
	}
	err = s.source.Flows(ctx, f, a.take, a.stopped)
	if errors.Is(err, errEnough) {
		err = nil
	}
	if _, told := status.FromError(err); err != nil && told {
		return err // the client's
	}
	if end := a.flush(); end != nil && !errors.Is(end, errEnough) {
		return end
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	if a.sent == 0 {
		return status.Error(codes.Unavailable, err.Error())
	}
	return a.send(nodeStatus(err.Error()))
}

// answer is what one request gets.
type answer struct {
	*server
	req  *observerpb.GetFlowsRequest
	pick match
	send func(*observerpb.GetFlowsResponse) error

	held  []*observerpb.GetFlowsResponse // of what was there, the last ones that were asked for
	flows int                            // among held
	begun bool                           // what was there is told
	sent  int
	down  []*observerpb.GetFlowsResponse // what is to be told of nodes, once begun
	end   error                          // why nothing can be sent any more
}

// take takes a line. What was there is held until it is known which are the last ones.
func (a *answer) take(l api.FlowLine) error {
	switch {
	case a.end != nil:
		return a.end
	case l.Flow != nil:
		return a.flow(l.Flow)
	case l.Lost != nil:
		return a.hold(lostOf(l.Lost))
	case !l.UpTo.IsZero():
		err := a.flush()
		for i := 0; err == nil && i < len(a.down); i++ {
			err = a.send(a.down[i])
		}
		return err
	}
	return nil
}

// stopped tells that a node that is followed tells no more.
func (a *answer) stopped(node string, err error) {
	r := nodeStatus(fmt.Sprintf("node %s tells no more: %v", node, err), node)
	if a.begun {
		a.end = a.send(r)
		return
	}
	a.down = append(a.down, r)
}

func (a *answer) flow(r *api.FlowRecord) error {
	if until := a.req.GetUntil(); until != nil && r.Time.After(until.AsTime()) {
		return errEnough
	}
	f := a.flowOf(r)
	if !a.pick(f) {
		return nil
	}
	if mask := a.req.GetFieldMask(); mask != nil {
		f = only(f, mask)
	}
	a.flows++
	err := a.hold(&observerpb.GetFlowsResponse{NodeName: r.Node, Time: timestamppb.New(r.Time), ResponseTypes: &observerpb.GetFlowsResponse_Flow{Flow: f}})
	if err == nil && a.req.GetFirst() && a.asked(a.flows) {
		err = errEnough
	}
	return err
}

// asked says whether n flows are as many as were asked for.
func (a *answer) asked(n int) bool {
	number := a.req.GetNumber()
	return number > 0 && n >= 0 && uint64(n) >= number
}

func (a *answer) hold(r *observerpb.GetFlowsResponse) error {
	if a.begun {
		a.sent++
		return a.send(r)
	}
	a.held = append(a.held, r)
	if !a.asked(a.flows - 1) {
		return nil
	}
	// One too many: the first goes, with what is missing behind it.
	a.flows--
	first := slices.IndexFunc(a.held, func(r *observerpb.GetFlowsResponse) bool { return r.GetFlow() != nil })
	next := slices.IndexFunc(a.held[first+1:], func(r *observerpb.GetFlowsResponse) bool { return r.GetFlow() != nil })
	a.held = a.held[first+1+next:]
	return nil
}

// flush sends what is held.
func (a *answer) flush() error {
	a.begun = true
	for _, r := range a.held {
		a.sent++
		if err := a.send(r); err != nil {
			return err
		}
	}
	a.held = nil
	return nil
}

// sender sends to a client that has to take what it gets in time; one that does not is cut off.
func (s *server) sender(ctx context.Context, stream grpc.ServerStreamingServer[observerpb.GetFlowsResponse]) func(*observerpb.GetFlowsResponse) error {
	return func(r *observerpb.GetFlowsResponse) error {
		sent := make(chan error, 1)
		go func() { sent <- stream.Send(r) }()
		late := time.NewTimer(s.patience)
		defer late.Stop()
		select {
		case err := <-sent:
			return err
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-late.C:
			// The end of the call ends Send, too.
			return status.Errorf(codes.ResourceExhausted, "the client has read nothing for %s", s.patience)
		}
	}
}

// only is a flow with the fields of a mask alone.
func only(f *flowpb.Flow, mask *fieldmaskpb.FieldMask) *flowpb.Flow {
	out := &flowpb.Flow{}
	for _, path := range mask.GetPaths() {
		copyField(out.ProtoReflect(), f.ProtoReflect(), strings.Split(path, "."))
	}
	return out
}

func copyField(to, from protoreflect.Message, path []string) {
	field := from.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if field == nil || !from.Has(field) {
		return
	}
	if len(path) == 1 {
		to.Set(field, from.Get(field))
		return
	}
	copyField(to.Mutable(field).Message(), from.Get(field).Message(), path[1:])
}
