package show

import (
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/api"
)

func TestFeatures(t *testing.T) {
	on := api.Feature{Name: "IPv4", State: api.FeatureOn, Value: "yes"}
	none := api.Feature{Name: "IPv6", State: api.FeatureNone, Kernel: "has XDP"}
	off := api.Feature{Name: "IPv4", State: api.FeatureOff, Needs: "it"}
	l := FeatureList()
	all := l.Across(nil, "a", []api.Feature{on, none})
	all = l.Across(all, "b", []api.Feature{on, none})
	all = l.Across(all, "c", []api.Feature{off, none})
	want := `FEATURE   STATE            AS   NEEDS  THIS KERNEL
IPv4      on               yes  -      -
IPv4 (c)  off              -    it     -
IPv6      not implemented  -    -      has XDP
`
	if got := l.Table(all).String(); got != want {
		t.Errorf("got\n%swant\n%s", got, strings.ReplaceAll(want, "\t", " "))
	}
}
