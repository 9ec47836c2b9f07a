package services

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/kubetest"
	"wirelab.dev/wirelab/internal/agent/notices"
	"wirelab.dev/wirelab/internal/api"
)

func TestServiceLeftOut(t *testing.T) {
	slice := func(edit func(*discoveryv1.EndpointSlice)) []*discoveryv1.EndpointSlice {
		s := kubetest.Slice(kubetest.Ready("10.0.0.1", "n1"))
		edit(s)
		return []*discoveryv1.EndpointSlice{s}
	}
	for _, tc := range []struct {
		name   string
		svc    *corev1.Service
		slices []*discoveryv1.EndpointSlice
		want   []string
	}{
		{"all is carried", kubetest.Service(nil), slice(func(*discoveryv1.EndpointSlice) {}), nil},
		{"SCTP", kubetest.Service(func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "s", Port: 9, Protocol: corev1.ProtocolSCTP})
		}), nil, []string{"NotCarried port 9/SCTP is not carried: only TCP and UDP are"}},
		{"headless", kubetest.Service(func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.Ports[0].Protocol = "None", corev1.ProtocolSCTP
		}), nil, nil},
		{"ExternalName", kubetest.Service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, nil},
		{"IPv6 alone", kubetest.Service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "fd00::10", []string{"fd00::10"} }),
			slice(func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }),
			[]string{"NotCarried address fd00::10 is not carried: only IPv4 is", "NotCarried endpoints of IPv6 are not used: only IPv4 is carried"}},
		{"both families", kubetest.Service(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00::10"} }),
			slice(func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }),
			[]string{"NotCarried address fd00::10 is not carried: only IPv4 is"}},
		{"outer addresses", kubetest.Service(func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.ExternalIPs = []string{"192.0.2.1", "fd00::1", "x"}
			s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24", "fd00::/8"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "fd00::2"}, {Hostname: "a.name"}}
		}), nil, []string{
			"NotCarried address fd00::1 is not carried: only IPv4 is", `NotValid "x" is not an address`, "NotCarried address fd00::2 is not carried: only IPv4 is",
			`NotCarried source range "fd00::/8" is not heeded: it is not an IPv4 prefix`,
		}},
		{"names for endpoints", kubetest.Service(nil), slice(func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }),
			[]string{"NotCarried endpoints of FQDN are not used: only IPv4 is carried"}},
		{"endpoints' ports", kubetest.Service(nil), slice(func(s *discoveryv1.EndpointSlice) {
			s.Ports = []discoveryv1.EndpointPort{kubetest.SlicePort("http", "TCP", 70000), kubetest.SlicePort("other", "TCP", 0), {Name: new("http")}, kubetest.SlicePort("http", "SCTP", 0)}
		}), []string{`NotValid endpoints of port "http" are not used: 70000 is not a port`, `NotCarried endpoints of port "http" are not used: they have no port of their own`}},
		{"endpoints' addresses", kubetest.Service(nil), slice(func(s *discoveryv1.EndpointSlice) {
			s.Endpoints = []discoveryv1.Endpoint{{}, {Addresses: []string{"fd00::1"}}, {Addresses: []string{"nobody"}}}
		}), []string{`NotValid endpoint "fd00::1" is not used: it is not an IPv4 address`, `NotValid endpoint "nobody" is not used: it is not an IPv4 address`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, x := range serviceLeftOut(tc.svc, tc.slices) {
				if x.Kind != "Service" || x.Namespace != "ns" || x.Name != "web" {
					t.Errorf("said of %s %s/%s", x.Kind, x.Namespace, x.Name)
				}
				got = append(got, x.Reason+" "+x.Message)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

func TestHostPortsLeftOut(t *testing.T) {
	old, young := kubetest.Pod("old", "10.0.0.3", time.Hour, kubetest.HostPort("TCP", "", 80, 2)), kubetest.Pod("young", "10.0.0.2", 0,
		kubetest.HostPort("TCP", "0.0.0.0", 80, 1), kubetest.HostPort("SCTP", "", 81, 1), kubetest.HostPort("TCP", "fd00::1", 82, 1), kubetest.HostPort("UDP", "x", 83, 1), kubetest.HostPort("TCP", "", 84, 1), kubetest.HostPort("TCP", "0.0.0.0", 84, 1))
	_, left := HostPorts([]*corev1.Pod{young, old})
	var got []string
	for _, x := range left {
		got = append(got, fmt.Sprintf("%s %s %s %s", x.Kind, x.Name, x.Reason, x.Message))
	}
	want := []string{
		"Pod young NotCarried host port 81/SCTP is not carried: only TCP and UDP are", "Pod young NotCarried host port 82 of fd00::1 is not carried: only IPv4 is",
		"Pod young NotCarried host port 83 of x is not carried: only IPv4 is", "Pod young AddressTaken host port 80/tcp is that of pod /old",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// startTellers are the reports of a cluster's agents, each of what its node leaves out.
func startTellers(t *testing.T, nodes int) (*fake.Clientset, []*Report, *time.Time) {
	t.Helper()
	svc := kubetest.Service(nil)
	svc.UID = "uid-web"
	pod := kubetest.Pod("pod", "10.0.0.2", 0)
	pod.Namespace, pod.Spec.NodeName = "ns", "n1"
	cluster := fake.NewClientset(svc, pod)
	w, _ := startWatch(t, cluster)
	pods := informers.NewSharedInformerFactory(cluster, 0)
	lister := pods.Core().V1().Pods().Lister()
	pods.Start(t.Context().Done())
	pods.WaitForCacheSync(t.Context().Done())
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i+1)
	}
	speakers := func() ([]string, error) { return names, nil }
	now := time.Now()
	all := make([]*Report, nodes)
	for i, name := range names {
		all[i] = NewReport(lister, w, speakers, name, notices.New(cluster, name))
		all[i].clock = func() time.Time { return now }
	}
	return cluster, all, &now
}

// TestLeftOutIsSaidOnce has all agents of a cluster leave the same out: there is one event for each reason, made by
// a few requests, again when something else is to be said, or after an hour.
func TestLeftOutIsSaidOnce(t *testing.T) {
	cluster, all, now := startTellers(t, 12)
	everywhere := func(message string) []api.LeftOut {
		return []api.LeftOut{
			{Kind: "Service", Namespace: "ns", Name: "web", Reason: "NotCarried", Message: message},
			{Kind: "Service", Namespace: "ns", Name: "web", Reason: "NotCarried", Message: "and this"},
			{Kind: "Service", Namespace: "ns", Name: "gone", Reason: "NotCarried", Message: message},
		}
	}
	here := []api.LeftOut{
		{Kind: "Service", Namespace: "ns", Name: "web", Reason: "NoRoom", Message: "is too large"},
		{Kind: "Pod", Namespace: "ns", Name: "pod", Reason: "NotNodeAddress", Message: "is not here"},
	}
	tell := func() {
		t.Helper()
		for range 3 {
			for _, l := range all {
				if err := l.Tell(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i, l := range all {
		woken := 0
		l.OnChange(func() { woken++ })
		for range 2 {
			if i == 0 {
				l.Set(nil, everywhere("b"), here)
			} else {
				l.Set(nil, everywhere("b"))
			}
		}
		if woken != 1 {
			t.Errorf("to say the same twice there were %d reasons", woken)
		}
	}
	tell()
	if got := eventTexts(t, cluster); !slices.Equal(got, []string{
		"Pod pod NotNodeAddress is not here", "Service web NoRoom is too large", "Service web NotCarried and this; b",
	}) {
		t.Errorf("events: %q", got)
	}
	requests := creates(cluster)
	if requests > tellers+len(here) {
		t.Errorf("%d requests", requests)
	}
	*now = now.Add(59 * time.Minute)
	tell()
	if creates(cluster) != requests {
		t.Error("it was said again before an hour was over")
	}
	*now = now.Add(2 * time.Minute)
	tell()
	if n := creates(cluster); n != 2*requests {
		t.Errorf("after an hour %d requests were made, want %d", n-requests, requests)
	}
	for _, l := range all {
		l.Set(nil, everywhere("c"))
	}
	tell()
	if got := eventTexts(t, cluster); !slices.Contains(got, "Service web NotCarried and this; c") || len(got) != 4 {
		t.Errorf("after a change: %q", got)
	}
}

func creates(cluster *fake.Clientset) (n int) {
	for _, a := range cluster.Actions() {
		if a.Matches("create", "events") {
			n++
		}
	}
	return n
}

func eventTexts(t *testing.T, cluster *fake.Clientset) (texts []string) {
	t.Helper()
	list, err := cluster.CoreV1().Events("").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.Type != corev1.EventTypeWarning || e.InvolvedObject.UID == "" || e.InvolvedObject.Namespace != e.Namespace {
			t.Errorf("the event is %+v", e)
		}
		texts = append(texts, strings.Join([]string{e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message}, " "))
	}
	slices.Sort(texts)
	return texts
}

func TestLongNoticesAreCut(t *testing.T) {
	var all []api.LeftOut
	for i := range 500 {
		all = append(all, api.LeftOut{Kind: "Pod", Name: "p", Reason: "NotValid", Message: fmt.Sprintf("%03d is nö port", i)})
	}
	got := noticesOf(all)
	if len(got) != 1 || len(got[0].message) > longestNotice+4 || !strings.HasSuffix(got[0].message, " …") {
		t.Errorf("%d notices: %+v", len(got), got)
	}
}

// FuzzServices makes Services, endpoint slices and pods that no API server would take. Every port of a Service is
// either carried or said to be left out.
func FuzzServices(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		pick := func(from ...string) string { return from[r.IntN(len(from))] }
		number := func() int32 { return []int32{0, -1, 1, 80, 65535, 65536, 65616, 1 << 30, -1 << 31}[r.IntN(9)] }
		proto := func() corev1.Protocol { return corev1.Protocol(pick("", "TCP", "UDP", "SCTP", "tcp", "x")) }
		addr := func() string {
			return pick("", "None", "10.96.0.1", "fd00::1", "x", "::ffff:10.0.0.1", "0.0.0.0", "10.0.0.1/8", "127.0.0.1", "1.2.3.4")
		}
		svc := kubetest.Service(func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.ExternalIPs = addr(), []string{addr(), addr()}[:r.IntN(3)], []string{addr(), addr()}
			s.Spec.Type = corev1.ServiceType(pick("", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"))
			s.Spec.SessionAffinity = corev1.ServiceAffinity(pick("", "None", "ClientIP"))
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(number())}}
			s.Spec.LoadBalancerSourceRanges = []string{addr(), "10.0.0.0/8"}[:r.IntN(3)]
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr()}}
			s.Spec.Ports = nil
			for range r.IntN(4) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: pick("", "a", "b"), Port: number(), NodePort: number(), Protocol: proto()})
			}
		})
		slice := kubetest.Slice(discoveryv1.Endpoint{Addresses: []string{addr()}}, discoveryv1.Endpoint{})
		slice.AddressType = discoveryv1.AddressType(pick("", "IPv4", "IPv4", "IPv6", "FQDN"))
		slice.Ports = []discoveryv1.EndpointPort{kubetest.SlicePort("a", proto(), number()), {}, {Port: new(number())}}
		slices := []*discoveryv1.EndpointSlice{slice}
		carried, left := carriedPorts(svc, slices), serviceLeftOut(svc, slices)
		if isCarried(svc) && len(carried) < len(svc.Spec.Ports) && len(left) == 0 {
			t.Errorf("%d of %d ports are carried, and nothing is said", len(carried), len(svc.Spec.Ports))
		}
		for _, s := range carried {
			for _, b := range s.Backends {
				if b.Addr.Port() == 0 || !b.Addr.Addr().Is4() {
					t.Errorf("backend %s", b.Addr)
				}
			}
		}
		pod := kubetest.Pod("p", pick("10.0.0.2", "fd00::2", "", "x"), 0, kubetest.HostPort(proto(), addr(), number(), number()), kubetest.HostPort(proto(), addr(), number(), number()))
		pod.UID = types.UID(pick("", "a"))
		ports, _ := HostPorts([]*corev1.Pod{pod, pod, kubetest.Pod("q", "10.0.0.3", 0, kubetest.HostPort(proto(), addr(), number(), number()))})
		for _, p := range ports {
			if p.HostIP.IsValid() && !p.HostIP.Is4() || p.Name == "" {
				t.Errorf("host port %+v", p)
			}
		}
	})
}

// What is left out stands behind the Service that it is of, carried or not.
func TestServicesAreListedWithWhatIsLeftOut(t *testing.T) {
	services := []api.Service{{ID: 1, Service: "ns/web:http", Protocol: "tcp"}, {ID: 2, Service: "ns/web:https", Protocol: "tcp"}, {ID: 3, Service: "ns/other"}}
	got := withLeftOut(services, leftOutOf([]api.LeftOut{
		{Kind: api.LeftOutService, Namespace: "ns", Name: "web", Reason: lb.NotCarried, Message: "a"},
		{Kind: api.LeftOutService, Namespace: "ns", Name: "absent", Reason: lb.NoRoom, Message: "b"},
		{Kind: api.LeftOutPod, Namespace: "ns", Name: "other", Reason: lb.NotNodeAddress, Message: "a pod's"},
	}))
	want := []api.Service{
		{Service: "ns/absent", LeftOut: []string{"b"}}, {ID: 3, Service: "ns/other"},
		{ID: 1, Service: "ns/web:http", Protocol: "tcp", LeftOut: []string{"a"}}, {ID: 2, Service: "ns/web:https", Protocol: "tcp"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}
