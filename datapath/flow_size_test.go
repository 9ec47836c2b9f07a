package datapath_test

import (
	"net/netip"
	"slices"
	"testing"

	"wirelab.dev/wirelab/internal/settings"
)

// How many flows are remembered is a setting. Those that are known when it changes go on.
func TestFlowsOutliveAnotherSize(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a, b := n.addPod("a"), n.addPod("b")
		sign(t, b.NS)
		l.balance(both(demo(ready(b, n)))...)
		for range 20 {
			established(t, a, "tcp4", netip.AddrPortFrom(clusterIP, port))
		}
		established(t, a, "udp4", netip.AddrPortFrom(clusterIP, port))
		names := func() (names []string) {
			flows, err := n.dp.Services().Flows(ctx(t))
			must(t, err)
			for _, f := range flows {
				names = append(names, f.Protocol+f.Src.String()+f.NewDst.String())
			}
			return names
		}
		size := func() (sizes []int) {
			n.Do(func() {
				s, err := n.dp.Status(ctx(t))
				must(t, err)
				for _, m := range s.Maps {
					if m.Name == "lab_ct" || m.Name == "lab_nat" {
						sizes = append(sizes, m.MaxEntries)
					}
				}
			})
			return sizes
		}
		before := names()
		if got := size(); len(before) < 21 || !slices.Equal(got, []int{settings.Default().BPF.CTMax, settings.Default().BPF.CTMax}) {
			t.Fatalf("there are %d flows, in maps of %v", len(before), got)
		}
		for _, flows := range []int{settings.MinFlows, 100000, 100000, 0} {
			n.close()
			n.cfg.BPF.CTMax = flows
			n.open()
			if flows == 0 {
				flows = settings.Default().BPF.CTMax
			}
			if got := size(); !slices.Equal(got, []int{flows, flows}) {
				t.Errorf("the maps have room for %v, want %d", got, flows)
			}
			if got := names(); !slices.Equal(got, before) {
				t.Errorf("with room for %d the flows are\n%v, were\n%v", flows, got, before)
			}
		}
	})
}
