// Package controlplane measures the control plane: the real agent, as a process of its own in a network namespace,
// with an API server in its memory, and the real CNI plugin as a container runtime calls it.
package controlplane

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/agent"
	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd/crdtest"
)

const (
	nodeName  = "n1"
	podCIDR   = "10.99.0.0/24"
	namespace = "kube-system"
	daemonSet = "wirelab-agent"
)

// agentSpec is the first line of an agent's standard input. Every further line is a [change].
type agentSpec struct {
	Config config.Config
	// NodeIP is the address of the only node.
	NodeIP string
	// Services and Pods are how many there are when the agent starts.
	Services, Pods int
}

// change is something that happens in the cluster: a Service's EndpointSlice has so many endpoints now.
type change struct{ Service, Endpoints int }

// RunAgent is an agent that reads what it is, and what happens in its cluster, from in. It ends with ctx.
func RunAgent(ctx context.Context, in io.Reader, logs io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return fmt.Errorf("read what agent to be: %w", lines.Err())
	}
	var spec agentSpec
	if err := json.Unmarshal(lines.Bytes(), &spec); err != nil {
		return fmt.Errorf("read what agent to be: %w", err)
	}
	cluster := fake.NewClientset(spec.objects()...)
	objects, _ := crdtest.NewClient()
	a, err := agent.New(spec.Config, apiserver.Server{Kubernetes: cluster, Objects: objects, URL: "in memory"}, slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		return err
	}
	changes := make(chan error, 1)
	go func() { changes <- follow(ctx, lines, cluster) }()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			return err
		case err := <-changes:
			if err != nil {
				return err
			}
			changes = nil
		}
	}
}

// follow makes changes happen until there are no more.
func follow(ctx context.Context, lines *bufio.Scanner, cluster kubernetes.Interface) error {
	for lines.Scan() {
		var c change
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return fmt.Errorf("read a change: %w", err)
		}
		slice := endpointSlice(c.Service, c.Endpoints)
		if _, err := cluster.DiscoveryV1().EndpointSlices(slice.Namespace).Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("change endpoints: %w", err)
		}
	}
	return lines.Err()
}

func (s agentSpec) objects() []runtime.Object {
	objects := []runtime.Object{
		&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: daemonSet}},
		&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: nodeName},
			Spec:       corev1.NodeSpec{PodCIDR: podCIDR, PodCIDRs: []string{podCIDR}},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: s.NodeIP}}},
		},
	}
	for i := range s.Pods {
		objects = append(objects, pod(i))
	}
	for i := range s.Services {
		objects = append(objects, service(i), endpointSlice(i, 1))
	}
	return objects
}

// pod is pod i, one of ten replicas.
func pod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "bench", Name: container(i),
			Labels: map[string]string{"app": fmt.Sprintf("a%d", i/10), "pod-template-hash": "6d4b75cb6d"},
		},
		Spec: corev1.PodSpec{NodeName: nodeName, ServiceAccountName: "default"},
	}
}

const (
	servicePort  = 80
	endpointPort = 8080
)

// serviceIP is Service i's ClusterIP.
func serviceIP(i int) string { return fmt.Sprintf("10.96.%d.%d", byte(i>>8), byte(i)) }

func service(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: fmt.Sprintf("s%05d", i)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: serviceIP(i), ClusterIPs: []string{serviceIP(i)},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: servicePort}},
		},
	}
}

func endpointSlice(i, endpoints int) *discoveryv1.EndpointSlice {
	name, port, proto := "http", int32(endpointPort), corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "bench", Name: fmt.Sprintf("s%05d-1", i),
			Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("s%05d", i)},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &proto, Port: &port}},
	}
	for e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 200+e, byte(i>>8), byte(i))},
		})
	}
	return slice
}
