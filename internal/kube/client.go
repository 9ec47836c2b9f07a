// Package kube is the Kubernetes side of a lab: a client made from a kubeconfig, commands in pods, logs, and
// waits that can say which object keeps a lab from being ready.
package kube

import (
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// requestDeadline bounds one request that is not a stream; a lab's API server answers in milliseconds, and
// one that was just started in seconds.
const requestDeadline = 30 * time.Second

// Client is a connection to one cluster. It is safe for concurrent use.
type Client struct {
	// Interface is the typed client. Its requests have a deadline of 30 s each.
	kubernetes.Interface
	// Config is what the client was made from, without a deadline, for streams.
	Config *rest.Config
}

// New makes a client from the bytes of a kubeconfig and its current context.
func New(kubeconfig []byte) (*Client, error) {
	cfg, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return NewForConfig(cfg)
}

// NewForConfig makes a client from a rest.Config, which it copies.
func NewForConfig(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = "wirelab-lab"
	// A lab is one person's: the client's own rate limit (5 requests a second) would only slow it down.
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{}
	unary := rest.CopyConfig(cfg)
	unary.Timeout = requestDeadline
	i, err := kubernetes.NewForConfig(unary)
	if err != nil {
		return nil, fmt.Errorf("set up kubernetes client: %w", err)
	}
	return &Client{Interface: i, Config: cfg}, nil
}
