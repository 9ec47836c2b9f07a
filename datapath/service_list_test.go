package datapath_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"wirelab.dev/wirelab/datapath/lb"
)

// TestListingDuringChanges reads all that there is to list while Services change one at a time: each answer is
// of a state that was applied. The race detector looks on where it is built in (make test-race).
func TestListingDuringChanges(t *testing.T) {
	l := newLab(t, 1, replacement)
	n := l.nodes[0]
	b := n.addPod("b")
	state := func(round int) lb.State {
		var s lb.State
		for j := range 50 {
			d := demo(ready(b, n))
			d.Name, d.Proto = fmt.Sprint("demo", j), "tcp"
			d.Frontends = []lb.Frontend{{Kind: lb.ClusterIP, Addr: netip.AddrFrom4([4]byte{10, 96, 1, byte(j)}), Port: port}}
			switch {
			case j == 0 && round%2 == 0:
				d.Backends = nil
			case j == 1 && round%3 == 0:
				continue // comes and goes
			case j == 2 && round%2 == 0:
				d.Proto = "sctp" // and is not carried
			}
			s.Services = append(s.Services, d)
		}
		return s
	}
	n.balance(state(0))
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	v := n.dp.Services()
	for _, read := range []func() error{
		func() error {
			list, err := v.List(context.Background())
			for _, e := range list {
				if e.Service == "" && e.Addr.Addr().As4()[3] > 2 { // others may have come and gone since
					return fmt.Errorf("the Service at %s has no name", e.Addr)
				}
			}
			return err
		},
		func() error { return second(v.Flows(context.Background())) },
		func() error { return second(v.Translations(context.Background())) },
		func() error { return second(n.dp.Status(context.Background())) },
		func() error { v.LeftOut(); return nil },
		func() error { v.Reload(); return nil },
	} {
		wg.Go(func() {
			for ctx.Err() == nil {
				var err error
				n.Do(func() { err = read() })
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for round := range 300 {
		n.balance(state(round))
	}
	stop()
	wg.Wait()
}
