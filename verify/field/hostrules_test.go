package field

import "testing"

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
	want := map[Counted]int{
		{RawPrerouting, "M1 icmp request"}: 0, {RawPrerouting, "M1 tcp request"}: 2, {FilterForward, "M1 tcp request"}: 5,
	}
	if len(rules) != 3 || len(got) != len(want) || rules[1] != `raw -A PREROUTING -d 10.244.1.4/32 -p tcp -m tcp --dport 4711 -m comment --comment "lab-verify-rule RUN M1 tcp request"` {
		t.Errorf("rules %q, counts %v", rules, got)
	}
	for name, test := range map[string]struct {
		rules []string
		all   bool
	}{"all": {[]string{"b", "a"}, true}, "one is missing": {[]string{"a"}, false}, "one twice": {[]string{"a", "b", "a"}, false}, "one twice and one missing": {[]string{"a", "a"}, false}} {
		if got := (Tripwires{Rules: make([]Tripwire, 2)}).areAll(test.rules); got != test.all {
			t.Errorf("%s: %v", name, got)
		}
	}
	for at, n := range want {
		if got[at] != n {
			t.Errorf("%v: %d, want %d", at, got[at], n)
		}
	}
}
