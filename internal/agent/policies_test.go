package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/agent/notices"
)

func networkPolicy(name string, generation int64) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Generation: generation},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}},
	}
}

// workingNode is one whose agent has reported.
func workingNode(i int) *corev1.Node {
	n := kubeNode(fmt.Sprintf("n%d", i), fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("10.0.%d.0/24", i))
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: conditionReason}}
	return n
}

// manyAgents are the speakers of as many nodes, with one clock.
type manyAgents struct {
	t      *testing.T
	client *fake.Clientset
	kube   *kube
	all    []*policies
	now    time.Time
}

func agentsOf(t *testing.T, nodes int, objects ...runtime.Object) *manyAgents {
	t.Helper()
	for i := range nodes {
		objects = append(objects, workingNode(i+1))
	}
	m := &manyAgents{t: t, client: fake.NewClientset(objects...), now: time.Now()}
	m.kube = startKube(t, m.client)
	for i := range nodes {
		m.all = append(m.all, m.agent(fmt.Sprintf("n%d", i+1)))
	}
	return m
}

func (m *manyAgents) agent(node string) *policies {
	p := newPolicies(m.kube, node, notices.New(m.client, node))
	p.now = func() time.Time { return m.now }
	return p
}

// apply has the agents look, each twice.
func (m *manyAgents) apply(which ...*policies) {
	m.t.Helper()
	for range 2 {
		for _, p := range which {
			if err := p.apply(m.t.Context()); err != nil {
				m.t.Error(err)
			}
		}
	}
}

func (m *manyAgents) events() []corev1.Event {
	m.t.Helper()
	list, err := m.client.CoreV1().Events("").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	return list.Items
}

// creates counts the requests that were made for events.
func (m *manyAgents) creates() (n int) {
	for _, a := range m.client.Actions() {
		if a.Matches("create", "events") {
			n++
		}
	}
	return n
}

func TestEachPolicyIsSaidNotToBeEnforced(t *testing.T) {
	m := agentsOf(t, 20, networkPolicy("deny", 1), networkPolicy(strings.Repeat("long-", 50)+"x", 1))
	m.apply(m.all...)
	events := m.events()
	if len(events) != 2 || m.creates() != 2 {
		t.Fatalf("of two policies %d events, %d requests", len(events), m.creates())
	}
	e := events[slices.IndexFunc(events, func(e corev1.Event) bool { return e.InvolvedObject.Name == "deny" })]
	if e.Type != corev1.EventTypeWarning || e.Reason != notEnforced || !strings.Contains(e.Message, "does not enforce NetworkPolicies") ||
		e.Namespace != "ns" || !strings.HasPrefix(e.Name, "deny.") || e.InvolvedObject.Kind != "NetworkPolicy" ||
		e.InvolvedObject.APIVersion != "networking.k8s.io/v1" || e.InvolvedObject.UID != "uid-deny" || e.Source.Component != notices.Component || e.FirstTimestamp.IsZero() {
		t.Errorf("the event is %+v", e)
	}
	for _, e := range events {
		if len(e.Name) > 253 {
			t.Errorf("an event's name has %d letters", len(e.Name))
		}
	}

	// One that changes is another to say it of.
	np := networkPolicy("deny", 2)
	if _, err := m.client.NetworkingV1().NetworkPolicies("ns").Update(t.Context(), np, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change is known", func() bool {
		got, err := m.kube.policies.NetworkPolicies("ns").Get("deny")
		return err == nil && got.Generation == 2
	})
	m.apply(m.all...)
	if n := len(m.events()); n != 3 || m.creates() != 3 {
		t.Errorf("after a change %d events, %d requests", n, m.creates())
	}
	if got := m.kube.networkPolicies(); got == nil || *got != 2 {
		t.Errorf("the status has %v policies", got)
	}
}

// TestOthersSpeakForOneThatDoesNot holds that a policy is spoken of although
// the agents whose turn it is do not run, and that a cluster's agents do not all
// speak.
func TestOthersSpeakForOneThatDoesNot(t *testing.T) {
	m := agentsOf(t, 20, networkPolicy("deny", 1))
	order := notices.Rank(names20(), "uid-deny", 20)
	var others []*policies
	for _, p := range m.all {
		if p.nodeName != order[0] && p.nodeName != order[1] {
			others = append(others, p)
		}
	}
	for range 3 {
		m.apply(others...)
		if len(m.events()) != 0 {
			t.Fatal("an agent spoke out of turn")
		}
		m.now = m.now.Add(speakerPatience / 2)
	}
	m.now = m.now.Add(speakerPatience)
	m.apply(others...)
	if events := m.events(); len(events) != 1 || events[0].Source.Host != order[2] {
		t.Errorf("events %v, want one of %s", events, order[2])
	}
	m.now = m.now.Add(time.Hour)
	m.apply(m.all...)
	if m.creates() > policySpeakers {
		t.Errorf("%d requests of 20 agents", m.creates())
	}
}

func names20() (names []string) {
	for i := range 20 {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	return names
}

// TestRestartedAgentsSayItOnce holds that the event is the same after a restart.
func TestRestartedAgentsSayItOnce(t *testing.T) {
	m := agentsOf(t, 1, networkPolicy("deny", 1))
	for range 3 {
		m.apply(m.agent("n1"))
	}
	if n := len(m.events()); n != 1 || m.creates() != 3 {
		t.Errorf("%d events, %d requests of three agents in turn", n, m.creates())
	}
}

// TestOnlyNodesWithAnAgentSpeak has nodes that run none.
func TestOnlyNodesWithAnAgentSpeak(t *testing.T) {
	var foreign []runtime.Object
	for i := range 50 {
		foreign = append(foreign, kubeNode(fmt.Sprintf("windows%d", i), "", ""))
	}
	m := agentsOf(t, 1, append(foreign, networkPolicy("deny", 1))...)
	m.apply(m.all...)
	if len(m.events()) != 1 {
		t.Error("nobody speaks")
	}
}

func TestEventsThatCannotBeMade(t *testing.T) {
	gone := &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}},
	}}
	for name, tc := range map[string]struct {
		err   error
		fails bool
	}{
		"there already":      {apierrors.NewAlreadyExists(schema.GroupResource{}, "x"), false},
		"namespace goes":     {gone, false},
		"namespace is gone":  {apierrors.NewNotFound(schema.GroupResource{}, "ns"), false},
		"not allowed":        {apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("no")), true},
		"no API server":      {errors.New("connection refused"), true},
		"too many for quota": {apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("exceeded quota")), true},
	} {
		t.Run(name, func(t *testing.T) {
			m := agentsOf(t, 1, networkPolicy("a", 1), networkPolicy("b", 1), networkPolicy("c", 1), networkPolicy("d", 1), networkPolicy("e", 1))
			tries := 0
			m.client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
				tries++
				return true, nil, tc.err
			})
			err := m.all[0].apply(t.Context())
			if (err != nil) != tc.fails || tc.fails && tries != policyErrors {
				t.Errorf("%d tries, %v", tries, err)
			}
			m.now = m.now.Add(time.Hour)
			before := tries
			if again := m.all[0].apply(t.Context()); (again != nil) != tc.fails || (tries > before) != tc.fails {
				t.Errorf("the next time %d tries, %v", tries-before, again)
			}
		})
	}
}

func TestPoliciesAreKeptWithoutTheirRules(t *testing.T) {
	m := agentsOf(t, 1, networkPolicy("deny", 3))
	got, err := m.kube.policies.NetworkPolicies("ns").Get("deny")
	if err != nil || got.Generation != 3 || len(got.Spec.PolicyTypes) != 0 {
		t.Errorf("kept is %+v, %v", got, err)
	}
}
