package services

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/serve"
)

// healthCheck is a port at which load balancers ask whether this node has
// backends of a Service whose externalTrafficPolicy is Local.
type healthCheck struct {
	service lb.Name
	port    uint16
	local   int // ready endpoints on this node
}

// HealthChecks answer at the ports of the checks it is given.
type HealthChecks struct {
	ctx context.Context
	eg  *errgroup.Group

	mu      sync.Mutex
	current map[lb.Name]healthCheck
	open    map[healthPort]context.CancelFunc
}

// healthPort is a listener: whose it is may change with the Service.
type healthPort struct {
	service lb.Name
	port    uint16
}

// NewHealthChecks serves in eg until ctx is done.
func NewHealthChecks(ctx context.Context, eg *errgroup.Group) *HealthChecks {
	return &HealthChecks{ctx: ctx, eg: eg, current: map[lb.Name]healthCheck{}, open: map[healthPort]context.CancelFunc{}}
}

// apply makes the listeners those of checks, and returns the ports that cannot
// be had. The others are served all the same.
func (h *HealthChecks) apply(checks []healthCheck) (leftOut []api.LeftOut) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wanted := map[healthPort]bool{}
	h.current = map[lb.Name]healthCheck{}
	for _, c := range checks {
		h.current[c.service] = c
		wanted[healthPort{c.service, c.port}] = true
	}
	for p, stop := range h.open {
		if !wanted[p] {
			stop()
			delete(h.open, p)
		}
	}
	slices.SortFunc(checks, func(a, b healthCheck) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.service.Namespace, b.service.Namespace), cmp.Compare(a.service.Name, b.service.Name))
	})
	for _, c := range checks {
		err := h.listen(healthPort{c.service, c.port})
		if err == nil {
			continue
		}
		reason := lb.NotValid
		if errors.Is(err, syscall.EADDRINUSE) {
			reason = lb.AddressTaken
		}
		leftOut = append(leftOut, api.LeftOut{
			Kind: api.LeftOutService, Namespace: c.service.Namespace, Name: c.service.Name, Reason: reason,
			Message: fmt.Sprintf("healthCheckNodePort %d is not served: %s", c.port, err),
		})
	}
	return leftOut
}

func (h *HealthChecks) listen(p healthPort) error {
	if _, ok := h.open[p]; ok {
		return nil
	}
	ctx, cancel := context.WithCancel(h.ctx)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(int(p.port))))
	if err != nil {
		cancel()
		return err
	}
	h.open[p] = cancel
	h.eg.Go(func() error {
		defer cancel()
		return serve.TCP(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { h.answer(w, p.service) }))
	})
	return nil
}

// answer says what kube-proxy says: the status for load balancers, the rest
// for people.
func (h *HealthChecks) answer(w http.ResponseWriter, name lb.Name) {
	h.mu.Lock()
	local := h.current[name].local
	h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(local))
	if local == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	body := map[string]any{
		"service":             map[string]string{"namespace": name.Namespace, "name": name.Name},
		"localEndpoints":      local,
		"serviceProxyHealthy": true,
	}
	json.NewEncoder(w).Encode(body) //nolint:errcheck // who asked has gone
}
