package agent

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/datapath"
)

func TestOuterPorts(t *testing.T) {
	service := func(kind datapath.FrontendKind, port uint16) datapath.Service {
		return datapath.Service{Frontends: []datapath.Frontend{{Kind: kind, Addr: netip.MustParseAddr("192.0.2.1"), Port: port}}}
	}
	got := outerPorts([]datapath.Service{
		service(datapath.ClusterIP, 80), service(datapath.NodePort, 30000), service(datapath.ExternalIP, 65535), service(datapath.LoadBalancer, 443),
	}, []datapath.HostPort{{Port: 1}})
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
}
