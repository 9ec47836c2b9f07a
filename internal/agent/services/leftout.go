package services

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// serviceLeftOut is what carriedPorts leaves out of a Service, and why. What a
// node's addresses, or other Services, keep out is for the datapath to say.
func serviceLeftOut(svc *corev1.Service, endpoints []*discoveryv1.EndpointSlice) []api.LeftOut {
	if !isCarried(svc) {
		return nil
	}
	var out []api.LeftOut
	say := func(reason string, format string, args ...any) {
		out = append(out, api.LeftOut{Kind: api.LeftOutService, Namespace: svc.Namespace, Name: svc.Name, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	for _, port := range svc.Spec.Ports {
		if port.Protocol != "" && !isCarriedProtocol(port.Protocol) {
			say(lb.NotCarried, "port %d/%s is not carried: only TCP and UDP are", port.Port, port.Protocol)
		}
	}
	inIPv4 := false
	addrs := append(clusterIPs(svc), svc.Spec.ExternalIPs...)
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, ingress := range svc.Status.LoadBalancer.Ingress {
			if ingress.IP != "" { // otherwise it is a name, which leads to somebody who has the nodePort
				addrs = append(addrs, ingress.IP)
			}
		}
	}
	for i, s := range addrs {
		addr, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			say(lb.NotValid, "%q is not an address", s)
		case !addr.Is4():
			say(lb.NotCarried, "address %s is not carried: only IPv4 is", s)
		case i < len(clusterIPs(svc)):
			inIPv4 = true
		}
	}
	for _, s := range svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err != nil || !p.Addr().Is4() {
			say(lb.NotCarried, "source range %q is not heeded: it is not an IPv4 prefix", s)
		}
	}
	for _, slice := range endpoints {
		endpointsLeftOut(svc, slice, inIPv4, say)
	}
	return out
}

func endpointsLeftOut(svc *corev1.Service, slice *discoveryv1.EndpointSlice, inIPv4 bool, say func(reason string, format string, args ...any)) {
	if slice.AddressType != discoveryv1.AddressTypeIPv4 {
		// Those of a Service in both families have their likes in IPv4.
		if !inIPv4 || slice.AddressType != discoveryv1.AddressTypeIPv6 {
			say(lb.NotCarried, "endpoints of %s are not used: only IPv4 is carried", slice.AddressType)
		}
		return
	}
	for _, p := range slice.Ports {
		name := deref(p.Name, "")
		switch {
		case !hasCarriedPort(svc, name, deref(p.Protocol, corev1.ProtocolTCP)):
		case p.Port == nil:
			say(lb.NotCarried, "endpoints of port %q are not used: they have no port of their own", name)
		case portNumber(*p.Port) == 0:
			say(lb.NotValid, "endpoints of port %q are not used: %d is not a port", name, *p.Port)
		}
	}
	for _, e := range slice.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		if addr, err := netip.ParseAddr(e.Addresses[0]); err != nil || !addr.Is4() {
			say(lb.NotValid, "endpoint %q is not used: it is not an IPv4 address", e.Addresses[0])
		}
	}
}

func hasCarriedPort(svc *corev1.Service, name string, proto corev1.Protocol) bool {
	for _, p := range svc.Spec.Ports {
		if p.Name == name && cmp.Or(p.Protocol, corev1.ProtocolTCP) == proto && isCarriedProtocol(proto) {
			return true
		}
	}
	return false
}
