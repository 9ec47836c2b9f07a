package show

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func twoBackends() []api.Backend {
	return []api.Backend{{ID: 7, Addr: at("10.0.1.5:80"), OnNode: true}, {ID: 8, Addr: at("10.0.2.9:80")}}
}

// check compares text, and holds it to the width that a terminal has.
func check(t *testing.T, got Table, want string) {
	t.Helper()
	text := got.String()
	if strings.TrimSpace(text) != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	for line := range strings.Lines(text) {
		if n := len(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestServices(t *testing.T) {
	services := []api.Service{
		{
			ID: 3, Service: "default/demo:http", Protocol: "tcp", Affinity: 3 * time.Hour, ExternalLocal: true,
			SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Frontends: []api.ServiceFrontend{
				{Type: "ClusterIP", Addr: at("10.96.7.8:8080"), Backends: twoBackends()}, {Type: "NodePort", Addr: at("127.0.0.1:32000"), Backends: twoBackends()},
				{Type: "NodePort", Addr: at("172.18.0.2:32000"), Backends: twoBackends()}, {Type: "LoadBalancer", Addr: at("203.0.113.5:8080"), Backends: twoBackends()[:1]},
			},
			Backends: twoBackends(),
		},
		{ID: 4, Service: "default/empty", Protocol: "udp", Frontends: []api.ServiceFrontend{{Type: "ClusterIP", Addr: at("10.96.7.9:53")}}},
		{ID: 5, Protocol: "tcp", Affinity: time.Hour, Frontends: []api.ServiceFrontend{{Type: "HostPort", Addr: at("172.18.0.2:81"), Backends: twoBackends()[:1]}}, Backends: twoBackends()[:1]},
	}
	check(t, Services(services), `
ID  FRONTEND              TYPE          BACKEND                  SERVICE
3   10.96.7.8:8080/tcp    ClusterIP     10.0.1.5:80 here         default/demo:http
                                        10.0.2.9:80              affinity 3h
    127.0.0.1:32000/tcp   NodePort      10.0.1.5:80 here         outside: only here
                                        10.0.2.9:80              from 192.0.2.0/24
    172.18.0.2:32000/tcp  NodePort      10.0.1.5:80 here
                                        10.0.2.9:80 inside only
    203.0.113.5:8080/tcp  LoadBalancer  10.0.1.5:80 here
4   10.96.7.9:53/udp      ClusterIP     none: refused            default/empty
5   172.18.0.2:81/tcp     HostPort      10.0.1.5:80 here         (not named yet)
                                                                 affinity 1h
`)
	check(t, Join(Services(services[1:2]).On("control-plane"), Services(services[2:]).On("worker")), `
NODE           ID  FRONTEND           TYPE       BACKEND           SERVICE
control-plane  4   10.96.7.9:53/udp   ClusterIP  none: refused     default/empty
worker         5   172.18.0.2:81/tcp  HostPort   10.0.1.5:80 here  (not named yet)
                                                                   affinity 1h
`)
}

func TestServicesThatAreLeftOut(t *testing.T) {
	check(t, Services([]api.Service{
		{Service: "default/all", LeftOut: []string{"port 9/SCTP is not carried"}},
		{ID: 4, Service: "default/some", Protocol: "udp", Frontends: []api.ServiceFrontend{{Type: "ClusterIP", Addr: at("10.96.7.9:53"), Backends: twoBackends()[:1]}}, Backends: twoBackends()[:1], LeftOut: []string{"port 9/SCTP is not carried"}},
	}), `
ID  FRONTEND          TYPE       BACKEND           SERVICE
                                 none: left out    default/all
                                                   left out: port 9/SCTP is not carried
4   10.96.7.9:53/udp  ClusterIP  10.0.1.5:80 here  default/some
                                                   left out: port 9/SCTP is not carried
`)
}

func TestFrontends(t *testing.T) {
	inside := api.Frontend{ID: 3, Service: "default/demo:http", Type: "NodePort", Addr: at("172.18.0.2:32000"), Protocol: "tcp", From: "inside", Backends: twoBackends()}
	outside := inside
	outside.From = "outside"
	local := outside
	local.Local, local.Backends = true, nil
	check(t, Frontends([]api.Frontend{inside, outside}), `
FRONTEND              ID  FROM  TYPE      BACKEND           SERVICE
172.18.0.2:32000/tcp  3   both  NodePort  10.0.1.5:80 here  default/demo:http
                                          10.0.2.9:80
`)
	check(t, Frontends([]api.Frontend{inside, local}), `
FRONTEND              ID  FROM     TYPE      BACKEND           SERVICE
172.18.0.2:32000/tcp  3   inside   NodePort  10.0.1.5:80 here  default/demo:http
                                             10.0.2.9:80
172.18.0.2:32000/tcp  3   outside  NodePort  none: refused     default/demo:http
                                                               only here
`)
}

func TestFlows(t *testing.T) {
	inner := api.Flow{Protocol: "tcp", Src: at("10.0.1.7:40000"), Dst: at("10.96.7.8:8080"), NewSrc: at("10.0.1.7:40000"), NewDst: at("10.0.2.9:80"), State: "answered", Expires: 6*time.Hour - 10*time.Second}
	outer := api.Flow{Protocol: "udp", Src: at("172.18.0.9:50000"), Dst: at("172.18.0.2:32000"), NewSrc: at("172.18.0.2:49152"), NewDst: at("10.0.2.9:53"), State: "opening", Expires: 29 * time.Second}
	check(t, FlowList().Table([]api.Flow{inner, outer}), `
PROTO  SENT                                 GOES ON AS                      STATE     EXPIRES
tcp    10.0.1.7:40000 > 10.96.7.8:8080      > 10.0.2.9:80                   answered  5h59m
udp    172.18.0.9:50000 > 172.18.0.2:32000  172.18.0.2:49152 > 10.0.2.9:53  opening   29s
`)
	answer := api.Flow{Protocol: "tcp", Src: at("10.0.2.9:80"), Dst: at("10.0.1.7:40000"), NewSrc: at("10.96.7.8:8080"), NewDst: at("10.0.1.7:40000"), State: "closing", Expires: -time.Second}
	check(t, TranslationList().Table([]api.Flow{answer}), `
PROTO  ANSWER                        GOES ON AS        STATE    EXPIRES
tcp    10.0.2.9:80 > 10.0.1.7:40000  10.96.7.8:8080 >  closing  due
`)
}

func TestEndpoints(t *testing.T) {
	check(t, EndpointList().Table([]api.Endpoint{{ID: 2, Namespace: "default", Pod: "demo", Addr: netip.MustParseAddr("10.0.1.2"), HostIndex: 9, PodMAC: api.MAC{2, 5: 1}, HostMAC: api.MAC{2, 5: 2}}}), `
ADDRESS   ID  IFINDEX  MAC                NODE MAC           POD
10.0.1.2  2   9        02:00:00:00:00:01  02:00:00:00:00:02  default/demo
`)
}

func TestFilter(t *testing.T) {
	services := []api.Service{
		{Service: "a/web:http", Frontends: []api.ServiceFrontend{{Addr: at("10.96.0.1:80")}, {Addr: at("192.0.2.1:30080")}}},
		{Service: "a/web:https", Frontends: []api.ServiceFrontend{{Addr: at("10.96.0.1:443")}}},
		{Service: "a/web2", Frontends: []api.ServiceFrontend{{Addr: at("10.96.0.2:80")}}},
	}
	for _, tt := range []struct{ flag, value, want string }{
		{"service", "", "a/web:http a/web:https a/web2"},
		{"service", "a/web", "a/web:http a/web:https"},
		{"service", "a/web:https", "a/web:https"},
		{"service", "b/web", ""},
		{"frontend", "10.96.0.1", "a/web:http a/web:https"},
		{"frontend", "10.96.0.1:443", "a/web:https"},
		{"frontend", "192.0.2.1", "a/web:http"},
	} {
		var f Filter
		if err := f.Set(tt.flag, tt.value); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range f.Services(services) {
			names = append(names, s.Service)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("--%s %s picks %q, want %q", tt.flag, tt.value, got, tt.want)
		}
	}
}

func TestFilterOfFlows(t *testing.T) {
	flows := []api.Flow{
		{Service: "a/web:http", Src: at("10.0.0.1:1"), Dst: at("10.96.0.1:80"), NewSrc: at("10.0.0.1:1"), NewDst: at("10.0.0.2:80")},
		{Src: at("192.0.2.9:1"), Dst: at("192.0.2.1:80"), NewSrc: at("192.0.2.1:49152"), NewDst: at("10.0.0.3:80")},
	}
	for value, want := range map[string][]api.Flow{
		"10.0.0.2": flows[:1], "192.0.2.1": flows[1:], "10.0.0.3": flows[1:], "10.9.9.9": {},
	} {
		var f Filter
		if err := f.Set("address", value); err != nil {
			t.Fatal(err)
		}
		if got := f.Flows(flows); !slices.Equal(got, want) {
			t.Errorf("--address %s picks %v", value, got)
		}
	}
	f := Filter{Service: "a/web"}
	if got := f.Flows(flows); len(got) != 1 || got[0] != flows[0] {
		t.Errorf("--service a/web picks %v", got)
	}
}

func TestFilterRefuses(t *testing.T) {
	for flag, value := range map[string]string{"service": "web", "frontend": "web", "address": "10.0.0.1:80", "color": "red"} {
		var f Filter
		if err := f.Set(flag, value); err == nil || !strings.Contains(err.Error(), value) && flag != "color" {
			t.Errorf("--%s %s: %v", flag, value, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 400 * time.Millisecond: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m30s", time.Hour: "1h", 6*time.Hour - time.Second: "5h59m", 10800 * time.Second: "3h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestIdentitiesAcrossNodes: what nodes know alike is one row, with the pods of all; what they know differently is two.
func TestIdentitiesAcrossNodes(t *testing.T) {
	l := IdentityList()
	web := func(app string, pods ...string) []api.Identity {
		return []api.Identity{{ID: 2, Name: "world"}, {ID: 300, Namespace: "ns", ServiceAccount: "sa", Labels: map[string]string{"app": app}, Pods: pods}}
	}
	all := l.Across(nil, "n1", web("web", "ns/a", "ns/b"))
	all = l.Across(all, "n2", web("web", "ns/c"))
	all = l.Across(all, "n3", web("other"))
	got := l.Table(all).String()
	want := "ID   PODS  NAMESPACE  SERVICE ACCOUNT  LABELS\n" +
		"2    0     -          -                reserved: world\n" +
		"300  3     ns         sa               app=web\n" +
		"300  0     ns         sa               app=other\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if pods := Identity(all[1]).Lines[5][1]; pods != "ns/a (n1) ns/b (n1) ns/c (n2)" {
		t.Errorf("pods are %s", pods)
	}
}
