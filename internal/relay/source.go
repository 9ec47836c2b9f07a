package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
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
	// again is how long after an agent has stopped to tell it is asked again.
	again = 5 * time.Second
)

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
}

// Flows asks nodes that come, or come back, while they are followed.
func (s *source) Flows(ctx context.Context, f api.FlowFilter, emit func(api.FlowLine) error, stopped func(string, error)) error {
	g := gather.Gathering{Again: again, Stopped: stopped, Nodes: func() (all []gather.Node) {
		for _, p := range s.nodes() {
			all = append(all, gather.Node{Name: p.name, Ask: func(ctx context.Context, f api.FlowFilter, each func(api.FlowLine) bool) error {
				return s.flowsOf(ctx, p, f, each)
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
	late := time.AfterFunc(askTimeout, func() { giveUp(fmt.Errorf("its agent does not answer within %s", askTimeout)) })
	defer late.Stop()
	for line, err := range agent.FlowRecords(asked, f) {
		if err != nil {
			return explain(err)
		}
		late.Stop()
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
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
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
			agent, err := s.agent(p)
			if err != nil {
				return
			}
			if status, err := agent.Status(ctx); err == nil {
				nodes[i].Agent = &status
			}
		})
	}
	asking.Wait()
	return nodes, nil
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

// secrets is what to do where certificates do not fit.
const secrets = "delete the Secrets wirelab-relay and wirelab-relay-agent, and upgrade the release, which makes them anew"

// explain says in a sentence what is the matter with certificates, where it is they.
func explain(err error) error {
	var untrusted *tls.CertificateVerificationError
	var refused *net.OpError
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("its agent's certificate is not to be trusted (%w): %s", untrusted.Err, secrets)
	case errors.As(err, &refused) && refused.Op == "remote error":
		return fmt.Errorf("its agent refuses this relay's certificate, or has none itself (%w): %s", refused.Err, secrets)
	}
	return err
}
