package operator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/ipam"
	"wirelab.dev/wirelab/internal/serve"
	"wirelab.dev/wirelab/internal/settings"
)

// Options are what an operator's process is started with.
type Options struct {
	Kubeconfig string // empty: the pod's service account
	Namespace  string
	Listen     string // address and port for the kubelet's probes
	IPAM       settings.IPAM
}

// noBound: it asks for one thing after the other, and thousands of nodes may wait.
const noBound = -1

// Run is the whole process of an operator, until ctx is done.
func Run(ctx context.Context, o Options, log *slog.Logger) error {
	cfg := Config{Namespace: o.Namespace, Identity: ownIdentity()}
	if o.Namespace == "" {
		return errors.New("--namespace is empty: set it, or WIRELAB_NAMESPACE, to the operator's own")
	}
	n := settings.Default()
	n.IPAM, n.EnableIPv4Masquerade = o.IPAM, false // what it wants of a pool is the agents' to say, which know its CIDR
	if err := n.Validate(""); err != nil {
		return err
	}
	var err error
	if o.IPAM.Mode == settings.IPAMClusterPool {
		if cfg.Pool, err = ipam.NewClusterPool(o.IPAM.Operator.Pool(), o.IPAM.Operator.ClusterPoolIPv4MaskSize); err != nil {
			return err
		}
	}
	server, err := apiserver.Connect(o.Kubeconfig, component, noBound, 0)
	if err != nil {
		return err
	}
	op := New(cfg, server, log)
	l, err := serve.Listen(ctx, o.Listen, "--listen")
	if err != nil {
		return err
	}
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return serve.TCP(ctx, l, serve.Probes(op.Healthy, op.Ready)) })
	eg.Go(func() error { return op.Run(ctx) })
	return eg.Wait()
}

// ownIdentity is this process's alone, and begins with its node's name: it has the node's network.
func ownIdentity() string {
	host, err := os.Hostname()
	if err != nil {
		host = component
	}
	b := make([]byte, 8)
	rand.Read(b) //nolint:errcheck // it never fails
	return host + "_" + hex.EncodeToString(b)
}
