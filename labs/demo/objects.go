package demo

import (
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func labels(app string) map[string]string { return map[string]string{"app": app} }

func meta(name string, with map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: Namespace, Name: name, Labels: with}
}

// daemonSet is privileged, so that a walkthrough can capture packets and read the node's routes in it.
func daemonSet(cfg Config) *appsv1.DaemonSet {
	c := container(cfg)
	listen := netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(cfg.TargetPort)) //nolint:gosec // a port
	c.Args = []string{"serve", "--listen", listen.String()}
	port := intstr.FromInt32(int32(listen.Port()))
	c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: port.IntVal, Protocol: corev1.ProtocolTCP}}
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}},
		PeriodSeconds: 1,
	}
	spec := podSpec(c)
	spec.Tolerations = []corev1.Toleration{{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: meta(Name, labels(Name)),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels(Name)},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type:          appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: new(intstr.FromString("100%"))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels(Name)},
				Spec:       spec,
			},
		},
	}
}

func shellPod(cfg Config) *corev1.Pod {
	c := container(cfg)
	// It has no work but to be there; the shell's sleep ends at once when asked to.
	c.Command = []string{"/bin/sh", "-c", "trap exit TERM; while :; do sleep 3600 & wait $!; done"}
	c.Args = nil
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta(Shell, labels(Shell)),
		Spec:       podSpec(c),
	}
}

func container(cfg Config) corev1.Container {
	return corev1.Container{
		Name:            Container,
		Image:           cfg.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
		}},
		Env: []corev1.EnvVar{
			fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"),
			fieldEnv("POD_IP", "status.podIP"), fieldEnv("NODE_NAME", "spec.nodeName"),
		},
	}
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

func podSpec(c corev1.Container) corev1.PodSpec {
	return corev1.PodSpec{
		Containers:                    []corev1.Container{c},
		TerminationGracePeriodSeconds: new(int64(2)),
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
	}
}

func service(cfg Config) *corev1.Service {
	p := servicePort(cfg)
	p.NodePort = int32(cfg.NodePort) //nolint:gosec // a port
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta(Name, labels(Name)),
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Selector: labels(Name), Ports: []corev1.ServicePort{p}},
	}
}

func headlessService(cfg Config) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta(Headless, labels(Name)),
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: labels(Name), Ports: []corev1.ServicePort{servicePort(cfg)},
		},
	}
}

func servicePort(cfg Config) corev1.ServicePort {
	return corev1.ServicePort{
		Name: "http", Protocol: corev1.ProtocolTCP,
		Port: int32(cfg.Port), TargetPort: intstr.FromInt32(int32(cfg.TargetPort)), //nolint:gosec // ports
	}
}
