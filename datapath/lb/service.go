package lb

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// FrontendKind says what kind of address of a Service a frontend is.
type FrontendKind string

const (
	// ClusterIP frontends are reached from pods and from the node itself only.
	ClusterIP FrontendKind = "ClusterIP"
	// NodePort frontends have no address of their own: they are on every address of the node.
	NodePort FrontendKind = "NodePort"
	// ExternalIP frontends are addresses that somebody routes to the node.
	ExternalIP FrontendKind = "ExternalIP"
	// LoadBalancer frontends are ingress addresses; Service.SourceRanges hold for them alone.
	LoadBalancer FrontendKind = "LoadBalancer"
	// HostPortFrontend is what [State.HostPorts] become.
	HostPortFrontend FrontendKind = "HostPort"
)

// Service is one port of a Service. Namespace, Name, Port and Proto identify it.
type Service struct {
	Namespace, Name string
	// Port is the port's name, which may be empty.
	Port string
	// Proto is "tcp" or "udp".
	Proto string
	// Frontends are where it is reached, in any order. None at all is fine: nothing is balanced.
	Frontends []Frontend
	// Backends are its endpoints, in any order, ready or not: which of them are used is decided here.
	Backends []Backend
	// Affinity is how long a client stays with its backend; 0 means each connection is on its own.
	Affinity time.Duration
	// InternalLocal and ExternalLocal are the traffic policies "Local": from inside the cluster to
	// ClusterIPs, and from the outside to the other frontends, only backends on this node.
	InternalLocal, ExternalLocal bool
	// SourceRanges are the clients that LoadBalancer frontends accept. Empty means all.
	SourceRanges []netip.Prefix

	hostPort bool    // it is a pod's host port
	pod      podName // whose
}

// Frontend is one address and port of a Service.
type Frontend struct {
	Kind FrontendKind
	// Addr is not set for a NodePort, which is on every address of the node.
	Addr netip.Addr
	Port uint16

	everywhere bool // a host port's that is on every address, and gives way to one that names this
}

// Backend is one endpoint of a Service, with its conditions as the API has them.
type Backend struct {
	Addr netip.AddrPort
	// Node is the name of the node it is on, for traffic policies and topology hints; empty when it is on none.
	// Whether packets to it end on this node is a question of Addr alone.
	Node string
	// Ready endpoints take new connections.
	Ready bool
	// Serving and Terminating endpoints take new connections when there is no ready one.
	Serving, Terminating bool
	// ForNodes and ForZones are topology hints. Empty means none.
	ForNodes, ForZones []string
}

// State is everything that the node balances.
type State struct {
	Services []Service
	// HostPorts of this node's pods.
	HostPorts []HostPort
	// Zone of this node, for topology hints; may be empty.
	Zone string
}

// String is the name as in [api.Service].
func (s Service) String() string {
	name := s.Namespace + "/" + s.Name
	if s.Port != "" {
		name += ":" + s.Port
	}
	return name
}

// maxAffinity is the API's own limit for sessionAffinityConfig.clientIP.timeoutSeconds.
const maxAffinity = 24 * time.Hour

// serviceID identifies one port of a Service, or a host port.
type serviceID struct {
	hostPort                     bool
	namespace, name, port, proto string
}

func (s Service) id() serviceID {
	return serviceID{s.hostPort, s.Namespace, s.Name, s.Port, s.Proto}
}

// of is the Service whose port it is.
func (i serviceID) of() Name { return Name{i.namespace, i.name} }

// compare orders Services by their ids, host ports last.
func (s *Service) compare(o *Service) int {
	if s.hostPort != o.hostPort {
		if o.hostPort {
			return -1
		}
		return 1
	}
	for _, c := range [...]struct{ a, b *string }{{&s.Namespace, &o.Namespace}, {&s.Name, &o.Name}, {&s.Port, &o.Port}, {&s.Proto, &o.Proto}} {
		if n := strings.Compare(*c.a, *c.b); n != 0 {
			return n
		}
	}
	return 0
}

// byID are the Services in the order of their ids. What is sorted is where they are: there may be tens of
// thousands, and each is large.
func byID(services []Service) []Service {
	at := make([]*Service, len(services))
	for i := range services {
		at[i] = &services[i]
	}
	slices.SortFunc(at, (*Service).compare)
	sorted := make([]Service, len(at))
	for i, s := range at {
		sorted[i] = *s
	}
	return sorted
}

// onNode expands NodePort frontends to the node's addresses. The result is sorted and has no duplicates.
func (s Service) onNode(addrs []netip.Addr) []Frontend {
	var frontends []Frontend
	for _, f := range s.Frontends {
		if f.Kind != NodePort {
			frontends = append(frontends, f)
			continue
		}
		for _, a := range addrs {
			frontends = append(frontends, Frontend{Kind: NodePort, Addr: a, Port: f.Port})
		}
	}
	slices.SortFunc(frontends, func(a, b Frontend) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Kind, b.Kind))
	})
	return slices.Compact(frontends)
}
