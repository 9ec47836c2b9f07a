package field

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestReadyEndpoints: one that does not say whether it is ready is, one that says no is not.
func TestReadyEndpoints(t *testing.T) {
	yes, no, port, udp := true, false, int32(80), corev1.ProtocolUDP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-1", Labels: map[string]string{discoveryv1.LabelServiceName: "demo"}},
		Ports:      []discoveryv1.EndpointPort{{Port: &port}, {Port: &port, Protocol: &udp}, {}},
	}
	for addr, ready := range map[string]*bool{"10.244.0.3": nil, "10.244.0.4": &no, "10.244.0.2": &yes} {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: ready}, TargetRef: &corev1.ObjectReference{Name: "pod-" + addr},
		})
	}
	slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{})
	env := New(Config{Kube: fake.NewClientset(slice)})
	service := Service{Namespace: "default", Name: "demo"}

	endpoints, err := env.EndpointsOf(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	want := []Endpoint{{Addr: netip.MustParseAddr("10.244.0.2"), Pod: "pod-10.244.0.2"}, {Addr: netip.MustParseAddr("10.244.0.3"), Pod: "pod-10.244.0.3"}}
	if !slices.Equal(endpoints, want) {
		t.Errorf("endpoints %+v, want %+v", endpoints, want)
	}
	backends, err := env.BackendsOf(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	at := []netip.AddrPort{netip.MustParseAddrPort("10.244.0.2:80"), netip.MustParseAddrPort("10.244.0.3:80")}
	if len(backends) != 2 || !slices.Equal(backends[ProtoTCP], at) || !slices.Equal(backends[ProtoUDP], at) {
		t.Errorf("backends %+v, want %+v by TCP and by UDP", backends, at)
	}
}
