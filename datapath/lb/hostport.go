package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/internal/api"
)

// HostPort sends connections to a port of this node to a pod on it.
type HostPort struct {
	// Proto is "tcp" or "udp".
	Proto string
	// HostIP is the address of the node that it holds for; any other is refused. The zero Addr or 0.0.0.0 means
	// every one. A loopback address is for the node's own processes.
	HostIP netip.Addr
	// Port is the node's port.
	Port uint16
	// Backend is the pod's address and port.
	Backend netip.AddrPort
	// Namespace and Name are the pod's.
	Namespace, Name string
}

// service is the host port as a Service with one backend.
func (p HostPort) service(at place) Service {
	s := Service{
		Namespace: "hostport",
		Name:      p.Backend.String(),
		Port:      p.name(),
		Proto:     p.Proto,
		Backends:  []Backend{{Addr: p.Backend, Node: at.Name, Ready: true, Serving: true}},
		hostPort:  true,
		pod:       podName{p.Namespace, p.Name},
	}
	addrs := []netip.Addr{p.HostIP}
	if p.EveryAddr() {
		addrs = at.NodePorts
	}
	for _, a := range addrs {
		s.Frontends = append(s.Frontends, Frontend{Kind: HostPortFrontend, Addr: a, Port: p.Port, everywhere: p.EveryAddr()})
	}
	return s
}

// podName identifies a pod.
type podName struct{ namespace, name string }

// DistinctHostPorts are the host ports that one node can carry beside each other, sorted so that those for one
// address come before those for every one, and what is left out: of two for the same packets the first has them.
func DistinctHostPorts(ports []HostPort, at Node) (carried []HostPort, leftOut []api.LeftOut) {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, HostPort.compare)
	for _, p := range ports {
		left := p.check(at)
		switch {
		case left != nil:
		case len(carried) > 0 && carried[len(carried)-1].sameClaim(p):
			if carried[len(carried)-1].Backend == p.Backend {
				continue
			}
			left = p.leaveOut(AddressTaken, "it is that of pod %s/%s", carried[len(carried)-1].Namespace, carried[len(carried)-1].Name)
		default:
			carried = append(carried, p)
			continue
		}
		leftOut = append(leftOut, *left)
	}
	return carried, leftOut
}

// sameClaim says whether both are for the same packets.
func (p HostPort) sameClaim(o HostPort) bool {
	return p.Proto == o.Proto && p.Port == o.Port && (p.HostIP == o.HostIP || p.EveryAddr() && o.EveryAddr())
}

// check says why the node does not carry the host port, apart from claims of others; nil when it does. With an address that
// is not the node's, the node would take packets that are for another host.
func (p HostPort) check(at Node) *api.LeftOut {
	reason, why := flawOf(p.Backend)
	switch {
	case protocols[p.Proto] == 0:
		return p.leaveOut(NotCarried, "only TCP and UDP are carried")
	case p.Port == 0:
		return p.leaveOut(NotValid, "0 is not a port")
	case why != "":
		return p.leaveOut(reason, "it cannot lead to %s: %s", p.Backend, why)
	case p.EveryAddr():
		return nil
	case !p.HostIP.Is4():
		return p.leaveOut(NotCarried, "only IPv4 is carried")
	case !at.isOwn(p.HostIP):
		return p.leaveOut(NotNodeAddress, "%s is not an address of this node", p.HostIP)
	}
	return nil
}

func (p HostPort) leaveOut(reason string, format string, args ...any) *api.LeftOut {
	return &api.LeftOut{
		Kind: api.LeftOutPod, Namespace: p.Namespace, Name: p.Name, Reason: reason,
		Message: fmt.Sprintf("host port %s/%s is left out: %s", p.name(), p.Proto, fmt.Sprintf(format, args...)),
	}
}

// name is the port, with the address if it is for one alone.
func (p HostPort) name() string {
	if p.EveryAddr() {
		return fmt.Sprint(p.Port)
	}
	return netip.AddrPortFrom(p.HostIP, p.Port).String()
}

// EveryAddr says whether the port is on every address of the node.
func (p HostPort) EveryAddr() bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }

// compare puts ports for one address before those for any, as the first rule that matches wins.
func (p HostPort) compare(o HostPort) int {
	anyRank := func(p HostPort) int {
		if p.EveryAddr() {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(p.Proto, o.Proto),
		cmp.Compare(p.Port, o.Port),
		cmp.Compare(anyRank(p), anyRank(o)),
		p.HostIP.Compare(o.HostIP),
		p.Backend.Compare(o.Backend),
	)
}
