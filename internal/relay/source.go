package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/flowapi"
	"wirelab.dev/wirelab/internal/gather"
	"wirelab.dev/wirelab/internal/mtls"
)

const (
	// askTimeout is how long an agent may take to answer, or to begin to.
	askTimeout = 5 * time.Second
	// troubleApart is how long after what is the matter with an agent is logged it may be logged again.
	troubleApart = time.Minute
	// again is how long after an agent has stopped to tell it is asked again.
	again = 5 * time.Second
)

// errSilent is why an agent is given up.
var errSilent = fmt.Errorf("its agent does not answer within %s", askTimeout)

// place is where a node's agent is.
type place struct {
	name string
	addr netip.Addr // invalid where the node has none yet
}

// places are those of the nodes there are, sorted by name.
func places(nodes []*crd.LabNode) (all []place) {
	for _, n := range nodes {
		if n.Annotations[crd.NodeGone] != "" {
			continue
		}
		p := place{name: n.Name}
		if len(n.Spec.Addresses) > 0 {
			p.addr = n.Spec.Addresses[0]
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b place) int { return strings.Compare(a.name, b.name) })
	return all
}

// source asks the agents of all nodes, each on its node's address.
type source struct {
	nodes func() []place
	files mtls.Files
	port  uint16
	log   *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time // by node, when its trouble was logged
}

func newSource(nodes func() []place, files mtls.Files, port uint16, log *slog.Logger) *source {
	return &source{nodes: nodes, files: files, port: port, log: log, said: map[string]time.Time{}}
}

// tell logs what is the matter with a node's agent, now and then; nil: nothing is.
func (s *source) tell(node string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.said, node)
		return
	}
	if last, ok := s.said[node]; ok && time.Since(last) < troubleApart {
		return
	}
	s.said[node] = time.Now()
	s.log.Warn("an agent does not tell of its flows", "node", node, "err", err)
}

// Flows asks nodes that come, or come back, while they are followed.
func (s *source) Flows(ctx context.Context, f api.FlowFilter, emit func(api.FlowLine) error, stopped func(string, error)) error {
	g := gather.Gathering{Again: again, Stopped: stopped, Nodes: func() (all []gather.Node) {
		for _, p := range s.nodes() {
			all = append(all, gather.Node{Name: p.name, Ask: func(ctx context.Context, f api.FlowFilter, each func(api.FlowLine) bool) error {
				err := s.flowsOf(ctx, p, f, each)
				if err != nil && ctx.Err() == nil {
					s.tell(p.name, err)
				}
				return err
			}})
		}
		return all
	}}
	return g.Flows(ctx, f, emit)
}

// flowsOf hands on what the agent of one node tells, which has to begin within askTimeout.
func (s *source) flowsOf(ctx context.Context, p place, f api.FlowFilter, each func(api.FlowLine) bool) error {
	agent, err := s.agent(p)
	if err != nil {
		return err
	}
	asked, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	late := time.AfterFunc(askTimeout, func() { giveUp(errSilent) })
	defer late.Stop()
	begun := false
	for line, err := range agent.FlowRecords(asked, f) {
		switch {
		case err != nil && begun:
			return err
		case err != nil:
			return s.explain(err)
		case !begun:
			begun = true
			late.Stop()
			s.tell(p.name, nil)
		}
		if !each(line) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(asked)
}

// Nodes asks all agents how they are.
func (s *source) Nodes(ctx context.Context) ([]flowapi.Node, error) {
	asked, cancel := context.WithTimeoutCause(ctx, askTimeout, errSilent)
	defer cancel()
	all := s.nodes()
	nodes := make([]flowapi.Node, len(all))
	var asking sync.WaitGroup
	for i, p := range all {
		nodes[i].Name = p.name
		if p.addr.IsValid() {
			nodes[i].Address = p.addr.String()
		}
		asking.Go(func() {
			var err error
			if nodes[i].Agent, err = s.status(asked, p); ctx.Err() == nil {
				s.tell(p.name, err)
			}
		})
	}
	asking.Wait()
	return nodes, nil
}

// status asks a node's agent how it is.
func (s *source) status(ctx context.Context, p place) (*api.Status, error) {
	agent, err := s.agent(p)
	if err != nil {
		return nil, err
	}
	status, err := agent.Status(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, s.explain(err)
	}
	return &status, nil
}

// agent is that of a node. The relay's files are read at each connection, so that new ones count.
func (s *source) agent(p place) (*client.Client, error) {
	if !p.addr.IsValid() {
		return nil, errors.New("its LabNode has no address yet")
	}
	at := netip.AddrPortFrom(p.addr, s.port).String()
	return client.NewOver(at, func(ctx context.Context) (net.Conn, error) {
		secure, err := s.files.Client(time.Now(), api.AgentCertName)
		if err != nil {
			return nil, fmt.Errorf("this relay has nothing to show agents: %w", err)
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: askTimeout}, Config: secure}
		return d.DialContext(ctx, "tcp", at)
	}), nil
}

// explain says in a sentence what is the matter with certificates, where it is they, and what to do.
func (s *source) explain(err error) error {
	var untrusted *tls.CertificateVerificationError
	var refused *net.OpError
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("its agent's certificate is not to be trusted (%w): %s", untrusted.Err, s.files.Mend)
	case errors.As(err, &refused) && refused.Op == "remote error":
		return fmt.Errorf("its agent refuses this relay's certificate, or has none itself (%w): %s", refused.Err, s.files.Mend)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE): // a refusal that came while the request was written
		return fmt.Errorf("its agent ends the connection (%w): if its log says that certificates are the matter, %s", err, s.files.Mend)
	}
	return err
}
