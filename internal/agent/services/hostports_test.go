package services

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/kubetest"
	"wirelab.dev/wirelab/internal/api"
)

func want(proto, hostIP string, hostPort uint16, backend string) lb.HostPort {
	hp := lb.HostPort{Proto: proto, Port: hostPort, Backend: netip.MustParseAddrPort(backend)}
	if hostIP != "" {
		hp.HostIP = netip.MustParseAddr(hostIP)
	}
	return hp
}

func TestHostPortsOfPods(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := kubetest.Pod("sidecar", "10.0.0.7", 0)
	sidecar.Spec.InitContainers = []corev1.Container{
		{RestartPolicy: &always, Ports: []corev1.ContainerPort{kubetest.HostPort("TCP", "", 7000, 70)}},
		{Ports: []corev1.ContainerPort{kubetest.HostPort("TCP", "", 7001, 71)}}, // is over before the pod runs
	}
	hostNetwork := kubetest.Pod("host", "192.0.2.1", 0, kubetest.HostPort("TCP", "", 80, 80))
	hostNetwork.Spec.HostNetwork = true
	done := kubetest.Pod("done", "10.0.0.9", 0, kubetest.HostPort("TCP", "", 9000, 90))
	done.Status.Phase = corev1.PodSucceeded

	for _, tc := range []struct {
		name string
		pods []*corev1.Pod
		want []lb.HostPort
	}{
		{"none", nil, nil},
		{"protocols and addresses, sorted", []*corev1.Pod{kubetest.Pod("a", "10.0.0.2", 0,
			kubetest.HostPort("UDP", "", 53, 5353), kubetest.HostPort("TCP", "192.0.2.1", 80, 8080), kubetest.HostPort("", "0.0.0.0", 80, 8081), kubetest.HostPort("TCP", "", 0, 1))},
			[]lb.HostPort{want("tcp", "", 80, "10.0.0.2:8081"), want("tcp", "192.0.2.1", 80, "10.0.0.2:8080"), want("udp", "", 53, "10.0.0.2:5353")}},
		{"not carried", []*corev1.Pod{kubetest.Pod("a", "10.0.0.2", 0, kubetest.HostPort("SCTP", "", 80, 80), kubetest.HostPort("TCP", "fd00::1", 80, 80))}, nil},
		{"no address yet", []*corev1.Pod{kubetest.Pod("a", "", 0, kubetest.HostPort("TCP", "", 80, 80))}, nil},
		{"finished, or the node's own", []*corev1.Pod{done, hostNetwork}, nil},
		{"sidecar", []*corev1.Pod{sidecar}, []lb.HostPort{want("tcp", "", 7000, "10.0.0.7:70")}},
		{"the older one has it", []*corev1.Pod{
			kubetest.Pod("young", "10.0.0.2", time.Minute, kubetest.HostPort("TCP", "", 80, 1)),
			kubetest.Pod("old", "10.0.0.3", time.Hour, kubetest.HostPort("TCP", "", 80, 2))},
			[]lb.HostPort{want("tcp", "", 80, "10.0.0.3:2")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := portsAlone(HostPorts(tc.pods)); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
			var stripped []*corev1.Pod
			for _, p := range tc.pods {
				obj, err := StripPod(p)
				if err != nil {
					t.Fatal(err)
				}
				stripped = append(stripped, obj.(*corev1.Pod))
			}
			if got := portsAlone(HostPorts(stripped)); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("of the cached pods: got  %v\nwant %v", got, tc.want)
			}
		})
	}
}

// portsAlone are the host ports without whose they are.
func portsAlone(ports []lb.HostPort, _ []api.LeftOut) []lb.HostPort {
	for i := range ports {
		ports[i].Namespace, ports[i].Name = "", ""
	}
	return ports
}
