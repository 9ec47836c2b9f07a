package agent

import (
	"context"
	"os"
	"testing"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
)

// TestAddAgainTellsWhose: an endpoint that an earlier agent made, or that was damaged, is known by what a second ADD says,
// and has the identity that the datapath gave it.
func TestAddAgainTellsWhose(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/28")
	hostIf := api.HostIfName("a", "eth0")
	dp.eps[hostIf] = api.Endpoint{HostIf: hostIf, Addr: e.pool.CIDR().Addr().Next().Next(), Namespace: "ns", Pod: "a", Identity: 300}
	if err := e.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.identify = func(context.Context, api.CNIRequest) identity.ID { return 301 }
	req := call("a")
	req.PodUID = "u"
	if _, err := e.add(t.Context(), req, os.Stdin); err != nil {
		t.Fatal(err)
	}
	if got := e.owned(); len(got) != 1 || got[0].uid != "u" || got[0].id != 301 {
		t.Errorf("it is known as %+v", got)
	}
}
