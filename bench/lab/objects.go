package lab

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/bench/workload"
)

const (
	// namespace is one that is always there: one of its own would take its controller seconds to remove.
	namespace = "kube-system"
	// label marks everything that a run makes; its value is the pod's role.
	label  = "wirelab.dev/bench"
	prefix = "wirelab-bench-"
	// nettool is the command in its image.
	nettool = "/usr/bin/nettool"
)

// role is what a pod is for.
type role string

// Clients run nothing until they are asked to; the others serve. Whoever asks by Services has a pod of its
// own: from one pod, connections to a Service and to its backend would use the same ports towards the same
// address, and in turn give each other's translations work.
const (
	client        role = "client"
	serviceClient role = "service-client"
	near          role = "near"
	far           role = "far"
	hostClient    role = "host-client"
	hostFar       role = "host-far"
)

func roles() []role { return []role{client, serviceClient, near, far, hostClient, hostFar} }

// away says that the pod is on the second node, host that it is in its node's own network.
func (r role) away() bool { return r == far || r == hostFar }
func (r role) host() bool { return r == hostClient || r == hostFar }

func (r role) pod() string { return prefix + string(r) }

// object is the role's pod, bound to its node. A host's server serves where the node's processes do, so it
// ends with its pod.
func (r role) object(node, image string, cpu int) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: r.pod(), Labels: map[string]string{label: string(r)}},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			HostNetwork:                   r.host(),
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  new(bool),
			EnableServiceLinks:            new(bool),
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				// The lab has loaded the image; no registry has it.
				Name: "nettool", Image: image, ImagePullPolicy: corev1.PullNever, Command: r.command(cpu),
			}},
		},
	}
}

func (r role) command(cpu int) []string {
	if r == client || r == serviceClient || r == hostClient {
		return []string{"/bin/sh", "-c", "trap exit TERM; while :; do sleep 3600 & wait $!; done"}
	}
	return []string{nettool, "bench", "serve", fmt.Sprintf("--cpu=%d", cpu)}
}

// service leads to a role's pod by the ports that its server has.
func (r role) service() *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: r.pod(), Labels: map[string]string{label: string(r)}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{label: string(r)}},
	}
	for _, kind := range workload.Kinds() {
		proto := corev1.ProtocolTCP
		if kind == workload.UDPRR {
			proto = corev1.ProtocolUDP
		}
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("p%d", workload.Port(kind)), Protocol: proto, Port: int32(workload.Port(kind)),
		})
	}
	return s
}
