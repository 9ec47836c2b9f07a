package verify

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestPathTable(t *testing.T) {
	const across, same = "across nodes, ICMP", "same node, ICMP"
	results := []Result{
		{Name: "paths/hops-same-node", Cells: []Cell{
			{atClientPod, same, "R[64] P[63]", "R[64] P[63]"}, {atClientVeth, same, "R[64]", "R[64]"}, {atNICs, same, "-", "-"},
		}},
		{Name: "paths/arp"},
		{Name: "paths/hops-across-nodes", Cells: []Cell{
			{atClientPod, across, "R[64] P[62]", "R[64] P[62]"},
			{atClientVeth, across, "R[64]", "R[64]"}, {atClientVeth, across, "R[64] P[62]", "R[64]"},
			{atNICs, across, "R[63] P[63]", "R[63] P[63]"},
		}},
		{Name: "host/drops-bypassed", Cells: []Cell{{"FORWARD -j DROP", across, "lost", "passes"}}},
	}
	const want = `
Packets seen on their way: requests R and replies P, in brackets the TTL; - none of them

                         same node, ICMP  across nodes, ICMP
client pod eth0          R[64] P[63]      R[64] P[62]
client's host-side veth  R[64]            R[64]; !R[64] P[62], to be R[64]
node NICs                -                R[63] P[63]
FORWARD -j DROP                           !lost, to be passes
`
	var b bytes.Buffer
	tableOf(results).write(&b)
	if b.String() != want {
		t.Errorf("the table is\n%s\nto be\n%s", b.String(), want)
	}
	b.Reset()
	tableOf(results[1:2]).write(&b)
	if b.Len() > 0 {
		t.Errorf("a table without cells: %s", b.String())
	}
}

func TestReadCounts(t *testing.T) {
	const text = `*raw
:PREROUTING ACCEPT [25:4666]
[0:0] -A PREROUTING -p icmp -m icmp --icmp-type 8 -m string --string "M1" --algo bm -m comment --comment "lab-verify-rule RUN M1 icmp request" -j DROP
[2:104] -A PREROUTING -d 10.244.1.4/32 -p tcp -m tcp --dport 4711 -m comment --comment "lab-verify-rule RUN M1 tcp request"
[9:999] -A PREROUTING -d 10.244.1.4/32 -p tcp -m tcp --dport 4711 -m comment --comment "lab-verify-rule OTHER M1 tcp request"
COMMIT
*filter
[7:700] -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
[5:300] -A FORWARD -p tcp -m comment --comment "lab-verify-rule RUN M1 tcp request"
COMMIT
`
	got, rules, err := readCounts(text, "lab-verify-rule RUN")
	if err != nil {
		t.Fatal(err)
	}
	want := map[counted]int{
		{rawPrerouting, "M1 icmp request"}: 0, {rawPrerouting, "M1 tcp request"}: 2, {filterForward, "M1 tcp request"}: 5,
	}
	if rules != 3 || len(got) != len(want) {
		t.Errorf("%d rules, counts %v", rules, got)
	}
	for at, n := range want {
		if got[at] != n {
			t.Errorf("%v: %d, to be %d", at, got[at], n)
		}
	}
}

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
			t.Errorf("%s: found %t, to be %t", tt.flow, got, tt.found)
		}
	}
}
