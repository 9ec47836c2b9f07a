package labs

import (
	"context"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/gather"
)

// followAgain is how long after an agent has stopped to tell of flows it is asked again.
const followAgain = 5 * time.Second

// FollowFlows hands the flow records of all nodes to emit as they come, in the order of their times, from those of the last
// minute on, until ctx ends, which is no error. A node whose agent stops to tell is asked again. heard is told of every node
// when it begins to tell, with nil, and why when it stops to. That no node tells anything at first is an error.
func (l *Lab) FollowFlows(ctx context.Context, emit func(api.FlowLine) error, heard func(node string, err error)) error {
	var all []gather.Node
	for _, n := range l.Nodes {
		all = append(all, gather.Node{Name: n.Name, Ask: func(ctx context.Context, f api.FlowFilter, each func(api.FlowLine) bool) error {
			agents, err := l.agentPods(ctx) // each time, as it may be another pod
			if err != nil {
				return err
			}
			return l.flowsOf(ctx, n, agents[n.Name], f, func(line api.FlowLine) bool {
				if line.Start != nil {
					heard(n.Name, nil)
				}
				return each(line)
			})
		}})
	}
	g := gather.Gathering{
		Nodes: func() []gather.Node { return all }, Again: followAgain,
		Stopped: func(node string, err error) { heard(node, explainKubelet(node, "the agent", err)) },
	}
	return g.Flows(ctx, api.FlowFilter{Follow: true, Since: time.Now().Add(-time.Minute), Last: -1}, emit)
}
