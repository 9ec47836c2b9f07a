//go:build e2e

package e2e

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// event is what these tests read of a line of `lab monitor -o json`.
type event struct {
	Type, Node, Point, Reason string
	Src, Dst                  netip.AddrPort
}

// between says whether the event is about a packet from one of the addresses to the other.
func (e event) between(a, b string) bool {
	ends := []string{e.Src.Addr().String(), e.Dst.Addr().String()}
	return slices.Contains(ends, a) && slices.Contains(ends, b)
}

// monitored runs lab monitor with flags while it runs a command, and returns the events that it has printed.
func monitored(t *testing.T, name string, flags, command []string) (outcome, []event) {
	t.Helper()
	o := lab(t, slices.Concat([]string{"monitor", name, "-o", "json"}, flags, []string{"--"}, command)...)
	var events []event
	for dec := json.NewDecoder(strings.NewReader(o.stdout)); dec.More(); {
		var e event
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("lab monitor -o json: %v in %s", err, o.stdout)
		}
		events = append(events, e)
	}
	return o, events
}

// testMonitor: with a tunnel, a ping that a command sends is seen at each point of its way there and back, on both nodes and in
// order. A packet that is dropped is told of with its node and reason, where the packets of a ping that is answered
// are not. The exit status is the command's, and its output goes to standard error.
func testMonitor(t *testing.T, name string) {
	cni := podsOf(t, name, "default", "app=cni")
	if len(cni) != 1 {
		t.Fatalf("pods to look around from: %v", cni)
	}
	me, demo := cni[0], podsOf(t, name, "default", "app=demo")
	i := slices.IndexFunc(demo, func(p pod) bool { return p.Node != me.Node })
	if i < 0 {
		t.Fatalf("no pod of the demo is on another node than %v: %v", me, demo)
	}
	far := demo[i]
	ping := func(addr string) []string {
		return []string{labBin, "shell", "--name", name, me.Name, "--", "ping", "-c", "1", "-W", "2", addr}
	}
	related := []string{"--related-to", "default/" + me.Name}

	o, events := monitored(t, name, append(related, "--type", "trace"), ping(far.IP))
	var way []string
	for _, e := range events {
		if e.between(me.IP, far.IP) {
			way = append(way, e.Node+" "+e.Point)
		}
	}
	want := []string{
		me.Node + " from-pod", me.Node + " to-tunnel", far.Node + " from-tunnel", far.Node + " to-pod",
		far.Node + " from-pod", far.Node + " to-tunnel", me.Node + " from-tunnel", me.Node + " to-pod",
	}
	if o.code != 0 || !slices.Equal(way, want) {
		t.Errorf("exit %d, a ping is seen at\n%s\nwant\n%s\n%s", o.code, strings.Join(way, "\n"), strings.Join(want, "\n"), o.stderr)
	}
	if !strings.Contains(o.stderr, "1 received") {
		t.Errorf("standard error has not what the command printed: %s", o.stderr)
	}

	cidr := netip.MustParsePrefix(kubectl(t, name, "get", "labnode", far.Node, "-o", "jsonpath={.spec.podCIDRs[0]}"))
	last := cidr.Addr().As4()
	last[3] = 254
	nobody := netip.AddrFrom4(last).String()
	drops := append(related, "--type", "drop")
	if o, events = monitored(t, name, drops, ping(far.IP)); o.code != 0 || len(events) != 0 {
		t.Errorf("exit %d, drops of a ping that is answered: %v", o.code, events)
	}
	o, events = monitored(t, name, drops, ping(nobody))
	if o.code != 1 || len(events) != 1 || events[0].Node != far.Node || events[0].Reason != "no-endpoint" || !events[0].between(me.IP, nobody) {
		t.Errorf("exit %d, drops of a ping to %s, which nobody has: %+v, want one on %s\n%s", o.code, nobody, events, far.Node, o.stderr)
	}
	if o, _ := monitored(t, name, nil, []string{"sh", "-c", "exit 7"}); o.code != 7 {
		t.Errorf("exit %d of a command that ends with 7: %s", o.code, o.stderr)
	}
}
