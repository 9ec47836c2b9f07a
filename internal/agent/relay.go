package agent

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/internal/serve"
	"wirelab.dev/wirelab/internal/version"
)

// relayAgain is when the agent tries again to listen for the relay: a node has its network without.
const relayAgain = 2 * time.Second

// relayFiles are the certificate that the relay is shown, and the CA of the relay's.
func relayFiles(dir string) mtls.Files {
	return mtls.InSecret(dir, api.AgentCertSecret, api.RelayCertSecret)
}

// refusedRelay words that somebody was refused, who may be the relay or anybody that reaches the node.
func refusedRelay(files mtls.Files) func(error) error {
	return func(err error) error { return files.Advise(err, "if that was wirelab-relay, ") }
}

// serveRelay answers wirelab-relay on the node's address until ctx is done.
func (a *Agent) serveRelay(ctx context.Context, n *node) error {
	files := relayFiles(a.cfg.Paths.RelayTLS)
	if _, err := files.Server(time.Now(), api.RelayCertName); err != nil {
		a.log.Warn("the relay is not answered until this is mended", "err", err)
	}
	at := netip.AddrPortFrom(n.dp.Config().NodeIP, uint16(a.cfg.Flows.Relay.AgentPort)) //nolint:gosec // a port, say the settings
	for said := false; ; said = true {
		l, err := serve.Listen(ctx, at.String(), "flows.relay.agentPort")
		if err == nil {
			return serve.TLS(ctx, l, files.Renewed(api.RelayCertName, nil), a.relayHandler(), a.log, refusedRelay(files))
		}
		if !said && ctx.Err() == nil {
			a.log.Warn("the relay is not answered until this is mended", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(relayAgain):
		}
	}
}

// relayHandler answers what the relay has to know to tell of flows, and nothing that changes anything.
func (a *Agent) relayHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.StatusPath, a.whenOpen(func(w http.ResponseWriter, _ *http.Request, n *node) {
		s := api.Status{Version: version.Version, Node: a.cfg.NodeName, Started: a.started}
		if n.flows != nil {
			s.Flows = new(n.flows.Stats())
		}
		a.answer(w, s)
	}))
	mux.HandleFunc("GET "+api.FlowRecordsPath, a.whenOpen(func(w http.ResponseWriter, r *http.Request, n *node) {
		// The end of the time for a request would be taken for the client's: who follows says nothing more.
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			a.refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		a.flowRecords(w, r, n)
	}))
	return mux
}
