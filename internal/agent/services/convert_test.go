package services

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/kubetest"
)

func conditions(ready, serving, terminating bool) discoveryv1.EndpointConditions {
	return discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
}

func frontend(kind lb.FrontendKind, addr string, port uint16) lb.Frontend {
	f := lb.Frontend{Kind: kind, Port: port}
	if addr != "" {
		f.Addr = netip.MustParseAddr(addr)
	}
	return f
}

func TestCarriedPorts(t *testing.T) {
	cluster := frontend(lb.ClusterIP, "10.96.0.10", 80)
	local := corev1.ServiceInternalTrafficPolicyLocal
	proxied := corev1.LoadBalancerIPModeProxy
	minute := int32(60)
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		want []lb.Service // without what all have
	}{
		{"ClusterIP", kubetest.Service(nil), []lb.Service{{Port: "http", Proto: "tcp", Frontends: []lb.Frontend{cluster}}}},
		{"headless", kubetest.Service(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), nil},
		{"no address yet", kubetest.Service(func(s *corev1.Service) { s.Spec.ClusterIP = "" }), nil},
		{"ExternalName", kubetest.Service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil},
		{"two families", kubetest.Service(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00::10"} }),
			[]lb.Service{{Port: "http", Proto: "tcp", Frontends: []lb.Frontend{cluster}}}},
		{"several ports", kubetest.Service(func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: "UDP"}, {Name: "dns", Port: 53, Protocol: "TCP"}, {Name: "x", Port: 9, Protocol: "SCTP"}}
		}), []lb.Service{
			{Port: "dns", Proto: "udp", Frontends: []lb.Frontend{frontend(lb.ClusterIP, "10.96.0.10", 53)}},
			{Port: "dns", Proto: "tcp", Frontends: []lb.Frontend{frontend(lb.ClusterIP, "10.96.0.10", 53)}},
		}},
		{"NodePort", kubetest.Service(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 32000
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}), []lb.Service{{Port: "http", Proto: "tcp", ExternalLocal: true, Frontends: []lb.Frontend{cluster, frontend(lb.NodePort, "", 32000)}}}},
		{"externalIPs", kubetest.Service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1", "fd00::1", "x"} }),
			[]lb.Service{{Port: "http", Proto: "tcp", Frontends: []lb.Frontend{cluster, frontend(lb.ExternalIP, "192.0.2.1", 80)}}}},
		{"LoadBalancer", kubetest.Service(func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.LoadBalancerSourceRanges = []string{" 198.51.100.7/24", "fd00::/8", "x"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}, {IP: "192.0.2.3", IPMode: &proxied}, {Hostname: "lb"}}
		}), []lb.Service{{Port: "http", Proto: "tcp", SourceRanges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			Frontends: []lb.Frontend{cluster, frontend(lb.LoadBalancer, "192.0.2.2", 80)}}}},
		{"an address left from when it was a LoadBalancer", kubetest.Service(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
		}), []lb.Service{{Port: "http", Proto: "tcp", Frontends: []lb.Frontend{cluster}}}},
		{"affinity for the API's default", kubetest.Service(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }),
			[]lb.Service{{Port: "http", Proto: "tcp", Affinity: 3 * time.Hour, Frontends: []lb.Frontend{cluster}}}},
		{"affinity, and local inside", kubetest.Service(func(s *corev1.Service) {
			s.Spec.SessionAffinity, s.Spec.InternalTrafficPolicy = corev1.ServiceAffinityClientIP, &local
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &minute}}
		}), []lb.Service{{Port: "http", Proto: "tcp", Affinity: time.Minute, InternalLocal: true, Frontends: []lb.Frontend{cluster}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i := range tc.want {
				tc.want[i].Namespace, tc.want[i].Name, tc.want[i].Backends = "ns", "web", []lb.Backend{}
			}
			if got := carriedPorts(tc.svc, nil); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestBackendsOf(t *testing.T) {
	backend := func(addr, node string) lb.Backend {
		return lb.Backend{Addr: netip.MustParseAddrPort(addr), Node: node, Ready: true, Serving: true}
	}
	unset := discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}}
	notReady := kubetest.Ready("10.0.0.1", "n1")
	notReady.Conditions = discoveryv1.EndpointConditions{Ready: new(bool)}
	leaving := kubetest.Ready("10.0.0.1", "n1")
	leaving.Conditions = conditions(false, true, true)
	hinted := kubetest.Ready("10.0.0.1", "n1")
	hinted.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "b"}}, ForNodes: []discoveryv1.ForNode{{Name: "n2"}}}
	otherPort := kubetest.Slice(kubetest.Ready("10.0.0.9", "n1"))
	otherPort.Ports = []discoveryv1.EndpointPort{kubetest.SlicePort("https", "TCP", 443), kubetest.SlicePort("http", "UDP", 80)}
	v6 := kubetest.Slice(kubetest.Ready("fd00::1", "n1"))
	v6.AddressType = discoveryv1.AddressTypeIPv6
	elsewhere := kubetest.Slice(kubetest.Ready("10.0.0.2", "n2"))
	elsewhere.Ports[0] = kubetest.SlicePort("http", "TCP", 9090)

	for _, tc := range []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		want   []lb.Backend
	}{
		{"none", nil, nil},
		{"sorted, over slices with ports of their own", []*discoveryv1.EndpointSlice{elsewhere, kubetest.Slice(kubetest.Ready("10.0.0.3", "n1"), kubetest.Ready("10.0.0.1", "n2"))},
			[]lb.Backend{backend("10.0.0.1:8080", "n2"), backend("10.0.0.2:9090", "n2"), backend("10.0.0.3:8080", "n1")}},
		{"another name, protocol or family", []*discoveryv1.EndpointSlice{otherPort, v6}, nil},
		{"conditions that nobody set", []*discoveryv1.EndpointSlice{kubetest.Slice(unset)}, []lb.Backend{backend("10.0.0.1:8080", "")}},
		{"not ready, and so not serving", []*discoveryv1.EndpointSlice{kubetest.Slice(notReady)}, []lb.Backend{{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Node: "n1"}}},
		{"terminating", []*discoveryv1.EndpointSlice{kubetest.Slice(leaving)},
			[]lb.Backend{{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Node: "n1", Serving: true, Terminating: true}}},
		{"in two slices, ready in one", []*discoveryv1.EndpointSlice{kubetest.Slice(leaving), kubetest.Slice(kubetest.Ready("10.0.0.1", "n1")), kubetest.Slice(leaving)}, []lb.Backend{backend("10.0.0.1:8080", "n1")}},
		{"hints", []*discoveryv1.EndpointSlice{kubetest.Slice(hinted)}, []lb.Backend{{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Node: "n1",
			Ready: true, Serving: true, ForZones: []string{"a", "b"}, ForNodes: []string{"n2"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := backendsOf(tc.slices, "http", corev1.ProtocolTCP)
			if len(got)+len(tc.want) > 0 && !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestLocalReady(t *testing.T) {
	notReady := kubetest.Ready("10.0.0.4", "n1")
	notReady.Conditions = conditions(false, true, true)
	got := localReady([]*discoveryv1.EndpointSlice{
		kubetest.Slice(kubetest.Ready("10.0.0.1", "n1"), kubetest.Ready("10.0.0.2", "n2"), notReady),
		kubetest.Slice(kubetest.Ready("10.0.0.1", "n1"), kubetest.Ready("10.0.0.3", "n1")),
	}, "n1")
	if got != 2 {
		t.Errorf("%d local endpoints, want 10.0.0.1 and 10.0.0.3", got)
	}
}
