package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// prepare makes Services of the host ports, and takes out what no node can carry. The order of the state does not matter.
func (s State) prepare(at place) (map[serviceID]Service, []api.LeftOut) {
	services := make(map[serviceID]Service, len(s.Services)+len(s.HostPorts))
	var leftOut []api.LeftOut
	add := func(svc Service) {
		id := svc.id()
		other, twice := services[id]
		if twice && !svc.hostPort { // of two like host ports nothing is lost
			leftOut = append(leftOut, svc.leaveOut(Duplicate, "%s is there twice", svc.port()))
		}
		if !twice || svc.allOf() < other.allOf() {
			services[id] = svc
		}
	}
	for _, svc := range s.Services {
		svc, left := svc.sound()
		leftOut = append(leftOut, left...)
		if svc.Proto != "" {
			add(svc)
		}
	}
	for _, p := range s.HostPorts {
		if left := p.check(at.Node); left != nil {
			leftOut = append(leftOut, *left)
			continue
		}
		add(p.service(at))
	}
	return services, leftOut
}

// allOf is the Service with all that it has, as text.
func (s Service) allOf() string {
	type plain Service // which has no String of its own
	return fmt.Sprintf("%+v", plain(s))
}

// leaveOut says that a part of the Service is left out; of a host port, of its pod.
func (s Service) leaveOut(reason string, format string, args ...any) api.LeftOut {
	x := api.LeftOut{Kind: api.LeftOutService, Namespace: s.Namespace, Name: s.Name, Reason: reason, Message: fmt.Sprintf(format, args...)}
	if s.hostPort {
		x.Kind, x.Namespace, x.Name = api.LeftOutPod, s.pod.namespace, s.pod.name
	}
	return x
}

// port names the Service's port, or the host port that it is.
func (s Service) port() string {
	if s.hostPort {
		return fmt.Sprintf("host port %s/%s", s.Port, s.Proto)
	}
	name := s.Port
	if name == "" && len(s.Frontends) > 0 {
		name = fmt.Sprint(s.Frontends[0].Port)
	}
	return fmt.Sprintf("port %s/%s", name, s.Proto)
}

// sound is the Service without invalid frontends, backends and source ranges. A Service that cannot be carried without harm
// is returned without a protocol.
func (s Service) sound() (Service, []api.LeftOut) {
	switch {
	case s.hostPort:
		return s, nil // see HostPort.check
	case protocols[s.Proto] == 0:
		left := s.leaveOut(NotCarried, "%s is not carried: only TCP and UDP are", s.port())
		return Service{}, []api.LeftOut{left}
	case s.Affinity < 0 || s.Affinity > maxAffinity:
		left := s.leaveOut(NotValid, "%s: an affinity of %s is not between 0 and %s", s.port(), s.Affinity, maxAffinity)
		return Service{}, []api.LeftOut{left}
	}
	var leftOut []api.LeftOut
	leave := func(reason string, format string, args ...any) {
		leftOut = append(leftOut, s.leaveOut(reason, "%s: %s", s.port(), fmt.Sprintf(format, args...)))
	}
	ranges := len(s.SourceRanges)
	s.SourceRanges = sift(s.SourceRanges, func(r netip.Prefix) bool {
		if r.IsValid() && r.Addr().Is4() {
			return true
		}
		leave(NotCarried, "source range %s is not an IPv4 prefix", r)
		return false
	})
	closed := ranges > 0 && len(s.SourceRanges) == 0
	s.Frontends = sift(s.Frontends, func(f Frontend) bool {
		reason, why := f.flaw()
		if closed && f.Kind == LoadBalancer {
			reason, why = NotCarried, "none of its source ranges is carried"
		}
		if why != "" {
			leave(reason, "%s %s is not carried: %s", f.Kind, f.text(), why)
		}
		return why == ""
	})
	s.Backends = sift(s.Backends, func(b Backend) bool {
		reason, why := flawOf(b.Addr)
		if why != "" {
			leave(reason, "endpoint %s is not used: %s", b.Addr, why)
		}
		return why == ""
	})
	return s, firstFew(leftOut)
}

// sift is what ok accepts: all itself when that is everything, which it nearly always is.
func sift[T any](all []T, ok func(T) bool) []T {
	for i, x := range all {
		if ok(x) {
			continue
		}
		kept := slices.Clone(all[:i])
		for _, x := range all[i+1:] {
			if ok(x) {
				kept = append(kept, x)
			}
		}
		return kept
	}
	return all
}

// mostLeftOut is how many reports there are at most for one port of a Service.
const mostLeftOut = 8

// firstFew keeps a Service of which thousands of things are wrong from filling the log.
func firstFew(leftOut []api.LeftOut) []api.LeftOut {
	if len(leftOut) <= mostLeftOut {
		return leftOut
	}
	slices.SortFunc(leftOut, api.LeftOut.Compare)
	rest := len(leftOut) - mostLeftOut
	leftOut = leftOut[:mostLeftOut]
	last := &leftOut[mostLeftOut-1]
	last.Message += fmt.Sprintf(", and so on: %d more are left out", rest)
	return leftOut
}

func (f Frontend) text() string {
	if f.Kind == NodePort && !f.Addr.IsValid() {
		return fmt.Sprint(f.Port)
	}
	return netip.AddrPortFrom(f.Addr, f.Port).String()
}

// flaw says why nothing can be reached at the frontend; why is empty when it can.
func (f Frontend) flaw() (reason string, why string) {
	switch {
	case kindRank(f.Kind) == len(frontendKinds), f.Kind == HostPortFrontend:
		return NotValid, "no such kind of address is known"
	case f.Kind != NodePort:
		return flawOf(netip.AddrPortFrom(f.Addr, f.Port))
	case f.Addr.IsValid():
		return NotValid, "a NodePort is on every address of the node"
	case f.Port == 0:
		return NotValid, "0 is not a port"
	}
	return "", ""
}

// flawOf says why an address and port cannot be a Service's, nor an endpoint's; why is empty when it can. A
// loopback address would lead to the node's own sockets, which listen there to be safe from others.
func flawOf(a netip.AddrPort) (reason string, why string) {
	switch addr := a.Addr(); {
	case !addr.Is4():
		return NotCarried, "only IPv4 is"
	case a.Port() == 0:
		return NotValid, "0 is not a port"
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr == broadcast:
		return NotValid, "that is no host's address"
	}
	return "", ""
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// listed is some of the texts, and how many more there are.
func listed(texts []string) string {
	const some = 3
	if len(texts) > some {
		return fmt.Sprintf("%s and %d more", strings.Join(texts[:some], ", "), len(texts)-some)
	}
	return strings.Join(texts, ", ")
}
