package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wirelab.dev/wirelab/datapath"
)

// hostPortsOf returns the ports that pod wants on its node, of its containers
// and of the init containers that stay (restartPolicy Always).
func hostPortsOf(pod *corev1.Pod) []corev1.ContainerPort {
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

// hostPorts are the host ports of this node's pods.
func (k *kube) hostPorts() ([]datapath.HostPort, error) {
	pods, err := k.pods.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the pods of this node: %w", err)
	}
	return hostPortsOfPods(pods), nil
}

// hostPortsOfPods are the host ports of all pods that run and have an address,
// sorted, one for each protocol, address and port: of two pods that want the
// same the older has it.
func hostPortsOfPods(pods []*corev1.Pod) []datapath.HostPort {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	type key struct {
		proto  string
		hostIP netip.Addr
		port   uint16
	}
	taken := map[key]bool{}
	var out []datapath.HostPort
	for _, pod := range pods {
		for _, hp := range podHostPorts(pod) {
			k := key{hp.Proto, hp.HostIP, hp.Port}
			if !taken[k] {
				taken[k] = true
				out = append(out, hp)
			}
		}
	}
	slices.SortFunc(out, func(a, b datapath.HostPort) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), a.HostIP.Compare(b.HostIP))
	})
	return out
}

func podHostPorts(pod *corev1.Pod) []datapath.HostPort {
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || !addr.Is4() || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	var out []datapath.HostPort
	for _, p := range hostPortsOf(pod) {
		hostIP, ok := parseHostIP(p.HostIP)
		if !ok || (p.Protocol != corev1.ProtocolTCP && p.Protocol != corev1.ProtocolUDP && p.Protocol != "") {
			continue // SCTP and IPv6 are not carried
		}
		out = append(out, datapath.HostPort{
			Proto:   strings.ToLower(cmp.Or(string(p.Protocol), "TCP")),
			HostIP:  hostIP,
			Port:    uint16(p.HostPort),
			Backend: netip.AddrPortFrom(addr, uint16(p.ContainerPort)),
		})
	}
	return out
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
