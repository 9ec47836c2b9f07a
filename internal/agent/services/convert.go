package services

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"wirelab.dev/wirelab/datapath/lb"
)

// carriedPorts is one Service for each port that the datapath carries, in the
// order of the ports: TCP and UDP, with a ClusterIP. Of a headless Service,
// and of an ExternalName, there is none.
func carriedPorts(svc *corev1.Service, endpoints []*discoveryv1.EndpointSlice) []lb.Service {
	if !isCarried(svc) {
		return nil
	}
	var out []lb.Service
	for _, port := range svc.Spec.Ports {
		proto := cmp.Or(port.Protocol, corev1.ProtocolTCP)
		if !isCarriedProtocol(proto) {
			continue
		}
		s := lb.Service{
			Namespace: svc.Namespace, Name: svc.Name, Port: port.Name, Proto: strings.ToLower(string(proto)),
			Frontends:     frontendsOf(svc, port),
			Backends:      backendsOf(endpoints, port.Name, proto),
			Affinity:      affinityOf(svc),
			InternalLocal: svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
			ExternalLocal: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
			SourceRanges:  sourceRangesOf(svc),
		}
		out = append(out, s)
	}
	return out
}

func isCarriedProtocol(p corev1.Protocol) bool {
	return p == corev1.ProtocolTCP || p == corev1.ProtocolUDP
}

// portNumber is 0 for what is no port.
func portNumber(n int32) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}

// isCarried says whether the Service has an address to translate from.
func isCarried(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone
}

func frontendsOf(svc *corev1.Service, port corev1.ServicePort) []lb.Frontend {
	var out []lb.Frontend
	add := func(kind lb.FrontendKind, addrs ...string) {
		for _, s := range addrs {
			if addr, err := netip.ParseAddr(s); err == nil && addr.Is4() {
				out = append(out, lb.Frontend{Kind: kind, Addr: addr, Port: portNumber(port.Port)})
			}
		}
	}
	add(lb.ClusterIP, clusterIPs(svc)...)
	add(lb.ExternalIP, svc.Spec.ExternalIPs...)
	if port.NodePort != 0 {
		out = append(out, lb.Frontend{Kind: lb.NodePort, Port: portNumber(port.NodePort)})
	}
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return out
	}
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		// What a proxy has terminated comes to the nodePort (KEP-1860).
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			add(lb.LoadBalancer, ingress.IP)
		}
	}
	return out
}

func clusterIPs(svc *corev1.Service) []string {
	if len(svc.Spec.ClusterIPs) == 0 {
		return []string{svc.Spec.ClusterIP}
	}
	return svc.Spec.ClusterIPs
}

// backendsOf are the endpoints that have the port, sorted by address. Slices
// may repeat an endpoint while it moves from one to another (KEP-752); of two
// the ready one is believed.
func backendsOf(endpoints []*discoveryv1.EndpointSlice, portName string, proto corev1.Protocol) []lb.Backend {
	byAddr := map[netip.AddrPort]lb.Backend{}
	for _, slice := range endpoints {
		port, ok := portOf(slice, portName, proto)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			b, ok := backendOf(&slice.Endpoints[i], port)
			if earlier, twice := byAddr[b.Addr]; ok && port != 0 && (!twice || !earlier.Ready && b.Ready) {
				byAddr[b.Addr] = b
			}
		}
	}
	out := make([]lb.Backend, 0, len(byAddr))
	for _, b := range byAddr {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b lb.Backend) int { return a.Addr.Compare(b.Addr) })
	return out
}

func portOf(slice *discoveryv1.EndpointSlice, name string, proto corev1.Protocol) (uint16, bool) {
	if slice.AddressType != discoveryv1.AddressTypeIPv4 {
		return 0, false
	}
	for _, p := range slice.Ports {
		if p.Port != nil && deref(p.Name, "") == name && deref(p.Protocol, corev1.ProtocolTCP) == proto {
			return portNumber(*p.Port), true
		}
	}
	return 0, false
}

// backendOf takes the first address, as all of an endpoint's lead to one
// process. Conditions that are not set mean what the API says they do.
func backendOf(e *discoveryv1.Endpoint, port uint16) (lb.Backend, bool) {
	if len(e.Addresses) == 0 {
		return lb.Backend{}, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || !addr.Is4() {
		return lb.Backend{}, false
	}
	ready := deref(e.Conditions.Ready, true)
	b := lb.Backend{
		Addr:        netip.AddrPortFrom(addr, port),
		Node:        deref(e.NodeName, ""),
		Ready:       ready,
		Serving:     deref(e.Conditions.Serving, ready),
		Terminating: deref(e.Conditions.Terminating, false),
	}
	if e.Hints == nil {
		return b, true
	}
	for _, z := range e.Hints.ForZones {
		b.ForZones = append(b.ForZones, z.Name)
	}
	for _, n := range e.Hints.ForNodes {
		b.ForNodes = append(b.ForNodes, n.Name)
	}
	return b, true
}

func affinityOf(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
		seconds = deref(c.ClientIP.TimeoutSeconds, seconds)
	}
	return time.Duration(seconds) * time.Second
}

func sourceRangesOf(svc *corev1.Service) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil && p.Addr().Is4() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// localReady counts the Service's ready endpoints on the node, each once
// however many ports it has.
func localReady(endpoints []*discoveryv1.EndpointSlice, node string) int {
	seen := map[string]bool{}
	for _, slice := range endpoints {
		for _, e := range slice.Endpoints {
			if len(e.Addresses) > 0 && deref(e.NodeName, "") == node && deref(e.Conditions.Ready, true) {
				seen[e.Addresses[0]] = true
			}
		}
	}
	return len(seen)
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
