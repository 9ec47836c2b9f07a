package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs/passport"
)

// probeEnd is who sends or gets a probe.
type probeEnd struct {
	passport.End
	addr      netip.Addr
	container string        // of a pod, by its runtime's ID
	pods      []*corev1.Pod // whose devices the packet may cross
	service   *corev1.Service
	backends  int // of the Service that are ready
	behind    []behind
}

// behind is an address and port behind a Service.
type behind struct {
	name, protocol string // of the Service's port
	at             netip.AddrPort
}

// findEnd finds a node, a pod or, where it is the target, a Service or an address, by what a person typed.
func (l *Lab) findEnd(ctx context.Context, place string, target bool) (probeEnd, error) {
	if n, err := l.node(place); err == nil {
		return l.nodeEnd(n)
	}
	if addr, err := netip.ParseAddr(place); err == nil && target {
		return l.addressEnd(ctx, addr)
	}
	if target {
		s, err := l.findService(ctx, place)
		if err != nil {
			return probeEnd{}, err
		}
		if s != nil {
			return l.serviceEnd(ctx, s)
		}
	}
	p, err := l.findPod(ctx, place)
	if err != nil {
		return probeEnd{}, err
	}
	return l.podEnd(p)
}

func (l *Lab) nodeEnd(n cluster.Node) (probeEnd, error) {
	if why := n.Down(); why != "" {
		return probeEnd{}, fmt.Errorf("node %s %s: lab up starts or resumes it", n.Name, why)
	}
	return probeEnd{End: passport.End{Name: n.Name, Kind: passport.Node, Node: n.Name}, addr: n.IP}, nil
}

func (l *Lab) podEnd(p *corev1.Pod) (probeEnd, error) {
	name := p.Namespace + "/" + p.Name
	if p.Spec.HostNetwork {
		n, err := l.node(p.Spec.NodeName)
		if err != nil {
			return probeEnd{}, fmt.Errorf("pod %s has its node's network: %w", name, err)
		}
		return l.nodeEnd(n)
	}
	addr, err := netip.ParseAddr(p.Status.PodIP)
	container := containerID(p)
	if err != nil || container == "" {
		return probeEnd{}, fmt.Errorf("pod %s does not run: it is %s", name, standing(p))
	}
	return probeEnd{
		End:  passport.End{Name: name, Kind: passport.Pod, Node: p.Spec.NodeName},
		addr: addr, container: container, pods: []*corev1.Pod{p},
	}, nil
}

// addressEnd is whoever has an address.
func (l *Lab) addressEnd(ctx context.Context, addr netip.Addr) (probeEnd, error) {
	if !addr.Is4() {
		return probeEnd{}, fmt.Errorf("%s is no IPv4 address, and labs have no others", addr)
	}
	for _, n := range l.Nodes {
		if n.IP == addr {
			return l.nodeEnd(n)
		}
	}
	pods, err := l.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "status.podIP=" + addr.String()})
	if err != nil {
		return probeEnd{}, fmt.Errorf("look for a pod with the address %s: %w", addr, err)
	}
	for i := range pods.Items {
		if p := &pods.Items[i]; !p.Spec.HostNetwork && containerID(p) != "" {
			return l.podEnd(p)
		}
	}
	services, err := l.Kube.CoreV1().Services("").List(ctx, metav1.ListOptions{FieldSelector: "spec.clusterIP=" + addr.String()})
	if err != nil {
		return probeEnd{}, fmt.Errorf("look for a Service with the address %s: %w", addr, err)
	}
	if len(services.Items) > 0 {
		return l.serviceEnd(ctx, &services.Items[0])
	}
	return probeEnd{End: passport.End{Name: addr.String(), Kind: passport.Outside}, addr: addr}, nil
}

// findService finds a Service by its name, in the namespace default unless another is named; nil: there is none.
func (l *Lab) findService(ctx context.Context, place string) (*corev1.Service, error) {
	ns, name, qualified := strings.Cut(place, "/")
	if !qualified {
		ns, name = metav1.NamespaceDefault, ns
	}
	s, err := l.Kube.CoreV1().Services(ns).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // that there is none is no failure
	case err != nil:
		return nil, fmt.Errorf("look for Service %s: %w", place, err)
	}
	return s, nil
}

func (l *Lab) serviceEnd(ctx context.Context, s *corev1.Service) (probeEnd, error) {
	name := s.Namespace + "/" + s.Name
	addr, err := netip.ParseAddr(s.Spec.ClusterIP)
	if err != nil {
		return probeEnd{}, fmt.Errorf("the Service %s has no address of its own: name one of its pods", name)
	}
	end := probeEnd{End: passport.End{Name: name, Kind: passport.Service}, addr: addr, service: s}
	slices, err := l.Kube.DiscoveryV1().EndpointSlices(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + s.Name})
	if err != nil {
		return probeEnd{}, fmt.Errorf("list the backends of Service %s: %w", name, err)
	}
	for _, slice := range slices.Items {
		for _, e := range slice.Endpoints {
			end.behind = append(end.behind, behindOf(slice.Ports, e.Addresses)...)
			if kube.IsReadyEndpoint(&e) {
				end.backends++
			}
			if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
				continue
			}
			p, err := l.Kube.CoreV1().Pods(e.TargetRef.Namespace).Get(ctx, e.TargetRef.Name, metav1.GetOptions{})
			if err == nil && !p.Spec.HostNetwork && containerID(p) != "" {
				end.pods = append(end.pods, p)
			}
		}
	}
	return end, nil
}

// behindOf are the addresses of an endpoint at its ports.
func behindOf(ports []discoveryv1.EndpointPort, addresses []string) (out []behind) {
	for _, p := range ports {
		if p.Port == nil || p.Protocol == nil {
			continue
		}
		b := behind{protocol: strings.ToLower(string(*p.Protocol))}
		if p.Name != nil {
			b.name = *p.Name
		}
		for _, a := range addresses {
			if addr, err := netip.ParseAddr(a); err == nil {
				b.at = netip.AddrPortFrom(addr, uint16(*p.Port)) //nolint:gosec // a port
				out = append(out, b)
			}
		}
	}
	return out
}

// targets are where a packet for the end may go from a pod: to the port that is asked for or, where the socket was given one, to
// one of the Service's backends.
func (e probeEnd) targets(port uint16, protocol string) []netip.AddrPort {
	out := []netip.AddrPort{netip.AddrPortFrom(e.addr, port)}
	if e.service == nil || protocol == passport.ICMP {
		return out
	}
	for _, p := range e.service.Spec.Ports {
		asked := p.Port
		if e.Node != "" {
			asked = p.NodePort
		}
		if asked != int32(port) || strings.ToLower(string(p.Protocol)) != protocol {
			continue
		}
		for _, b := range e.behind {
			if b.name == p.Name && b.protocol == protocol {
				out = append(out, b.at)
			}
		}
	}
	return out
}

// nodePortEnd is the Service that has a port of every node, as it is asked for at this one; the node itself where none has.
func (l *Lab) nodePortEnd(ctx context.Context, node probeEnd, port uint16, protocol string) (probeEnd, error) {
	services, err := l.Kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return probeEnd{}, fmt.Errorf("look for a Service with the nodePort %d: %w", port, err)
	}
	protocol = cmp.Or(protocol, passport.TCP)
	for i := range services.Items {
		s := &services.Items[i]
		for _, p := range s.Spec.Ports {
			if p.NodePort == 0 || p.NodePort != int32(port) || strings.ToLower(string(p.Protocol)) != protocol {
				continue
			}
			end, err := l.serviceEnd(ctx, s)
			end.addr, end.Node = node.addr, node.Node
			return end, err
		}
	}
	return node, nil
}

// portOf is the port of a Service that is asked for, or its only one, and its protocol. note says that the Service has no such one.
func (e probeEnd) portOf(port uint16, protocol string) (_ uint16, _, note string, err error) {
	var all []string
	var fits []corev1.ServicePort
	for _, p := range e.service.Spec.Ports {
		of := strings.ToLower(string(p.Protocol))
		all = append(all, fmt.Sprintf("%d (%s)", p.Port, of))
		if (port == 0 || int32(port) == p.Port) && (protocol == "" || of == protocol) {
			fits = append(fits, p)
		}
	}
	has, asked := strings.Join(all, ", "), cmp.Or(protocol, passport.TCP)
	switch {
	case len(fits) == 0 && port == 0:
		return 0, "", "", fmt.Errorf("the Service %s has no %s port: it has %s", e.Name, asked, has)
	case len(fits) == 0: // what becomes of such a packet is worth to be seen
		return port, asked, fmt.Sprintf("Service %s has no port %d (%s): it has %s", e.Name, port, asked, has), nil
	case len(fits) > 1 && port == 0:
		return 0, "", "", fmt.Errorf("the Service %s has several ports: say which: %s", e.Name, has)
	}
	return uint16(fits[0].Port), strings.ToLower(string(fits[0].Protocol)), "", nil //nolint:gosec // a port
}

// splitTarget takes the port off a target; 0: there is none.
func splitTarget(target string) (place string, port uint16, err error) {
	place, text, colon := strings.Cut(target, ":")
	if !colon {
		return place, 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if place != "" && (err != nil || n == 0) {
		return "", 0, fmt.Errorf("%q: the port %q is no number from 1 to 65535: lab service list has those of Services", target, text)
	}
	if place == "" {
		return "", 0, fmt.Errorf("%q names no target: want a pod, node, Service or address, perhaps with a colon and a port, as demo:8080", target)
	}
	return place, uint16(n), nil
}

var errNoPort = errors.New("tcp and udp need a port: put it behind the target, as demo:8080")
