package operator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/ipam"
	"wirelab.dev/wirelab/internal/serve"
	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/internal/version"
)

// Options are what an operator's process is started with.
type Options struct {
	Kubeconfig string // empty: the pod's service account
	Namespace  string
	Listen     string // address and port for the kubelet's probes
	IPAM       settings.IPAM
}

// Run is the whole process of an operator, until ctx is done.
func Run(ctx context.Context, o Options, log *slog.Logger) error {
	cfg := Config{Namespace: o.Namespace, Identity: identity()}
	if o.Namespace == "" {
		return errors.New("--namespace is empty: set it, or WIRELAB_NAMESPACE, to the operator's own")
	}
	if err := errors.Join(o.IPAM.Validate("")...); err != nil {
		return err
	}
	var err error
	if o.IPAM.Mode == settings.IPAMClusterPool {
		if cfg.Pool, err = ipam.NewClusterPool(o.IPAM.Operator.Pool(), o.IPAM.Operator.ClusterPoolIPv4MaskSize); err != nil {
			return err
		}
	}
	client, objects, err := connect(o.Kubeconfig)
	if err != nil {
		return err
	}
	op, err := New(cfg, client, objects, log)
	if err != nil {
		return err
	}
	l, err := serve.Listen(ctx, o.Listen, "--listen")
	if err != nil {
		return err
	}
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return serve.TCP(ctx, l, op.Handler()) })
	eg.Go(func() error { return op.Run(ctx) })
	return eg.Wait()
}

// identity is this process's alone, and begins with its pod's name.
func identity() string {
	host, err := os.Hostname()
	if err != nil {
		host = component
	}
	b := make([]byte, 8)
	rand.Read(b) //nolint:errcheck // it never fails
	return host + "_" + hex.EncodeToString(b)
}

func connect(kubeconfig string) (kubernetes.Interface, *crd.Client, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig != "" {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	} else {
		cfg, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find the API server: %w", err)
	}
	cfg.UserAgent = component + "/" + version.Version
	objects, err := crd.NewClient(cfg)
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client of %s: %w", cfg.Host, err)
	}
	return client, objects, nil
}
