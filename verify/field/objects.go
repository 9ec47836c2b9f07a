package field

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Namespace is where a run makes its pods and Services: one that is always
// there, because a namespace of its own would take its controller 5 s and more
// to remove, which is longer than all checks take.
const Namespace = "kube-system"

// Names and labels of what a run makes.
const (
	containerName   = "nettool"
	everyService    = "wirelab-verify-every"
	oneService      = "wirelab-verify-one"
	HeadlessService = "wirelab-verify-headless"
	StickyService   = "wirelab-verify-sticky"
	LocalService    = "wirelab-verify-local"
	emptyService    = "wirelab-verify-empty"
	changingService = "wirelab-verify-changing"
	podNames        = "wirelab-verify-"
	RoleClient      = "client"
	RoleServer      = "server"
	RoleLeaver      = "leaver"

	// runLabel marks everything a run makes; its value is the pod's role.
	runLabel  = "wirelab.dev/verify"
	onlyLabel = "wirelab.dev/verify-only"
	// changingLabel is that of the backends of a Service one of which goes away.
	changingLabel = "wirelab.dev/verify-changing"
)

// Ports of the run's pods and Services.
const (
	PodPort     = 80
	ServicePort = 8080
	// HostPort is outside the range of nodePorts and of what a node listens on.
	HostPort = 28080
)

// PodName is the name of the run's pod of a role on a node.
func PodName(role, node string) string { return podNames + role + "-" + node }

// podObject is a pod that serves, and that nettool can send raw packets from.
// It is bound to its node: nothing of what a run proves needs the scheduler.
func podObject(role, node, image string, labels map[string]string) *corev1.Pod {
	all := map[string]string{runLabel: role}
	maps.Copy(all, labels)
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: PodName(role, node), Namespace: Namespace, Labels: all},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			RestartPolicy:                 corev1.RestartPolicyOnFailure, // where the runtime could not make its container
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  new(bool),
			EnableServiceLinks:            new(bool),
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				// The lab has loaded the image; no registry has it.
				Name: containerName, Image: image, ImagePullPolicy: corev1.PullNever,
				Command: []string{nettoolInImage, "serve"},
				Env: []corev1.EnvVar{
					fromField("POD_NAME", "metadata.name"), fromField("POD_NAMESPACE", "metadata.namespace"),
					fromField("POD_IP", "status.podIP"), fromField("NODE_NAME", "spec.nodeName"),
				},
				SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
					Add: []corev1.Capability{"NET_RAW", "NET_ADMIN"},
				}},
			}},
		},
	}
}

// withHostPort opens hostPort for both protocols of a pod.
func withHostPort(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{
		{Name: "tcp", Protocol: corev1.ProtocolTCP, ContainerPort: PodPort, HostPort: HostPort},
		{Name: "udp", Protocol: corev1.ProtocolUDP, ContainerPort: PodPort, HostPort: HostPort},
	}
	return pod
}

func fromField(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}
