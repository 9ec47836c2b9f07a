package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"wirelab.dev/wirelab/internal/apiserver"
)

// How long pods wait for kube-proxy's rules, how often it is asked for them, and how long an answer may take: one that
// comes takes milliseconds. All in all a CNI call is answered within cniTimeout.
const (
	kubeProxyPatience = 15 * time.Second
	kubeProxyOften    = 100 * time.Millisecond
	kubeProxyAnswer   = time.Second
)

// kubeProxy is another program on this node that translates Services. A pod that starts before it has written its first
// rules sends its SYN to a ClusterIP untranslated. The kernel's conntrack keeps that for the connection, so its SYNs stay
// unanswered until the client gives it up, which takes client-go 30 s: CoreDNS, among the first pods of a node, would
// serve nothing for so long. kube-proxy's /healthz says 200 before it has written anything (pkg/proxy/healthcheck), so
// what is asked for is what pods need of it.
type kubeProxy struct {
	service *apiserver.Service
	log     *slog.Logger
	done    chan struct{} // closed when no pod waits any more
	problem atomic.Pointer[string]
}

// newKubeProxy returns nil, which nobody waits for, without a Service.
func newKubeProxy(service *apiserver.Service, log *slog.Logger) *kubeProxy {
	if service == nil {
		return nil
	}
	p := &kubeProxy{service: service, log: log, done: make(chan struct{})}
	p.waits(nil)
	return p
}

// waits says what pods wait for. err is why they still do, and may be nil.
func (p *kubeProxy) waits(err error) {
	text := "pods wait for kube-proxy to translate the Service kubernetes, " + p.service.Addr
	if err != nil {
		text += ": " + err.Error()
	}
	p.problem.Store(&text)
}

// run asks until the Service answers, for as long as patience: kube-proxy may be broken, and then pods start without it.
func (p *kubeProxy) run(ctx context.Context, patience time.Duration) {
	if p == nil {
		return
	}
	defer close(p.done)
	start := time.Now()
	err := wait.PollUntilContextTimeout(ctx, kubeProxyOften, patience, true, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, kubeProxyAnswer)
		defer cancel()
		err := p.service.Ask(ctx)
		if err != nil {
			p.waits(err)
		}
		return err == nil, nil
	})
	took := time.Since(start).Round(time.Millisecond)
	switch {
	case err == nil:
		p.log.Info("kube-proxy translates Services", "service", p.service.Addr, "took", took)
	case ctx.Err() == nil:
		p.log.Warn("pods start without kube-proxy", "waited", took, "reason", *p.problem.Load())
	}
	p.problem.Store(nil)
}

// await returns when no pod has to wait any more.
func (p *kubeProxy) await(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for kube-proxy: %w", ctx.Err())
	}
}

// problems is what pods wait for.
func (p *kubeProxy) problems() []string {
	if p == nil {
		return nil
	}
	if problem := p.problem.Load(); problem != nil {
		return []string{*problem}
	}
	return nil
}
