package checks

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

// Where the row of a node's podCIDR is missing, what is seen beside it still counts the node's pods, and them alone.
func TestTheTunnelsPodsAreCounted(t *testing.T) {
	at := netip.MustParseAddr("172.18.0.4")
	on, to := &field.Node{Peer: field.Peer{Name: "worker"}}, &field.Node{Peer: field.Peer{Name: "worker2", Addr: at}, PodCIDR: netip.MustParsePrefix("10.244.2.0/24")}
	have := map[netip.Prefix]field.Holder{
		field.Single(at):                       {Identity: 6, Node: at, IsNode: true},
		netip.MustParsePrefix("10.244.2.9/32"): {Identity: 300, Node: at},
	}
	check := verify.Check{Run: func(_ context.Context, ev *verify.Evidence) error { judgeEnd(ev, on, to, have); return nil }}
	got := check.Look(t.Context(), time.Second)
	if want := []string{"worker: 172.18.0.4/32 -> 172.18.0.4, and 1 addresses of worker2"}; got.Status != verify.Fail || !slices.Equal(got.Seen, want) {
		t.Errorf("%+v", got)
	}
}
