package services

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

func TestServicesAreMadeOfEntries(t *testing.T) {
	here := api.Backend{ID: 1, Addr: netip.MustParseAddrPort("10.0.1.5:80"), OnNode: true}
	there := api.Backend{ID: 2, Addr: netip.MustParseAddrPort("10.0.2.5:80")}
	cluster := api.Frontend{
		ID: 9, Service: "default/demo:http", Type: "ClusterIP", Addr: netip.MustParseAddrPort("10.96.0.9:80"), Protocol: "tcp",
		From: "inside", Affinity: time.Hour, Backends: []api.Backend{there, here},
	}
	inside := cluster
	inside.Type, inside.Addr = "NodePort", netip.MustParseAddrPort("192.0.2.1:32000")
	outside := inside
	outside.From, outside.Local, outside.Backends = "outside", true, []api.Backend{here}
	balanced := outside
	balanced.Type, balanced.Addr = "LoadBalancer", netip.MustParseAddrPort("203.0.113.5:80")
	other := api.Frontend{ID: 3, Service: "default/a", Type: "ClusterIP", Addr: netip.MustParseAddrPort("10.96.0.10:53"), Protocol: "udp", From: "inside", Local: true}

	got := servicesFrom([]api.Frontend{cluster, other, inside, outside, balanced})
	want := []api.Service{
		{ID: 3, Service: "default/a", Protocol: "udp", InternalLocal: true, Frontends: []api.ServiceFrontend{{Type: "ClusterIP", Addr: other.Addr}}},
		{
			ID: 9, Service: "default/demo:http", Protocol: "tcp", Affinity: time.Hour, ExternalLocal: true,
			Frontends: []api.ServiceFrontend{
				{Type: "ClusterIP", Addr: cluster.Addr, Backends: []api.Backend{here, there}},
				{Type: "NodePort", Addr: inside.Addr, Backends: []api.Backend{here, there}},
				{Type: "LoadBalancer", Addr: balanced.Addr, Backends: []api.Backend{here}},
			},
			Backends: []api.Backend{here, there},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}
