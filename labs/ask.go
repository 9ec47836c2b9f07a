package labs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/command"
	"wirelab.dev/wirelab/internal/kube"
)

// OnNode is what the agent of one node lists.
type OnNode[T any] struct {
	Node    string `json:"node"`
	Entries []T    `json:"entries"`
}

// AskAgents runs a command that lists things with the agent of one node, by its full name or what follows the lab's, or
// of every node when node is empty. Answers are sorted by node. The error says which nodes did not answer and why; the
// answers of the others are there all the same.
func AskAgents[T any](ctx context.Context, l *Lab, node string, args ...string) ([]OnNode[T], error) {
	nodes, err := l.nodesOf(node)
	if err != nil {
		return nil, err
	}
	defer telling(l.say, "waiting for the agents of lab "+l.Name)()
	agents, err := l.agentPods(ctx)
	if err != nil {
		return nil, err
	}
	answers, failures := make([]*OnNode[T], len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			if why := n.Down(); why != "" {
				failures[i] = errors.New(why)
				return
			}
			var entries []T
			failures[i] = whenStarted(ctx, agentPatience, func() (err error) {
				entries, err = askAgent[[]T](ctx, l, agents[n.Name], args...)
				return err
			})
			if failures[i] == nil {
				answers[i] = &OnNode[T]{Node: n.Name, Entries: entries}
			}
		})
	}
	wg.Wait()
	var out []OnNode[T]
	for _, a := range answers {
		if a != nil {
			out = append(out, *a)
		}
	}
	return out, agentsFailed(nodes, failures)
}

// askAgent runs a command with an agent and reads its answer, which is JSON. One that fails and answers all the same, as
// status does where the node is not ready, has answered.
func askAgent[T any](ctx context.Context, l *Lab, agent *corev1.Pod, args ...string) (answer T, err error) {
	if agent == nil {
		return answer, errors.New("no agent pod on this node")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cmd := slices.Concat([]string{agentBinary}, args, []string{"-o", "json"})
	r, err := l.Kube.Exec(ctx, kube.PodRef{Namespace: agent.Namespace, Name: agent.Name, Container: agentContainer}, cmd...)
	if err != nil {
		return answer, err
	}
	return read[T](r)
}

// read is what an agent's command answered.
func read[T any](r command.Result) (answer T, err error) {
	err = json.Unmarshal(r.Stdout, &answer)
	if err != nil && r.Code != 0 {
		var none T
		// What the agent's own command says is a sentence already. One that was killed says nothing.
		if words := strings.TrimPrefix(strings.TrimSpace(string(r.Stderr)), "wirelab-agent: "); words != "" {
			return none, errors.New(words)
		}
		return none, r.Err(agentBinary)
	}
	if err != nil {
		return answer, fmt.Errorf("read the agent's answer: %w", err)
	}
	return answer, nil
}

// agentsFailed says why nodes' agents did not answer.
func agentsFailed(nodes []cluster.Node, failures []error) error {
	explain := explainKubelet
	if len(nodes) == 1 {
		explain = onNode
	}
	for i, n := range nodes {
		failures[i] = explain(n.Name, "the agent", failures[i])
	}
	return nodesFailed(nodes, failures)
}

// nodesFailed says why nodes failed, and once what is the same on all of them.
func nodesFailed(nodes []cluster.Node, failures []error) error {
	var words []string
	var out []error
	for i, err := range failures {
		if err == nil {
			continue
		}
		words = append(words, err.Error())
		out = append(out, fmt.Errorf("node %s: %w", nodes[i].Name, err))
	}
	if len(words) == len(nodes) && len(slices.Compact(words)) == 1 {
		return errors.Unwrap(out[0])
	}
	return errors.Join(out...)
}
