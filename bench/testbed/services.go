package testbed

import (
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/datapath/lb"
)

// clusterIP is Service i's address.
func clusterIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})
}

// servicePort is every Service's port.
const servicePort = 80

// endpointsEach is how many backends a Service has that is not measured. They exist as entries and rules only.
const endpointsEach = 2

func endpointOf(i, backend int) netip.AddrPort {
	x := i*endpointsEach + backend
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 200 + byte(x>>16), byte(x >> 8), byte(x)}), 8080)
}

// services are n Services. The one in the middle leads to backend and is what [measured] says.
func services(n int, backend netip.AddrPort, node string) []lb.Service {
	list := make([]lb.Service, n)
	for i := range list {
		list[i] = lb.Service{
			Namespace: "bench", Name: fmt.Sprintf("s%06d", i), Proto: "tcp",
			Frontends: []lb.Frontend{{Kind: lb.ClusterIP, Addr: clusterIP(i), Port: servicePort}},
		}
		for b := range endpointsEach {
			list[i].Backends = append(list[i].Backends, lb.Backend{Addr: endpointOf(i, b), Node: "elsewhere", Ready: true, Serving: true})
		}
	}
	list[n/2].Backends = []lb.Backend{{Addr: backend, Node: node, Ready: true, Serving: true}}
	return list
}

// withOneBackend leaves the first backend to each Service: a packet meets the rules of no backend but its own
// Service's, and iptables-restore takes time with the square of the number of chains.
func withOneBackend(services []lb.Service) []lb.Service {
	list := slices.Clone(services)
	for i := range list {
		list[i].Backends = list[i].Backends[:1]
	}
	return list
}

// measured is the address of the Service in the middle of n: iptables compares one after another, and a
// Service is in the middle of the list on average.
func measured(n int) netip.AddrPort { return netip.AddrPortFrom(clusterIP(n/2), servicePort) }
