package lb_test

import (
	"fmt"
	"testing"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/datapath/lb/lbtest"
)

// TestChangesAreLikeAFreshStart holds that Services changed one after the other leave the maps as if
// they had been written at once, and that nothing is planned anew because of one change, unless Services
// claim each other's addresses.
func TestChangesAreLikeAFreshStart(t *testing.T) {
	for _, disputed := range []bool{false, true} {
		t.Run(fmt.Sprintf("disputed=%v", disputed), func(t *testing.T) { testChanges(t, disputed) })
	}
}

func testChanges(t *testing.T, disputed bool) {
	b, changes := lb.NewInMemory(), lbtest.NewChanges(disputed)
	whole := 0
	for step := range 300 {
		now := lb.State{Services: changes.Next()}
		before := b.Laid()
		if step%3 == 0 {
			lb.Apply(t, b, now)
		} else {
			lb.ChangeTo(t, b, now)
		}
		if b.Laid() != before {
			whole++
		}
		lb.CompareWithFresh(t, step, b, now)
	}
	if !disputed && whole > 1 { // the first time there is nothing to change
		t.Errorf("everything was planned anew %d times in 300 changes", whole)
	}
	if disputed && whole <= 1 {
		t.Error("Services that claim one address never were planned together")
	}
}
