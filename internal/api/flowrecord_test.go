package api

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestFlowFilterTravels: what a person types arrives at the agent.
func TestFlowFilterTravels(t *testing.T) {
	var f FlowFilter
	for key, value := range map[string]string{
		"pod": "demo", "from-pod": "shop/till", "to-pod": "shop/web", "namespace": "shop", "verdict": "Dropped", "protocol": "6", "port": "80", "identity": "300", "no-nodes": "true",
		"since": "2026-01-02T15:04:05.5Z", "last": "-1", "follow": "true",
	} {
		if err := f.Set(key, value); err != nil {
			t.Error(err)
		}
	}
	want := FlowFilter{
		Pod: PodName{"default", "demo"}, FromPod: PodName{"shop", "till"}, ToPod: PodName{"shop", "web"}, Namespace: "shop", Verdict: FlowDropped, Protocol: "tcp", Port: 80, Identity: 300, NoNodes: true,
		Since: time.Date(2026, 1, 2, 15, 4, 5, 5e8, time.UTC), Last: -1, Follow: true,
	}
	if f != want {
		t.Errorf("read %+v", f)
	}
	again, err := ParseFlowFilter(f.Values())
	if err != nil || again != want {
		t.Errorf("it arrives as %+v, %v", again, err)
	}
	f = FlowFilter{Protocol: "47"}
	if again, err := ParseFlowFilter(f.Values()); err != nil || again != f {
		t.Errorf("it arrives as %+v, %v", again, err)
	}
	if q := (FlowFilter{}).Values(); len(q) > 0 {
		t.Errorf("a filter of nothing is %v", q)
	}
}

func TestFlowFilterRefuses(t *testing.T) {
	for query, want := range map[string]string{
		"pod=a/b/c": `"a/b/c" names no pod`, "pod=": `"" names no pod`, "pod=/x": "names no pod", "verdict=lost": "there are forwarded and dropped",
		"protocol=gre": "or its number", "protocol=256": "or its number", "port=0": "from 1 to 65535", "port=65536": "from 1 to 65535",
		"identity=web": "want its number", "since=yesterday": "want a time", "last=many": "a number of flows", "follow=maybe": "true or false", "no-nodes=maybe": "true or false",
		"pods=x": `cannot be picked by "pods": there are pod, from-pod, to-pod`, "port=1&port=2": "port is given 2 times",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ParseFlowFilter(values); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want something with %q", query, err, want)
		}
	}
}

func TestFlowFilterMatch(t *testing.T) {
	now := time.Now()
	r := FlowRecord{
		Time: now, Verdict: FlowForwarded, Protocol: "tcp",
		Source:      FlowEnd{Port: 40000, Identity: 300, Namespace: "default", Pod: "demo"},
		Destination: FlowEnd{Port: 80, Identity: 2, Namespace: "shop", Pod: "web"},
	}
	for _, c := range []struct {
		filter FlowFilter
		want   bool
	}{
		{FlowFilter{}, true},
		{FlowFilter{Pod: PodName{"default", "demo"}}, true}, {FlowFilter{Pod: PodName{"shop", "web"}}, true}, {FlowFilter{Pod: PodName{"default", "web"}}, false},
		{FlowFilter{FromPod: PodName{"default", "demo"}}, true}, {FlowFilter{FromPod: PodName{"shop", "web"}}, false},
		{FlowFilter{ToPod: PodName{"shop", "web"}}, true}, {FlowFilter{ToPod: PodName{"default", "demo"}}, false},
		{FlowFilter{Namespace: "shop"}, true}, {FlowFilter{Namespace: "other"}, false},
		{FlowFilter{Verdict: FlowForwarded}, true}, {FlowFilter{Verdict: FlowDropped}, false},
		{FlowFilter{Protocol: "tcp"}, true}, {FlowFilter{Protocol: "udp"}, false},
		{FlowFilter{Port: 80}, true}, {FlowFilter{Port: 40000}, true}, {FlowFilter{Port: 81}, false},
		{FlowFilter{Identity: 2}, true}, {FlowFilter{Identity: 300}, true}, {FlowFilter{Identity: 301}, false},
		{FlowFilter{Since: now}, true}, {FlowFilter{Since: now.Add(time.Second)}, false},
		{FlowFilter{Pod: PodName{"default", "demo"}, Port: 81}, false},
	} {
		if got := c.filter.Match(&r); got != c.want {
			t.Errorf("%+v picks it: %v", c.filter, got)
		}
	}
	pods := FlowFilter{NoNodes: true}
	for name, want := range map[string]bool{"": true, "world": true, "host": false, "remote-node": false, "kube-apiserver": false, "health": false} {
		for _, r := range []FlowRecord{{Source: FlowEnd{Name: name}}, {Destination: FlowEnd{Name: name}}} {
			if got := pods.Match(&r); got != want {
				t.Errorf("without nodes, %+v is picked: %v", r, got)
			}
		}
	}
}
