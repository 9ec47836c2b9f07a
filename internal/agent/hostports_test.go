package agent

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

func podWithPorts(name, ip string, age time.Duration, ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: ports}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
}

func port(proto corev1.Protocol, hostIP string, host, container int32) corev1.ContainerPort {
	return corev1.ContainerPort{Protocol: proto, HostIP: hostIP, HostPort: host, ContainerPort: container}
}

func want(proto, hostIP string, hostPort uint16, backend string) lb.HostPort {
	hp := lb.HostPort{Proto: proto, Port: hostPort, Backend: netip.MustParseAddrPort(backend)}
	if hostIP != "" {
		hp.HostIP = netip.MustParseAddr(hostIP)
	}
	return hp
}

func TestHostPortsOfPods(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := podWithPorts("sidecar", "10.0.0.7", 0)
	sidecar.Spec.InitContainers = []corev1.Container{
		{RestartPolicy: &always, Ports: []corev1.ContainerPort{port("TCP", "", 7000, 70)}},
		{Ports: []corev1.ContainerPort{port("TCP", "", 7001, 71)}}, // is over before the pod runs
	}
	hostNetwork := podWithPorts("host", "192.0.2.1", 0, port("TCP", "", 80, 80))
	hostNetwork.Spec.HostNetwork = true
	done := podWithPorts("done", "10.0.0.9", 0, port("TCP", "", 9000, 90))
	done.Status.Phase = corev1.PodSucceeded

	for _, tc := range []struct {
		name string
		pods []*corev1.Pod
		want []lb.HostPort
	}{
		{"none", nil, nil},
		{"protocols and addresses, sorted", []*corev1.Pod{podWithPorts("a", "10.0.0.2", 0,
			port("UDP", "", 53, 5353), port("TCP", "192.0.2.1", 80, 8080), port("", "0.0.0.0", 80, 8081), port("TCP", "", 0, 1))},
			[]lb.HostPort{want("tcp", "", 80, "10.0.0.2:8081"), want("tcp", "192.0.2.1", 80, "10.0.0.2:8080"), want("udp", "", 53, "10.0.0.2:5353")}},
		{"not carried", []*corev1.Pod{podWithPorts("a", "10.0.0.2", 0, port("SCTP", "", 80, 80), port("TCP", "fd00::1", 80, 80))}, nil},
		{"no address yet", []*corev1.Pod{podWithPorts("a", "", 0, port("TCP", "", 80, 80))}, nil},
		{"finished, or the node's own", []*corev1.Pod{done, hostNetwork}, nil},
		{"sidecar", []*corev1.Pod{sidecar}, []lb.HostPort{want("tcp", "", 7000, "10.0.0.7:70")}},
		{"the older one has it", []*corev1.Pod{
			podWithPorts("young", "10.0.0.2", time.Minute, port("TCP", "", 80, 1)),
			podWithPorts("old", "10.0.0.3", time.Hour, port("TCP", "", 80, 2))},
			[]lb.HostPort{want("tcp", "", 80, "10.0.0.3:2")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := portsAlone(hostPortsOfPods(tc.pods)); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
			var stripped []*corev1.Pod
			for _, p := range tc.pods {
				obj, err := stripPod(p)
				if err != nil {
					t.Fatal(err)
				}
				stripped = append(stripped, obj.(*corev1.Pod))
			}
			if got := portsAlone(hostPortsOfPods(stripped)); !reflect.DeepEqual(got, tc.want) {
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
