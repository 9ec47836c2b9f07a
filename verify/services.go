package verify

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// readService reads a Service back; its backends are the caller's to fill in.
func readService(ctx context.Context, kube kubernetes.Interface, namespace, name string) (Service, error) {
	object, err := kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Service{}, fmt.Errorf("read Service %s/%s: %w", namespace, name, err)
	}
	service := Service{Namespace: namespace, Name: name, HealthPort: uint16(object.Spec.HealthCheckNodePort)}
	if object.Spec.ClusterIP != corev1.ClusterIPNone {
		if service.Addr, err = netip.ParseAddr(object.Spec.ClusterIP); err != nil {
			return Service{}, fmt.Errorf("read the ClusterIP of Service %s/%s: %w", namespace, name, err)
		}
	}
	for _, port := range object.Spec.Ports {
		service.Port = uint16(port.Port)
		switch port.Protocol {
		case corev1.ProtocolTCP:
			service.NodePortTCP = uint16(port.NodePort)
		case corev1.ProtocolUDP:
			service.NodePortUDP = uint16(port.NodePort)
		}
	}
	return service, nil
}
