package lb

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// TestListedNames holds that Services are listed by name, with that of the port if it has one and the protocol beside, and
// without a name as long as nobody has given it. A frontend without backends has an empty list of them.
func TestListedNames(t *testing.T) {
	tcp, udp := web("10.0.0.2:8080"), web()
	tcp.Name, tcp.Port = "demo", "http"
	udp.Name, udp.Proto = "demo", "udp"
	b := New(memoryMaps(roomy))
	apply(t, b, State{Services: []Service{tcp, udp}})
	for _, test := range []struct {
		names    map[uint32]string
		tcp, udp string
	}{
		{b.Names(), "default/demo:http", "default/demo"},
		{nil, "", ""},
	} {
		list := b.have.List(test.names)
		if len(list) != 2 || list[0].Service != test.tcp || list[0].Protocol != "tcp" || len(list[0].Backends) != 1 ||
			list[1].Service != test.udp || list[1].Protocol != "udp" || list[1].Backends == nil || len(list[1].Backends) != 0 {
			t.Errorf("with the names %v the list is %+v", test.names, list)
		}
	}
}

// TestHostPortsAreNotCountedAsServices holds that nodes with the same Services count the same, whatever their pods' host
// ports.
func TestHostPortsAreNotCountedAsServices(t *testing.T) {
	codes := map[FrontendKind]bpf.FrontendKind{}
	for _, k := range frontendKinds {
		codes[k.kind] = k.code
	}
	node := func(hostPorts int) *api.Services {
		tables := newTables()
		at := func(addr string, port uint16, s bpf.Service) {
			tables.frontends[bpf.ServiceKey{Addr: bpf.IPOf(netip.MustParseAddr(addr)), Port: bpf.PortOf(port), Proto: 6}] = s
		}
		at("10.96.0.1", 80, bpf.Service{Id: 1, Kind: codes[ClusterIP], Affinity: 10})
		at("192.0.2.1", 30080, bpf.Service{Id: 1, Kind: codes[NodePort], Affinity: 10})
		at("10.96.0.2", 80, bpf.Service{Id: 2, Kind: codes[ClusterIP]})
		for i := range hostPorts {
			at("192.0.2.1", uint16(8000+i), bpf.Service{Id: uint32(3 + i), Kind: codes[HostPortFrontend]})
		}
		return tables.Count()
	}
	if without, with := node(0), node(2); without.Services != 2 || with.Services != 2 || with.Affinity != 1 || with.Frontends[string(HostPortFrontend)] != 2 {
		t.Errorf("2 Services: counted %d, and %d with 2 host ports: %+v", without.Services, with.Services, with)
	}
}
