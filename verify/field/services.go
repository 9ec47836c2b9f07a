package field

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// readService reads a Service back; its backends are the caller's to fill in.
func readService(ctx context.Context, kube kubernetes.Interface, namespace, name string) (Service, error) {
	object, err := kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Service{}, fmt.Errorf("read Service %s/%s: %w", namespace, name, err)
	}
	service := Service{Namespace: namespace, Name: name, HealthPort: uint16(object.Spec.HealthCheckNodePort)}
	if object.Spec.ClusterIP != corev1.ClusterIPNone {
		if service.Addr, err = netip.ParseAddr(object.Spec.ClusterIP); err != nil {
			return Service{}, fmt.Errorf("read the ClusterIP of Service %s/%s: %w", namespace, name, err)
		}
	}
	for _, port := range object.Spec.Ports {
		service.Port = uint16(port.Port)
		switch port.Protocol {
		case corev1.ProtocolTCP:
			service.NodePortTCP = uint16(port.NodePort)
		case corev1.ProtocolUDP:
			service.NodePortUDP = uint16(port.NodePort)
		}
	}
	return service, nil
}

// DemoService is the Service rules are looked for: the demo's, or the run's
// own where the profile has no demo.
func (e *Env) DemoService(ctx context.Context) (Service, error) {
	if e.Demo == nil {
		return e.Every, nil
	}
	return readService(ctx, e.Kube, e.Demo.Namespace, e.Demo.Service)
}

// Endpoint is one ready backend of a Service.
type Endpoint struct {
	Addr netip.Addr
	Pod  string
	Node string
}

// readySlice has the ready endpoints of one of a Service's endpoint slices, and the ports of all of them.
type readySlice struct {
	ports     []discoveryv1.EndpointPort
	endpoints []Endpoint
}

// slicesOf reads a Service's endpoint slices. Kubernetes has endpoints taken for ready that do not say whether they are.
func (e *Env) slicesOf(ctx context.Context, service Service) ([]readySlice, error) {
	list, err := e.Kube.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name,
	})
	if err != nil {
		return nil, fmt.Errorf("list the endpoints of Service %s: %w", service.Name, err)
	}
	var all []readySlice
	for _, slice := range list.Items {
		ready := readySlice{ports: slice.Ports}
		for _, each := range slice.Endpoints {
			if each.Conditions.Ready != nil && !*each.Conditions.Ready || len(each.Addresses) == 0 {
				continue
			}
			addr, err := netip.ParseAddr(each.Addresses[0])
			if err != nil {
				return nil, fmt.Errorf("read an endpoint of Service %s: %w", service.Name, err)
			}
			found := Endpoint{Addr: addr}
			if each.TargetRef != nil {
				found.Pod = each.TargetRef.Name
			}
			if each.NodeName != nil {
				found.Node = *each.NodeName
			}
			ready.endpoints = append(ready.endpoints, found)
		}
		all = append(all, ready)
	}
	return all, nil
}

// EndpointsOf lists a Service's ready backends, sorted by address.
func (e *Env) EndpointsOf(ctx context.Context, service Service) ([]Endpoint, error) {
	found, err := e.slicesOf(ctx, service)
	if err != nil {
		return nil, err
	}
	var all []Endpoint
	for _, slice := range found {
		all = append(all, slice.endpoints...)
	}
	slices.SortFunc(all, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
	return all, nil
}

// DemoBackends is the Service rules are looked for, with the addresses of its
// ready backends, of which there has to be one.
func (e *Env) DemoBackends(ctx context.Context) (Service, []netip.Addr, error) {
	service, err := e.DemoService(ctx)
	if err != nil {
		return service, nil, err
	}
	endpoints, err := e.EndpointsOf(ctx, service)
	if err != nil {
		return service, nil, err
	}
	var backends []netip.Addr
	for _, each := range endpoints {
		backends = append(backends, each.Addr)
	}
	if len(backends) == 0 {
		return service, nil, fmt.Errorf("Service %s has no ready backend to look for", service.Name)
	}
	return service, backends, nil
}

// BackendsOf lists a Service's ready endpoints by protocol, sorted.
func (e *Env) BackendsOf(ctx context.Context, service Service) (map[uint8][]netip.AddrPort, error) {
	all, err := e.slicesOf(ctx, service)
	if err != nil {
		return nil, err
	}
	found := map[uint8][]netip.AddrPort{}
	for _, slice := range all {
		for _, port := range slice.ports {
			if port.Port == nil {
				continue
			}
			protocol := uint8(ProtoTCP)
			if port.Protocol != nil && *port.Protocol == corev1.ProtocolUDP {
				protocol = ProtoUDP
			}
			for _, each := range slice.endpoints {
				found[protocol] = append(found[protocol], netip.AddrPortFrom(each.Addr, uint16(*port.Port))) //nolint:gosec // a port
			}
		}
	}
	for protocol := range found {
		slices.SortFunc(found[protocol], netip.AddrPort.Compare)
	}
	return found, nil
}
