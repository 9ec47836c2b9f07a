package reach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"wirelab.dev/wirelab/internal/guard"
)

// answer is what a node says of itself, on both of its addresses.
type answer struct {
	Node     string     `json:"node"`
	Endpoint netip.Addr `json:"endpoint,omitzero"` // of its health endpoint
}

// listen answers on the node's address and on the health endpoint's until
// stop is called.
func (p *Prober) listen(ctx context.Context, ns *namespace) (stop func(), err error) {
	var lc net.ListenConfig
	onNode, err := lc.Listen(ctx, "tcp4", netip.AddrPortFrom(p.cfg.Self.Addr, p.cfg.Port).String())
	if err != nil {
		return nil, fmt.Errorf("listen for other nodes' probes (is the port of clusterHealth.port taken on this node?): %w", err)
	}
	var onEndpoint net.Listener
	err = ns.do(func() (err error) {
		// Any address: the endpoint may get another.
		onEndpoint, err = lc.Listen(ctx, "tcp4", netip.AddrPortFrom(netip.IPv4Unspecified(), p.cfg.Port).String())
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen in the health endpoint: %w", err), onNode.Close())
	}
	srv := &http.Server{Handler: http.HandlerFunc(p.respond)}
	guard.HTTP(srv)
	srv.SetKeepAlivesEnabled(false)
	served := make(chan error, 2)
	for _, l := range []net.Listener{onNode, onEndpoint} {
		go func() { served <- srv.Serve(l) }()
	}
	return func() {
		srv.Close() //nolint:errcheck // what it says of listeners does not matter
		for range 2 {
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				p.cfg.Log.Warn("stopped to answer other nodes' probes", "err", err)
			}
		}
	}, nil
}

func (p *Prober) respond(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.URL.Path != path {
		http.NotFound(w, r)
		return
	}
	p.heard(r.Header.Get(asker))
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(answer{Node: p.cfg.Self.Name, Endpoint: p.healthEndpoint()})
	if err != nil {
		p.cfg.Log.Debug("the other node did not wait for its answer", "err", err)
	}
}

// path is all there is to ask for.
const path = "/v1/node"

// asker is the header with the name of the node that asks.
const asker = "Wirelab-Node"
