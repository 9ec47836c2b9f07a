package main

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func TestListsOfNodes(t *testing.T) {
	entry := api.Frontend{
		ID: 1, Service: "demo/demo:http", Type: "ClusterIP", Addr: netip.MustParseAddrPort("10.96.0.9:8080"), Protocol: "tcp", From: "inside",
		Backends: []api.Backend{{ID: 1, Addr: netip.MustParseAddrPort("10.0.1.5:80"), OnNode: true}, {ID: 2, Addr: netip.MustParseAddrPort("10.0.2.5:80")}},
	}
	got := onNodes("a", []labs.OnNode[api.Frontend]{{Node: "a-worker", Entries: []api.Frontend{entry}}, {Node: "a-worker2"}}, show.Frontends).String()
	want := `NODE    FRONTEND            ID  FROM    TYPE       BACKEND           SERVICE
worker  10.96.0.9:8080/tcp  1   inside  ClusterIP  10.0.1.5:80 here  demo/demo:http
                                                   10.0.2.5:80
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := onNodes("a", nil, show.EndpointList().Table).String(); got != "NODE  ADDRESS  ID  IFINDEX  MAC  NODE MAC  POD\n" {
		t.Errorf("nothing at all: %q", got)
	}
}
