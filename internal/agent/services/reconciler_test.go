package services

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/datapath/lb"
)

func TestOuterPorts(t *testing.T) {
	service := func(kind lb.FrontendKind, port uint16) lb.Service {
		return lb.Service{Frontends: []lb.Frontend{{Kind: kind, Addr: netip.MustParseAddr("192.0.2.1"), Port: port}}}
	}
	w := &Watch{outer: map[uint16]int{}}
	services := []lb.Service{
		service(lb.ClusterIP, 80), service(lb.NodePort, 30000), service(lb.ExternalIP, 65535), service(lb.LoadBalancer, 443),
	}
	if !w.count(services, 1) || w.count(services[1:], 1) || w.count(services, -1) {
		t.Error("it is not known when a port comes or stays")
	}
	got := outerPorts(w.outer, []lb.HostPort{{Port: 1}})
	var want portSet
	for _, p := range []uint16{30000, 65535, 443, 1} {
		want.add(p)
	}
	if got != want {
		t.Error("the ports are not those of the frontends that are reached from outside")
	}
	if got == outerPorts(nil, nil) || outerPorts(nil, nil) != (portSet{}) {
		t.Error("other frontends have the same ports")
	}
	if !w.count(services, -1) || len(w.outer) > 0 {
		t.Errorf("of Services that are gone there are ports %v", w.outer)
	}
}
