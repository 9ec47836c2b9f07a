package checks

import (
	"net/netip"
	"testing"
)

func TestConntrackEntry(t *testing.T) {
	const text = `tcp      6 119 TIME_WAIT src=10.244.1.3 dst=10.244.2.4 sport=40001 dport=80 src=10.244.2.4 dst=10.244.1.3 sport=80 dport=40001 [ASSURED] mark=0 use=1
udp      17 29 src=10.244.1.3 dst=10.96.0.10 sport=5353 dport=53 src=10.244.2.4 dst=10.244.1.3 sport=53 dport=5353 mark=0 use=1
icmp     1 29 src=10.244.1.3 dst=10.244.2.4 type=8 code=0 id=77 src=10.244.2.4 dst=10.244.1.3 type=0 code=0 id=77 mark=0 use=1
udp      17 29 src=10.244.1.3 dst=10.244.2.4 sport=40002 dport=80 [UNREPLIED] src=10.244.2.4 dst=10.244.1.3 sport=80 dport=40002 mark=0 use=1
`
	at := func(addr string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
	}
	tests := []struct {
		flow  tracked
		found bool
	}{
		{tracked{protocol: "tcp", from: at("10.244.1.3", 40001), to: at("10.244.2.4", 80)}, true},
		{tracked{protocol: "udp", from: at("10.244.1.3", 40002), to: at("10.244.2.4", 80)}, true},
		{tracked{protocol: "icmp", from: at("10.244.1.3", 0), to: at("10.244.2.4", 0), id: 77}, true},
		{tracked{protocol: "icmp", from: at("10.244.1.3", 0), to: at("10.244.2.4", 0), id: 7}, false},
		{tracked{protocol: "tcp", from: at("10.244.1.3", 4000), to: at("10.244.2.4", 80)}, false},
		{tracked{protocol: "udp", from: at("10.244.1.3", 40001), to: at("10.244.2.4", 80)}, false},
		// The reply's tuple is no flow that began there.
		{tracked{protocol: "tcp", from: at("10.244.2.4", 80), to: at("10.244.1.3", 40001)}, false},
	}
	for _, tt := range tests {
		if got := tt.flow.entry(text) != ""; got != tt.found {
			t.Errorf("%s: found %t, want %t", tt.flow, got, tt.found)
		}
	}
}
