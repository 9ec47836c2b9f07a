// Package apiserver is how agents and operators reach the API server.
package apiserver

import (
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/version"
)

// Server is the API server: how it is asked, and its URL, for the status.
type Server struct {
	Kubernetes kubernetes.Interface
	Objects    *crd.Client
	URL        string
	// Service is nil where this program is in no pod.
	Service *Service
}

// Connect returns the API server, asked in the name of a program, with the pod's service account if kubeconfig is empty.
// Each of its clients sends qps requests a second, and burst at once: with 0 as many as client-go thinks right, with a qps
// below 0 any number, which the API server bounds itself.
func Connect(kubeconfig, program string, qps float32, burst int) (Server, error) {
	cfg, err := restConfig(kubeconfig)
	if err != nil {
		return Server{}, fmt.Errorf("find the API server: %w", err)
	}
	cfg.UserAgent, cfg.QPS, cfg.Burst = program+"/"+version.Version, qps, burst
	objects, err := crd.NewClient(cfg)
	if err != nil {
		return Server{}, err
	}
	// A third of the bytes and of the decoding that JSON takes.
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return Server{}, fmt.Errorf("make a client of %s: %w", cfg.Host, err)
	}
	service, err := serviceOf(cfg)
	return Server{Kubernetes: client, Objects: objects, URL: cfg.Host, Service: service}, err
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	return rest.InClusterConfig()
}
