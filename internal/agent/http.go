package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/services"
	"wirelab.dev/wirelab/internal/api"
)

// apiHandler answers on agent.sock.
func (a *Agent) apiHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.StatusPath, func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, a.status(r.Context()))
	})
	mux.HandleFunc("GET "+api.EndpointsPath, listing(a, endpointList))
	mux.HandleFunc("GET "+api.IdentitiesPath, listing(a, identityList))
	mux.HandleFunc("GET "+api.ServicesPath, listing(a, func(ctx context.Context, n *node) ([]api.Service, error) {
		return services.List(ctx, n.dp.Services(), n.leftOut)
	}))
	mux.HandleFunc("GET "+api.FrontendsPath, listing(a, ofServices((*datapath.Services).List)))
	mux.HandleFunc("GET "+api.FlowsPath, listing(a, ofServices((*datapath.Services).Flows)))
	mux.HandleFunc("GET "+api.TranslationsPath, listing(a, ofServices((*datapath.Services).Translations)))
	mux.HandleFunc("GET "+api.IPCachePath, listing(a, func(ctx context.Context, n *node) ([]api.IPCacheEntry, error) { return n.dp.IPCache().List(ctx) }))
	mux.HandleFunc("GET "+api.TunnelsPath, listing(a, func(ctx context.Context, n *node) ([]api.TunnelEnd, error) { return n.dp.IPCache().Ends(ctx) }))
	mux.HandleFunc("GET "+api.FlowRecordsPath, a.whenOpen(a.flowRecords))
	mux.HandleFunc("GET "+api.FeaturesPath, listing(a, a.featureList))
	mux.HandleFunc("GET "+api.MonitorPath, a.whenOpen(a.monitor))
	mux.HandleFunc("POST "+api.PausePath, a.whenOpen(a.pause))
	mux.HandleFunc("POST "+api.ResumePath, a.whenOpen(a.resume))
	return mux
}

// longestPause bounds what is forgotten.
const longestPause = time.Hour

func (a *Agent) pause(w http.ResponseWriter, r *http.Request, n *node) {
	howLong, err := time.ParseDuration(r.FormValue("for"))
	if err != nil || howLong <= 0 || howLong > longestPause {
		a.refuse(w, http.StatusBadRequest, fmt.Sprintf("pause for %q: use a time of up to %s, as 10m", r.FormValue("for"), longestPause))
		return
	}
	names := r.Form["name"]
	if len(names) == 0 {
		a.refuse(w, http.StatusBadRequest, "pause what? name the reconcilers, as wirelab-agent status --verbose lists them")
		return
	}
	a.control(w, r, n.reconcilers.all.Pause(time.Now().Add(howLong), names...))
}

// resume ends the pauses of all that are named, or of all there are.
func (a *Agent) resume(w http.ResponseWriter, r *http.Request, n *node) {
	if err := r.ParseForm(); err != nil {
		a.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	names := r.Form["name"]
	if len(names) == 0 {
		for _, h := range n.reconcilers.all.Health() {
			names = append(names, h.Name)
		}
	}
	a.control(w, r, n.reconcilers.all.Resume(names...))
}

func (a *Agent) control(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		a.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	a.answer(w, a.status(r.Context()))
}

// listing answers with what list reads back, an empty list included.
func listing[T any](a *Agent, list func(context.Context, *node) ([]T, error)) http.HandlerFunc {
	return a.whenOpen(func(w http.ResponseWriter, r *http.Request, n *node) {
		items, err := list(r.Context(), n)
		switch {
		case errors.Is(err, datapath.ErrNoServices):
			a.refuse(w, http.StatusNotFound, fmt.Sprintf("mode %s has no Services in BPF: kube-proxy translates them", n.dp.Config().Mode()))
		case errors.Is(err, datapath.ErrNoTunnel):
			a.refuse(w, http.StatusNotFound, "there is no tunnel: routingMode is "+n.dp.Config().RoutingMode)
		case err != nil:
			a.refuse(w, http.StatusInternalServerError, err.Error())
		default:
			a.answer(w, append([]T{}, items...))
		}
	})
}

// ofServices is a list that is read from the datapath's Services alone.
func ofServices[T any](list func(*datapath.Services, context.Context) ([]T, error)) func(context.Context, *node) ([]T, error) {
	return func(ctx context.Context, n *node) ([]T, error) { return list(n.dp.Services(), ctx) }
}

// whenOpen refuses requests as long as there is no datapath.
func (a *Agent) whenOpen(h func(http.ResponseWriter, *http.Request, *node)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := a.node.Load()
		if n == nil {
			a.refuse(w, http.StatusServiceUnavailable, "the datapath is not open yet: "+a.phase.Load().(string))
			return
		}
		h(w, r, n)
	}
}

// unread is how long a client may leave unread what it is sent, before it is cut off.
const unread = 30 * time.Second

// monitor streams events until the client goes away or the agent stops.
func (a *Agent) monitor(w http.ResponseWriter, r *http.Request, n *node) {
	if err := stream(w, n.dp.Watch(r.Context(), datapath.Soon, true), unread); err != nil && r.Context().Err() == nil {
		a.log.Warn("stopped streaming events", "err", err)
	}
}

// stream writes lines, and returns why it ended; nil when the client went away. What there is of events while a client does
// not read is bounded by the datapath, which then tells that some are lost.
func stream(w http.ResponseWriter, lines iter.Seq2[api.MonitorLine, error], patience time.Duration) error {
	w.Header().Set("Content-Type", "application/jsonl")
	to := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for line, err := range lines {
		if err != nil {
			return err
		}
		if err := to.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return fmt.Errorf("limit how long the client may take: %w", err)
		}
		err = enc.Encode(line)
		if line.Event == nil && err == nil { // events come in bursts, each with a mark behind it
			err = to.Flush()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("cut off a client that has read nothing for %s", patience)
		}
		if err != nil {
			return nil //nolint:nilerr // it went away
		}
	}
	return nil
}

func (a *Agent) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.Debug("the client did not wait for its answer", "err", err)
	}
}

func (a *Agent) refuse(w http.ResponseWriter, code int, msg string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	a.answer(w, api.HTTPError{Message: msg})
}
