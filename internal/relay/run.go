// Package relay tells the flows of all nodes of a cluster, by the flow API that clients of this field know.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/flowapi"
	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/internal/serve"
)

// Options are what a relay's process is started with.
type Options struct {
	Kubeconfig string // empty: the pod's service account
	Cluster    string // the name that flows are told with
	Listen     string // address and port for clients
	TLS        string // directory with the certificate for these, and their CA; empty: without TLS
	Probes     string // address and port for the kubelet's probes
	AgentPort  uint16
	AgentTLS   string // directory with the certificate that agents are asked with, and their CA
}

// Secrets for the relay's clients, which the chart makes both at once.
const (
	serverCertSecret = "wirelab-relay-server"
	clientCertSecret = "wirelab-relay-client"
)

// forAgents is what agents are asked with.
func (o Options) forAgents() mtls.Files {
	return mtls.InSecret(o.AgentTLS, api.RelayCertSecret, api.AgentCertSecret)
}

// forClients is what clients are answered with, where o.TLS is set.
func (o Options) forClients() mtls.Files {
	return mtls.InSecret(o.TLS, serverCertSecret, clientCertSecret)
}

// Run is the whole process of a relay, until ctx is done.
func Run(ctx context.Context, o Options, log *slog.Logger) error {
	server, err := apiserver.Connect(o.Kubeconfig, "wirelab-relay", 0, 0)
	if err != nil {
		return err
	}
	labNodes := crd.NewInformer(server.Objects.Nodes)
	if err := labNodes.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		log.Warn("does not hear of nodes that come and go", "err", crd.Explain(crd.LabNodes, err))
	}); err != nil {
		return fmt.Errorf("watch LabNodes: %w", err)
	}
	clients, err := serve.Listen(ctx, o.Listen, "--listen")
	if err != nil {
		return err
	}
	probes, err := serve.Listen(ctx, o.Probes, "--probes")
	if err != nil {
		clients.Close()
		return err
	}
	as := flowapi.Serving{Cluster: o.Cluster}
	if o.TLS != "" {
		var reasons serve.Reasons
		files := o.forClients()
		as.Secure = files.Renewed("", flowapi.Protocols())
		as.Refused = func(err error) {
			if reasons.Due(errors.Unwrap(err).Error(), time.Now()) {
				log.Warn("a client is not answered", "err", refusedClient(files, err))
			}
		}
	}
	source := newSource(func() []place { return places(labNodes.All()) }, o.forAgents(), o.AgentPort, log)
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { labNodes.RunWithContext(ctx); return nil })
	eg.Go(func() error { return flowapi.Serve(ctx, clients, source, as) })
	eg.Go(func() error { return serve.TCP(ctx, probes, probe(o, labNodes.HasSynced, &readiness{log: log})) })
	return eg.Wait()
}

// refusedClient words that a client was refused, or has refused the relay.
func refusedClient(files mtls.Files, err error) error {
	return files.Advise(err, fmt.Sprintf("ask with what the Secret %s has now; where that does not fit either, ", clientCertSecret))
}

// probe answers the kubelet, and logs each change of what it is told.
func probe(o Options, synced func() bool, r *readiness) http.Handler {
	return serve.Probes(nil, func() error {
		err := o.ready(synced())
		r.tell(err)
		return err
	})
}

// readiness logs why the relay is not ready, and that it is.
type readiness struct {
	log *slog.Logger

	mu   sync.Mutex
	said string
}

func (r *readiness) tell(err error) {
	now := "ready"
	if err != nil {
		now = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case now == r.said:
		return
	case err != nil:
		r.log.Warn("not ready", "err", strings.ReplaceAll(now, "\n", "; "))
	default:
		r.log.Info("ready")
	}
	r.said = now
}

// ready returns why no client would be told anything; nil when one would.
func (o Options) ready(synced bool) error {
	var errs []error
	if !synced {
		errs = append(errs, errors.New("the list of nodes is not there yet"))
	}
	if _, err := o.forAgents().Client(time.Now(), ""); err != nil {
		errs = append(errs, fmt.Errorf("agents cannot be asked: %w", err))
	}
	if o.TLS != "" {
		if _, err := o.forClients().Server(time.Now(), ""); err != nil {
			errs = append(errs, fmt.Errorf("clients cannot be answered: %w", err))
		}
	}
	return errors.Join(errs...)
}
