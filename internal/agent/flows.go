package agent

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
)

const (
	// flowsLate is how late flows may be kept while nobody asks for them. An agent that is woken often costs CPU time.
	flowsLate = time.Second
	// flowsAgain is when the agent reads events again for the flows that it keeps, after that went wrong.
	flowsAgain = 5 * time.Second
)

// keepFlows keeps the flows that the programs report, and has m count them, until ctx is done.
func (n *node) keepFlows(ctx context.Context, m *flows.Metrics, log *slog.Logger) {
	for {
		err := n.flows.Keep(ctx, n.dp.Watch(ctx, flowsLate, false), n.who, m)
		if err == nil {
			return
		}
		log.Warn("no flows are kept for now", "err", err)
		select {
		case <-time.After(flowsAgain):
		case <-ctx.Done():
			return
		}
	}
}

// talkers are the endpoints of the node, by which flows are told whose they are.
func (e *endpoints) talkers() (pods []flows.Pod) {
	for _, o := range e.owned() {
		pods = append(pods, flows.Pod{Addr: o.addr, Name: o.name(), Identity: cmp.Or(o.id, identity.Init)})
	}
	return pods
}

// flowRecords tells of the flows that the node keeps.
func (a *Agent) flowRecords(w http.ResponseWriter, r *http.Request, n *node) {
	if n.flows == nil {
		a.refuse(w, http.StatusNotFound, "no flows are kept: flows.capacity is 0; set it to how many the node shall keep")
		return
	}
	filter, err := api.ParseFlowFilter(r.URL.Query())
	if err != nil {
		a.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if err := n.flows.Serve(r.Context(), w, filter, n.who); err != nil {
		a.log.Debug("a client did not take the flows it asked for", "err", err)
	}
}
