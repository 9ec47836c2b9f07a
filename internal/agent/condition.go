package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/api"
)

// conditionReason is the reason of the NetworkUnavailable condition we set.
const conditionReason = "WirelabIsUp"

// nodeCondition says in the node's status that its network works. Cloud
// providers start nodes with NetworkUnavailable=True, and the scheduler keeps
// pods off them until a network says otherwise.
type nodeCondition struct {
	client   kubernetes.Interface
	kube     *kube
	nodeName string
	// health may be nil, and returns nil where nodes do not probe each other.
	health func() *api.ClusterHealth
}

// fewUnreached is how many nodes the condition's message names.
const fewUnreached = 3

// message says that the node's network works, and which nodes are not reached
// from it in every way.
func (c nodeCondition) message() string {
	text := "wirelab carries the traffic of this node's pods"
	if c.health == nil {
		return text
	}
	h := c.health()
	if h == nil {
		return text
	}
	var failing []string
	for _, n := range h.Nodes {
		if n.Failing != "" {
			failing = append(failing, n.Failing)
		}
	}
	if len(failing) == 0 {
		return text
	}
	text += fmt.Sprintf("; of %d nodes, %d answer icmp and %d tcp", len(h.Nodes), h.ICMP, h.TCP)
	for _, sentence := range failing[:min(len(failing), fewUnreached)] {
		text += "; " + sentence
	}
	if more := len(failing) - fewUnreached; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// apply sets the condition unless it is set already. When only its message has
// changed, it stays as old as it is.
func (c nodeCondition) apply(ctx context.Context) error {
	node, err := c.kube.nodes.Get(c.nodeName)
	if err != nil {
		return fmt.Errorf("look up this node: %w", err)
	}
	message := c.message()
	now := metav1.NewTime(time.Now())
	since := now
	for _, have := range node.Status.Conditions {
		if have.Type != corev1.NodeNetworkUnavailable || have.Status != corev1.ConditionFalse || have.Reason != conditionReason {
			continue
		}
		if have.Message == message {
			return nil
		}
		since = have.LastTransitionTime
	}
	return c.patch(ctx, map[string]any{
		"type": corev1.NodeNetworkUnavailable, "status": corev1.ConditionFalse,
		"reason": conditionReason, "message": message,
		"lastHeartbeatTime": now, "lastTransitionTime": since,
	})
}

// clean removes the condition.
func (c nodeCondition) clean(ctx context.Context) error {
	return c.patch(ctx, map[string]any{"type": corev1.NodeNetworkUnavailable, "$patch": "delete"})
}

func (c nodeCondition) patch(ctx context.Context, condition map[string]any) error {
	body, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{condition}}})
	if err != nil {
		return fmt.Errorf("encode the node's condition: %w", err)
	}
	_, err = c.client.CoreV1().Nodes().Patch(ctx, c.nodeName, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("set condition %s of node %s: %w", corev1.NodeNetworkUnavailable, c.nodeName, err)
	}
	return nil
}
