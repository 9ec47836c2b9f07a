package lb

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/bpf"
)

// TestHostPortsAreNotCountedAsServices holds that nodes with the same Services count the same, whatever their pods' host
// ports.
func TestHostPortsAreNotCountedAsServices(t *testing.T) {
	codes := map[FrontendKind]bpf.FrontendKind{}
	for _, k := range frontendKinds {
		codes[k.kind] = k.code
	}
	node := func(hostPorts int) Counts {
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
	if without, with := node(0), node(2); without.Services != 2 || with.Services != 2 || with.Affinity != 1 || with.Frontends[HostPortFrontend] != 2 {
		t.Errorf("2 Services: counted %d, and %d with 2 host ports: %+v", without.Services, with.Services, with)
	}
}
