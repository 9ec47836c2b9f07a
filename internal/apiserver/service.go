package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/rest"
)

// Service is the Service kubernetes, by which pods reach the API server.
type Service struct {
	// Addr is its address with its port.
	Addr   string
	dialer tls.Dialer
}

// NewService is the Service at addr of an API server that trust trusts. Nil trusts what this machine does.
func NewService(addr string, trust *tls.Config) *Service {
	return &Service{Addr: addr, dialer: tls.Dialer{Config: trust}}
}

// serviceOf is the Service of the API server that cfg is for, by what the kubelet tells each pod of it: tcp://10.96.0.1:443, say.
// The variables that tell the same in parts, KUBERNETES_SERVICE_HOST and _PORT, may name the API server itself instead.
func serviceOf(cfg *rest.Config) (*Service, error) {
	addr, found := strings.CutPrefix(os.Getenv("KUBERNETES_PORT"), "tcp://")
	if !found {
		return nil, nil
	}
	trust, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("read the certificates of %s: %w", cfg.Host, err)
	}
	return NewService(addr, trust), nil
}

// Ask connects by the Service. It returns an error unless it is the API server that answers: on the way out of a cluster there
// may be a proxy that takes a connection to any address.
func (s *Service) Ask(ctx context.Context) error {
	conn, err := s.dialer.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
