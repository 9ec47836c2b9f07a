package labs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/gather"
	"wirelab.dev/wirelab/internal/kube"
)

// Flows hands on the flow records of all nodes, or of one, as [gather.Gathering.Flows] does. The error says which nodes
// did not answer, or stopped to, and why, or that no node knows what f names.
func (l *Lab) Flows(ctx context.Context, node string, f api.FlowFilter, emit func(api.FlowLine) error) error {
	return l.flows(ctx, node, f, emit, func(which string, err error) {
		if node == "" && len(l.Nodes) > 1 && l.say != nil {
			l.say(fmt.Sprintf("node %s tells no more: %v", which, err))
		}
	})
}

// flows is Flows, and calls stopped for each node that is followed and tells no more.
func (l *Lab) flows(ctx context.Context, node string, f api.FlowFilter, emit func(api.FlowLine) error, stopped func(string, error)) error {
	nodes, err := l.nodesOf(node)
	if err != nil {
		return err
	}
	over := telling(l.say, "waiting for the agents of lab "+l.Name)
	defer func() { over() }()
	agents, err := l.agentPods(ctx)
	if err != nil {
		return err
	}
	var asked []gather.Node
	for _, n := range nodes {
		asked = append(asked, gather.Node{Name: n.Name, Ask: func(ctx context.Context, f api.FlowFilter, each func(api.FlowLine) bool) error {
			return l.flowsOf(ctx, n, agents[n.Name], f, each)
		}})
	}
	g := gather.Gathering{
		Nodes:   func() []gather.Node { return asked },
		Started: func() { over(); over = func() {} },
		Stopped: func(node string, err error) { stopped(node, explainKubelet(node, "the agent", err)) },
	}
	err = g.Flows(ctx, f, emit)
	var unknown *gather.Unknown
	var failed *gather.Failures
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: lab endpoint list and lab identity list have what there is", unknown)
	case errors.As(err, &failed):
		failures := make([]error, len(nodes))
		for _, f := range failed.Of {
			failures[slices.IndexFunc(nodes, func(n cluster.Node) bool { return n.Name == f.Node })] = f.Err
		}
		return agentsFailed(nodes, failures)
	}
	return err
}

// agentClient asks an agent over its own API, through its pod.
func (l *Lab) agentClient(agent *corev1.Pod) *client.Client {
	ref := kube.PodRef{Namespace: agent.Namespace, Name: agent.Name, Container: agentContainer}
	return client.NewOver("pod "+ref.String(), func(context.Context) (net.Conn, error) { return l.Kube.Dial(ref, agentBinary, "dial"), nil })
}

// flowsOf hands on what one agent tells until it ends, or each says so.
func (l *Lab) flowsOf(ctx context.Context, n cluster.Node, agent *corev1.Pod, f api.FlowFilter, each func(api.FlowLine) bool) error {
	switch {
	case n.Down() != "":
		return errors.New(n.Down())
	case agent == nil:
		return errors.New("no agent pod on this node")
	}
	return readFlows(ctx, l.agentClient(agent), f, each)
}

// readFlows reads from an agent that may have to start, and begins to answer within beginTimeout.
func readFlows(ctx context.Context, c *client.Client, f api.FlowFilter, each func(api.FlowLine) bool) error {
	asked, giveUp := context.WithCancel(ctx)
	defer giveUp()
	late := time.AfterFunc(beginTimeout, giveUp)
	defer late.Stop()
	begun := false
	var stopped error // of one that had begun, which is not tried again
	err := whenStarted(asked, agentPatience, func() error {
		for line, err := range c.FlowRecords(asked, f) {
			switch {
			case err != nil && begun:
				stopped = err
				return nil
			case err != nil:
				return err
			case !begun && !late.Stop():
				giveUp() // if that is not done yet
				return nil
			case !each(line):
				return nil
			}
			begun = true
		}
		return nil
	})
	if err == nil && !begun && asked.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("its agent does not answer within %s", beginTimeout)
	}
	return errors.Join(err, stopped)
}
