package api

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FlowRecord is what became of a packet on a node, with what was known of both ends then: a trace or drop event, without
// what only tells of the programs. Ends are as the packet left.
type FlowRecord struct {
	Time    time.Time `json:"time"`
	Node    string    `json:"node"`
	Verdict string    `json:"verdict"` // forwarded | dropped
	// Reason is what became of it, as [Event] has it: delivered, forwarded, or why it was dropped.
	Reason string `json:"reason"`
	At     string `json:"at"` // where it went, of a drop where it came in: a [Point]
	// Direction is that of the connection, as the pod on this node takes part in it: ingress | egress; empty where no pod of
	// this node does.
	Direction string `json:"direction,omitempty"`
	// Reply says whether the packet answers the one that began the flow; nil where nobody knows.
	Reply       *bool   `json:"reply,omitempty"`
	Protocol    string  `json:"protocol"` // tcp | udp | icmp | sctp | arp, else the number of the protocol or, as 0x86dd, the ethertype
	Source      FlowEnd `json:"source"`
	Destination FlowEnd `json:"destination"`
	SrcMAC      MAC     `json:"srcMAC"`
	DstMAC      MAC     `json:"dstMAC"`
	TCPFlags    uint8   `json:"tcpFlags,omitempty"`
	ICMPType    uint8   `json:"icmpType,omitempty"`
	Length      int     `json:"length"` // bytes, with the Ethernet header
	Iface       string  `json:"iface,omitempty"`
	IfIndex     int     `json:"ifIndex,omitempty"`
}

// FlowEnd is one end of a flow.
type FlowEnd struct {
	Addr     netip.Addr `json:"addr,omitzero"`
	Port     uint16     `json:"port,omitempty"`
	Identity uint32     `json:"identity,omitempty"`
	// Name is that of an identity which is reserved, as world. The others are of pods, and have labels.
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Endpoint is the number of an endpoint of the node, 0 for what is not on it.
	Endpoint  uint32 `json:"endpoint,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
}

// FlowLine is one line of what FlowRecordsPath answers: one of its fields is set. A line that has none is of another version.
type FlowLine struct {
	Start *FlowStart  `json:"start,omitempty"` // the first line
	Flow  *FlowRecord `json:"flow,omitempty"`
	Lost  *LostFlows  `json:"lost,omitempty"` // where records are missing
	// UpTo is the time before which no record follows, as far as the node knows. It comes once the records that were there are
	// told, and then several times a second.
	UpTo time.Time `json:"upTo,omitzero"`
}

// Time is that of what the line tells.
func (l FlowLine) Time() time.Time {
	switch {
	case l.Flow != nil:
		return l.Flow.Time
	case l.Lost != nil:
		return l.Lost.Time
	}
	return l.UpTo
}

// Node is the one that tells.
func (l FlowLine) Node() string {
	switch {
	case l.Flow != nil:
		return l.Flow.Node
	case l.Lost != nil:
		return l.Lost.Node
	case l.Start != nil:
		return l.Start.Node
	}
	return ""
}

// FlowStart says what the answer is taken from.
type FlowStart struct {
	Node string `json:"node"`
	// Unknown is what the filter names of which this node knows nothing, a few words each. No record can match then, until
	// the node hears of it.
	Unknown []string `json:"unknown,omitempty"`
}

// LostFlows are records that nobody can be told.
type LostFlows struct {
	Time  time.Time `json:"time"`
	Node  string    `json:"node"`
	Count uint64    `json:"count"`
	// By is who was too slow: LostByAgent, which did not read what programs reported, or LostByReader, who did not take what
	// the agent had. What a reader lost may not have matched his filter.
	By string `json:"by"`
}

// Who may be too slow for flows.
const (
	LostByAgent  = "agent"
	LostByReader = "reader"
)

// Verdicts of a [FlowRecord].
const (
	FlowForwarded = "forwarded"
	FlowDropped   = "dropped"
)

// Directions of a [FlowRecord].
const (
	FlowIngress = "ingress"
	FlowEgress  = "egress"
)

// FlowsKept is how an agent's buffer of flow records is.
type FlowsKept struct {
	Kept     int `json:"kept"`
	Capacity int `json:"capacity"`
	// PerSecond is how many came a second, on average of the last minute.
	PerSecond float64 `json:"perSecond"`
	// Seen is how many have come since the agent started, and Lost how many events it did not read in time.
	Seen uint64 `json:"seen"`
	Lost uint64 `json:"lost,omitempty"`
	// Metrics are the groups of metrics that are made of the records.
	Metrics []string `json:"metrics,omitempty"`
}

// FlowFilter picks flow records. What is not set picks all.
type FlowFilter struct {
	Pod       PodName // at either end
	FromPod   PodName // at the source
	ToPod     PodName // at the destination
	Namespace string  // of either end
	Verdict   string
	Protocol  string // as FlowRecord has it
	Port      uint16 // of either end
	Identity  uint32 // of either end
	// NoNodes leaves out what has a node at an end, such as the kubelet's probes and what pods ask the API server.
	NoNodes bool
	Since   time.Time
	// Last is how many records to begin with, the latest ones that match; 0: none, negative: all.
	Last int
	// Follow goes on as records come.
	Follow bool
}

// PodName is a pod's namespace and name; both are empty for none.
type PodName struct{ Namespace, Name string }

// ParsePodName reads namespace/name, or a name in the namespace default.
func ParsePodName(s string) (PodName, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok {
		namespace, name = "default", s
	}
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return PodName{}, fmt.Errorf("%q names no pod: want namespace/name, as in default/demo", s)
	}
	return PodName{namespace, name}, nil
}

// String is what ParsePodName reads.
func (p PodName) String() string {
	if p == (PodName{}) {
		return ""
	}
	return p.Namespace + "/" + p.Name
}

// FlowFilterKeys are the keys of [FlowFilter.Set] that pick records by what they are of.
func FlowFilterKeys() []string {
	return []string{"pod", "from-pod", "to-pod", "namespace", "verdict", "protocol", "port", "identity"}
}

// FlowVerdicts and FlowProtocols are what a [FlowFilter] takes as verdict and, besides numbers, as protocol.
func FlowVerdicts() []string { return []string{FlowForwarded, FlowDropped} }

// FlowProtocols: see FlowVerdicts.
func FlowProtocols() []string { return []string{"tcp", "udp", "icmp", "sctp"} }

// Set sets what one of the keys "pod", "from-pod", "to-pod", "namespace", "verdict", "protocol", "port", "identity", "no-nodes",
// "since", "last" and "follow" is to be, as a person types it. An error is a sentence.
func (f *FlowFilter) Set(key, value string) (err error) {
	switch key {
	case "pod":
		f.Pod, err = ParsePodName(value)
	case "from-pod":
		f.FromPod, err = ParsePodName(value)
	case "to-pod":
		f.ToPod, err = ParsePodName(value)
	case "namespace":
		f.Namespace = value
	case "verdict":
		f.Verdict = strings.ToLower(value)
		if !slices.Contains(FlowVerdicts(), f.Verdict) {
			err = fmt.Errorf("verdict %q: there are %s", value, strings.Join(FlowVerdicts(), " and "))
		}
	case "protocol":
		f.Protocol = strings.ToLower(value)
		if n, wrong := strconv.ParseUint(value, 10, 8); wrong == nil {
			f.Protocol = ProtocolName(uint8(n))
		} else if !slices.Contains(FlowProtocols(), f.Protocol) {
			err = fmt.Errorf("protocol %q: want one of %s, or its number", value, strings.Join(FlowProtocols(), ", "))
		}
	case "port":
		n, wrong := strconv.ParseUint(value, 10, 16)
		if f.Port = uint16(n); wrong != nil || n == 0 {
			err = fmt.Errorf("port %q: want a number from 1 to 65535", value)
		}
	case "identity":
		n, wrong := strconv.ParseUint(value, 10, 32)
		if f.Identity = uint32(n); wrong != nil || n == 0 {
			err = fmt.Errorf("identity %q: want its number, as identity list has it", value)
		}
	case "no-nodes":
		if f.NoNodes, err = strconv.ParseBool(value); err != nil {
			err = fmt.Errorf("no-nodes %q: want true or false", value)
		}
	case "since":
		if f.Since, err = time.Parse(time.RFC3339Nano, value); err != nil {
			err = fmt.Errorf("since %q: want a time as 2026-01-02T15:04:05Z", value)
		}
	case "last":
		if f.Last, err = strconv.Atoi(value); err != nil {
			err = fmt.Errorf("last %q: want a number of flows", value)
		}
	case "follow":
		if f.Follow, err = strconv.ParseBool(value); err != nil {
			err = fmt.Errorf("follow %q: want true or false", value)
		}
	default:
		err = fmt.Errorf("flows cannot be picked by %q: there are %s", key, strings.Join(FlowFilterKeys(), ", "))
	}
	return err
}

// Values are the filter as a query, which [ParseFlowFilter] reads.
func (f FlowFilter) Values() url.Values {
	q := url.Values{}
	set := func(key, value string, is bool) {
		if is {
			q.Set(key, value)
		}
	}
	set("pod", f.Pod.String(), f.Pod != PodName{})
	set("from-pod", f.FromPod.String(), f.FromPod != PodName{})
	set("to-pod", f.ToPod.String(), f.ToPod != PodName{})
	set("namespace", f.Namespace, f.Namespace != "")
	set("verdict", f.Verdict, f.Verdict != "")
	set("protocol", f.Protocol, f.Protocol != "")
	set("port", strconv.Itoa(int(f.Port)), f.Port != 0)
	set("identity", strconv.FormatUint(uint64(f.Identity), 10), f.Identity != 0)
	set("no-nodes", "true", f.NoNodes)
	set("since", f.Since.Format(time.RFC3339Nano), !f.Since.IsZero())
	set("last", strconv.Itoa(f.Last), f.Last != 0)
	set("follow", "true", f.Follow)
	return q
}

// ParseFlowFilter reads a query. Every key may be there once.
func ParseFlowFilter(q url.Values) (f FlowFilter, err error) {
	for key, values := range q {
		if len(values) != 1 {
			err = errors.Join(err, fmt.Errorf("%s is given %d times: give it once", key, len(values)))
			continue
		}
		err = errors.Join(err, f.Set(key, values[0]))
	}
	return f, err
}

// Match says whether the filter picks r, leaving out how many there may be.
func (f *FlowFilter) Match(r *FlowRecord) bool {
	either := func(is func(*FlowEnd) bool) bool { return is(&r.Source) || is(&r.Destination) }
	switch {
	case f.Verdict != "" && r.Verdict != f.Verdict,
		f.Protocol != "" && r.Protocol != f.Protocol,
		!f.Since.IsZero() && r.Time.Before(f.Since),
		f.Pod != PodName{} && !either(f.Pod.is),
		f.FromPod != PodName{} && !f.FromPod.is(&r.Source),
		f.ToPod != PodName{} && !f.ToPod.is(&r.Destination),
		f.Namespace != "" && !either(func(e *FlowEnd) bool { return e.Namespace == f.Namespace }),
		f.Port != 0 && !either(func(e *FlowEnd) bool { return e.Port == f.Port }),
		f.Identity != 0 && !either(func(e *FlowEnd) bool { return e.Identity == f.Identity }),
		f.NoNodes && either((*FlowEnd).node):
		return false
	}
	return true
}

// node says whether an end is a node, by the name of its identity.
func (e *FlowEnd) node() bool {
	return slices.Contains([]string{"host", "remote-node", "kube-apiserver", "health"}, e.Name)
}

func (p PodName) is(e *FlowEnd) bool { return e.Pod == p.Name && e.Namespace == p.Namespace }

var protocols = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 132: "sctp"}

// ProtocolName is an IP protocol as a [FlowRecord] has it.
func ProtocolName(number uint8) string {
	if name, ok := protocols[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
}
