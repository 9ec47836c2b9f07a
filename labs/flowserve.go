package labs

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/flowapi"
)

// ServeFlows speaks the flow API that clients of this field know, on a port of this machine, for all nodes of the lab, until
// ctx ends. It closes listener. secure may be nil.
func (l *Lab) ServeFlows(ctx context.Context, listener net.Listener, secure *tls.Config) error {
	return flowapi.Serve(ctx, listener, flowSource{l}, flowapi.Serving{Cluster: l.Name, Secure: secure})
}

// flowSource is a lab as the flow API asks it.
type flowSource struct{ lab *Lab }

func (s flowSource) Flows(ctx context.Context, f api.FlowFilter, emit func(api.FlowLine) error, stopped func(string, error)) error {
	return s.lab.flows(ctx, "", f, emit, stopped)
}

func (s flowSource) Nodes(ctx context.Context) ([]flowapi.Node, error) {
	agents, err := s.lab.agentPods(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	nodes := make([]flowapi.Node, len(s.lab.Nodes))
	var all sync.WaitGroup
	for i, n := range s.lab.Nodes {
		nodes[i] = flowapi.Node{Name: n.Name, Address: n.IP.String()}
		if n.Down() != "" || agents[n.Name] == nil {
			continue
		}
		all.Go(func() {
			if status, err := s.lab.agentClient(agents[n.Name]).Status(ctx); err == nil {
				nodes[i].Agent = &status
			}
		})
	}
	all.Wait()
	return nodes, nil
}
