package flowapi

import (
	"maps"
	"slices"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"wirelab.dev/wirelab/internal/api"
)

// Types of events, as clients of the API know them.
const (
	typeDrop  = 1
	typeTrace = 4
)

// flowOf is a record as the API has it.
func (s *server) flowOf(r *api.FlowRecord) *flowpb.Flow {
	f := &flowpb.Flow{
		Time: timestamppb.New(r.Time), NodeName: r.Node, Type: flowpb.FlowType_L3_L4, Verdict: flowpb.Verdict_FORWARDED,
		Emitter:  &flowpb.Emitter{Name: "wirelab"},
		Ethernet: &flowpb.Ethernet{Source: r.SrcMAC.String(), Destination: r.DstMAC.String()},
		Source:   s.endpointOf(r.Source), Destination: s.endpointOf(r.Destination),
		L4: layer4(r), TrafficDirection: directions[r.Direction],
		EventType: &flowpb.CiliumEventType{Type: typeTrace},
		//lint:ignore SA1019 clients print it
		Summary: summary(r),
	}
	if r.Source.Addr.IsValid() {
		f.IP = &flowpb.IP{Source: r.Source.Addr.String(), Destination: r.Destination.Addr.String(), IpVersion: flowpb.IPVersion_IPv4}
	}
	if r.IfIndex > 0 {
		f.Interface = &flowpb.NetworkInterface{Index: uint32(r.IfIndex), Name: r.Iface} //nolint:gosec // an index of the kernel's
	}
	if r.Reply != nil {
		f.IsReply = wrapperspb.Bool(*r.Reply)
	}
	if r.Verdict == api.FlowDropped {
		f.Verdict, f.DropReasonDesc = flowpb.Verdict_DROPPED, dropReasons[r.Reason]
		//lint:ignore SA1019 older clients read it
		f.DropReason = uint32(f.DropReasonDesc) //nolint:gosec // a reason's number
		f.EventType = &flowpb.CiliumEventType{Type: typeDrop, SubType: int32(f.DropReasonDesc)}
		return f
	}
	f.TraceObservationPoint = points[r.At]
	f.EventType.SubType = subType(f.TraceObservationPoint)
	return f
}

// subType is the point's number in types of events, where that of endpoints is 0.
func subType(p flowpb.TraceObservationPoint) int32 {
	if p == flowpb.TraceObservationPoint_TO_ENDPOINT {
		return 0
	}
	return int32(p)
}

var (
	directions = map[string]flowpb.TrafficDirection{api.FlowIngress: flowpb.TrafficDirection_INGRESS, api.FlowEgress: flowpb.TrafficDirection_EGRESS}
	points     = map[string]flowpb.TraceObservationPoint{
		"from-pod": flowpb.TraceObservationPoint_FROM_ENDPOINT, "to-pod": flowpb.TraceObservationPoint_TO_ENDPOINT,
		"from-network": flowpb.TraceObservationPoint_FROM_NETWORK, "to-network": flowpb.TraceObservationPoint_TO_NETWORK,
		"from-stack": flowpb.TraceObservationPoint_FROM_STACK, "to-stack": flowpb.TraceObservationPoint_TO_STACK,
		"from-tunnel": flowpb.TraceObservationPoint_FROM_OVERLAY, "to-tunnel": flowpb.TraceObservationPoint_TO_OVERLAY,
	}
	// dropReasons are those of the API that mean the same. The others are told by the summary.
	dropReasons = map[string]flowpb.DropReason{
		"source-address": flowpb.DropReason_INVALID_SOURCE_IP, "no-backend": flowpb.DropReason_SERVICE_BACKEND_NOT_FOUND,
		"no-local-backend": flowpb.DropReason_SERVICE_BACKEND_NOT_FOUND, "source-range": flowpb.DropReason_DENIED_BY_LB_SRC_RANGE_CHECK,
		"no-free-port": flowpb.DropReason_NO_MAPPING_FOR_NAT_MASQUERADE, "not-masqueradable": flowpb.DropReason_UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE,
		"no-route": flowpb.DropReason_FIB_LOOKUP_FAILED, "ttl-exceeded": flowpb.DropReason_TTL_EXCEEDED, "not-rewritable": flowpb.DropReason_ERROR_WRITING_TO_PACKET,
		"no-first-fragment": flowpb.DropReason_FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND, "unsupported-protocol": flowpb.DropReason_UNSUPPORTED_L3_PROTOCOL,
		"malformed": flowpb.DropReason_INVALID_PACKET_DROPPED, "tunneled": flowpb.DropReason_ENCAPSULATION_TRAFFIC_IS_PROHIBITED,
		"no-node": flowpb.DropReason_NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT,
	}
)

func (s *server) endpointOf(e api.FlowEnd) *flowpb.Endpoint {
	out := &flowpb.Endpoint{ID: e.Endpoint, Identity: e.Identity, Namespace: e.Namespace, PodName: e.Pod}
	if e.Name != "" {
		out.Labels = []string{"reserved:" + e.Name}
		return out
	}
	for _, key := range slices.Sorted(maps.Keys(e.Labels)) {
		out.Labels = append(out.Labels, "k8s:"+key+"="+e.Labels[key])
	}
	if e.Namespace != "" {
		out.ClusterName = s.cluster
		out.Labels = append(out.Labels, "k8s:io.kubernetes.pod.namespace="+e.Namespace)
	}
	return out
}

func layer4(r *api.FlowRecord) *flowpb.Layer4 {
	src, dst := uint32(r.Source.Port), uint32(r.Destination.Port)
	switch r.Protocol {
	case "tcp":
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_TCP{TCP: &flowpb.TCP{SourcePort: src, DestinationPort: dst, Flags: tcpFlags(r.TCPFlags)}}}
	case "udp":
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_UDP{UDP: &flowpb.UDP{SourcePort: src, DestinationPort: dst}}}
	case "sctp":
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_SCTP{SCTP: &flowpb.SCTP{SourcePort: src, DestinationPort: dst}}}
	case "icmp":
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_ICMPv4{ICMPv4: &flowpb.ICMPv4{Type: uint32(r.ICMPType)}}}
	}
	return nil
}

func tcpFlags(bits uint8) *flowpb.TCPFlags {
	has := func(i int) bool { return bits&(1<<i) != 0 }
	return &flowpb.TCPFlags{FIN: has(0), SYN: has(1), RST: has(2), PSH: has(3), ACK: has(4), URG: has(5), ECE: has(6), CWR: has(7)}
}

// summary is what clients print of a flow behind its ends.
func summary(r *api.FlowRecord) string {
	text := strings.ToUpper(r.Protocol)
	if r.Protocol == "tcp" {
		f, names := tcpFlags(r.TCPFlags), []string{}
		for _, flag := range []struct {
			name string
			is   bool
		}{{"SYN", f.SYN}, {"ACK", f.ACK}, {"FIN", f.FIN}, {"RST", f.RST}, {"PSH", f.PSH}, {"URG", f.URG}, {"ECE", f.ECE}, {"CWR", f.CWR}} {
			if flag.is {
				names = append(names, flag.name)
			}
		}
		text = "TCP Flags: " + strings.Join(names, ", ")
	}
	if r.Verdict == api.FlowDropped {
		text += "; " + r.Reason
	}
	return text
}

// lostOf is a note about flows that are missing.
func lostOf(l *api.LostFlows) *observerpb.GetFlowsResponse {
	source := flowpb.LostEventSource_PERF_EVENT_RING_BUFFER
	if l.By == api.LostByReader {
		source = flowpb.LostEventSource_HUBBLE_RING_BUFFER
	}
	return &observerpb.GetFlowsResponse{
		NodeName: l.Node, Time: timestamppb.New(l.Time),
		ResponseTypes: &observerpb.GetFlowsResponse_LostEvents{LostEvents: &flowpb.LostEvent{Source: source, NumEventsLost: l.Count}},
	}
}
