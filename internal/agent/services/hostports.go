package services

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/watch"
)

// HostPortsOf returns the ports that pod wants on its node, of its containers
// and of the init containers that stay (restartPolicy Always).
func HostPortsOf(pod *corev1.Pod) []corev1.ContainerPort {
	if pod.Spec.HostNetwork {
		return nil // its ports are the node's already
	}
	var ports []corev1.ContainerPort
	add := func(c corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				ports = append(ports, p)
			}
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for _, c := range pod.Spec.Containers {
		add(c)
	}
	return ports
}

// HostPorts are the host ports of all pods that run and have an address,
// sorted, one for each protocol, address and port: of two pods that want the
// same the older has it. What a node's addresses keep out is for the datapath
// to say.
func HostPorts(pods []*corev1.Pod) ([]lb.HostPort, []api.LeftOut) {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	type key struct {
		proto  string
		hostIP netip.Addr
		port   uint16
	}
	taken := map[key]lb.HostPort{}
	var out []lb.HostPort
	var leftOut []api.LeftOut
	for _, pod := range pods {
		ports, left := podHostPorts(pod)
		leftOut = append(leftOut, left...)
		for _, hp := range ports {
			k := key{hp.Proto, hp.HostIP, hp.Port}
			switch other, twice := taken[k]; {
			case !twice:
				taken[k] = hp
				out = append(out, hp)
			case other.Backend != hp.Backend:
				leftOut = append(leftOut, podLeftOut(pod, lb.AddressTaken, "host port %d/%s is that of pod %s/%s", hp.Port, hp.Proto, other.Namespace, other.Name))
			}
		}
	}
	slices.SortFunc(out, func(a, b lb.HostPort) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), a.HostIP.Compare(b.HostIP))
	})
	return out, leftOut
}

func podLeftOut(pod *corev1.Pod, reason string, format string, args ...any) api.LeftOut {
	return api.LeftOut{Kind: api.LeftOutPod, Namespace: pod.Namespace, Name: pod.Name, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func podHostPorts(pod *corev1.Pod) (out []lb.HostPort, leftOut []api.LeftOut) {
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || !addr.Is4() || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	for _, p := range HostPortsOf(pod) {
		hostIP, ok := parseHostIP(p.HostIP)
		switch {
		case p.Protocol != "" && !isCarriedProtocol(p.Protocol):
			leftOut = append(leftOut, podLeftOut(pod, lb.NotCarried, "host port %d/%s is not carried: only TCP and UDP are", p.HostPort, p.Protocol))
		case !ok:
			leftOut = append(leftOut, podLeftOut(pod, lb.NotCarried, "host port %d of %s is not carried: only IPv4 is", p.HostPort, p.HostIP))
		default:
			out = append(out, lb.HostPort{
				Proto:     strings.ToLower(cmp.Or(string(p.Protocol), "TCP")),
				HostIP:    hostIP,
				Port:      portNumber(p.HostPort),
				Backend:   netip.AddrPortFrom(addr, portNumber(p.ContainerPort)),
				Namespace: pod.Namespace, Name: pod.Name,
			})
		}
	}
	return out, leftOut
}

// parseHostIP returns the zero Addr for every address of the node, and false
// for one that is not IPv4.
func parseHostIP(s string) (netip.Addr, bool) {
	if s == "" {
		return netip.Addr{}, true
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, false
	}
	if addr.IsUnspecified() {
		return netip.Addr{}, true
	}
	return addr, true
}

// StripPod keeps of a pod what its host ports and its identity follow from.
var StripPod = watch.Strip(func(pod *corev1.Pod) *corev1.Pod {
	stripped := &corev1.Pod{
		ObjectMeta: watch.Meta(pod.ObjectMeta),
		Spec:       corev1.PodSpec{HostNetwork: pod.Spec.HostNetwork, ServiceAccountName: pod.Spec.ServiceAccountName},
		Status:     corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP},
	}
	stripped.Labels = pod.Labels
	if uid, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		stripped.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: uid}
	}
	if ports := HostPortsOf(pod); len(ports) > 0 {
		stripped.Spec.Containers = []corev1.Container{{Ports: ports}}
	}
	return stripped
})
