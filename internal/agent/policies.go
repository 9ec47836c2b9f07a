package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"wirelab.dev/wirelab/internal/agent/notices"
	"wirelab.dev/wirelab/internal/watch"
)

const (
	// notEnforced is the reason of the events that policies get.
	notEnforced        = "NotEnforced"
	notEnforcedMessage = "wirelab does not enforce NetworkPolicies: traffic that this one does not allow passes as if it were not there"

	// policySpeakers are the nodes whose agents may say so of a policy, and
	// speakerPatience is how long each waits for the one before it.
	policySpeakers  = 3
	speakerPatience = 30 * time.Second
	// policyErrors is after how many the rest has to wait.
	policyErrors = 3
)

// policies says of NetworkPolicies that nobody enforces them: an event on each,
// again when it has changed.
type policies struct {
	kube     *kube
	nodeName string
	teller   notices.Teller
	now      func() time.Time

	seen map[policyVersion]*policyNotice // used by one apply at a time
}

type policyVersion struct {
	uid        types.UID
	generation int64
}

type policyNotice struct {
	first time.Time // when this agent first saw the policy so
	mine  bool      // it was this agent's turn
	done  bool
}

func newPolicies(k *kube, nodeName string, t notices.Teller) *policies {
	return &policies{kube: k, nodeName: nodeName, teller: t, now: time.Now, seen: map[policyVersion]*policyNotice{}}
}

// apply says what is to be said by this node's agent. Others come next in
// turn, in case it does not; the event's name is the same whoever speaks, so it
// is there once. It is to be called again after a while.
func (p *policies) apply(ctx context.Context) error {
	if !p.kube.policyInf.HasSynced() {
		return nil // it is called when there is something
	}
	list, err := p.kube.policies.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list NetworkPolicies: %w", err)
	}
	speakers, err := p.kube.agentNodes()
	if err != nil {
		return err
	}
	var errs []error
	current := map[policyVersion]*policyNotice{}
	for _, np := range list {
		v := policyVersion{np.UID, np.Generation}
		notice := p.seen[v]
		if notice == nil {
			notice = &policyNotice{first: p.now()}
		}
		current[v] = notice
		if len(errs) == policyErrors || notice.done || !p.isTurn(notice, string(np.UID), speakers) {
			continue
		}
		if err := p.teller.Warn(ctx, policyRef(np), np.Generation, notEnforced, notEnforcedMessage); err != nil {
			errs = append(errs, err)
			continue
		}
		notice.done = true
	}
	p.seen = current
	return errors.Join(errs...)
}

// isTurn says whether it is this node's agent that has to speak. When all could
// have had their turn, who had none has none.
func (p *policies) isTurn(n *policyNotice, key string, speakers []string) bool {
	waited := p.now().Sub(n.first)
	if n.mine || waited > policySpeakers*speakerPatience+time.Minute {
		return n.mine
	}
	turn := slices.Index(notices.Rank(speakers, key, policySpeakers), p.nodeName)
	n.mine = turn >= 0 && waited >= time.Duration(turn)*speakerPatience
	return n.mine
}

func policyRef(np *networkingv1.NetworkPolicy) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy",
		Namespace: np.Namespace, Name: np.Name, UID: np.UID, ResourceVersion: np.ResourceVersion,
	}
}

// watch has f called when policies, or what is known of them, may have changed.
func (p *policies) watch(f func()) error {
	return watch.Follow(p.kube.policyInf, "NetworkPolicies", func(_, _ *networkingv1.NetworkPolicy) { f() })
}

// networkPolicies is how many there are; nil until that is known.
func (k *kube) networkPolicies() *int {
	if !k.policyInf.HasSynced() {
		return nil
	}
	list, err := k.policies.List(labels.Everything())
	if err != nil {
		return nil
	}
	return new(len(list))
}

// agentNodes are the nodes that an agent has reported to work, or all where
// none has, sorted.
func (k *kube) agentNodes() ([]string, error) {
	nodes, err := k.nodes.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var all, working []string
	for _, n := range nodes {
		all = append(all, n.Name)
		if slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionFalse && c.Reason == conditionReason
		}) {
			working = append(working, n.Name)
		}
	}
	if len(working) == 0 {
		working = all
	}
	slices.Sort(working)
	return working, nil
}

var stripPolicy = watch.Strip(func(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	meta := watch.Meta(np.ObjectMeta)
	meta.Generation = np.Generation
	return &networkingv1.NetworkPolicy{ObjectMeta: meta}
})
