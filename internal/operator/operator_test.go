package operator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/apiservertest"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/ipam"
)

// bed is a real API server with the chart installed, and what an administrator asks it by.
type bed struct {
	t       *testing.T
	server  *apiservertest.Server
	kube    kubernetes.Interface
	objects *crd.Client
	account *rest.Config // of the operator's service account
	network *network     // which is between operators and the server
}

// newBed installs the chart with a pool of four podCIDRs.
func newBed(t *testing.T) *bed {
	t.Helper()
	server := apiservertest.Start(t)
	server.Install(map[string]any{"ipam": map[string]any{"mode": "cluster-pool"}})
	objects, err := crd.NewClient(server.Config)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, server: server, kube: server.Kubernetes(), objects: objects, account: server.As("kube-system", "wirelab-operator", ""), network: &network{}}
	b.account.Wrap(b.network.of)
	b.eventually("the objects are served", func() error {
		_, err := objects.Nodes.List(t.Context(), one)
		return err
	})
	return b
}

func pool(t *testing.T, mask int, cidrs ...string) *ipam.ClusterPool {
	t.Helper()
	var list []netip.Prefix
	for _, c := range cidrs {
		list = append(list, netip.MustParsePrefix(c))
	}
	p, err := ipam.NewClusterPool(list, mask)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// operator makes one with the rights that the chart gives it.
func (b *bed) operator(identity string, p *ipam.ClusterPool) *Operator {
	b.t.Helper()
	objects, err := crd.NewClient(b.account)
	if err != nil {
		b.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(b.account)
	if err != nil {
		b.t.Fatal(err)
	}
	server := apiserver.Server{Kubernetes: client, Objects: objects}
	return New(Config{Identity: identity, Namespace: "kube-system", Pool: p}, server, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// run runs an operator until stop is called, which returns how it ended.
func (b *bed) run(o *Operator) (stop func() error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	b.t.Cleanup(func() { stop() }) //nolint:errcheck // who cares about how it ends calls stop
	return stop
}

func (b *bed) eventually(what string, ok func() error) {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("it does not come to be that %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// join makes a Node and, as its agent would, its LabNode.
func (b *bed) join(name string) {
	b.t.Helper()
	node, err := b.kube.CoreV1().Nodes().Create(b.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.claim(node)
}

// claim is the first thing that a node's agent does.
func (b *bed) claim(node *corev1.Node) {
	b.t.Helper()
	ctx := b.t.Context()
	have, err := b.objects.Nodes.Get(ctx, node.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		made := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: node.Name}, Spec: crd.LabNodeSpec{NodeUID: node.UID}}
		_, err = b.objects.Nodes.Create(ctx, made, metav1.CreateOptions{})
	} else if err == nil {
		have.Spec.NodeUID = node.UID
		_, err = b.objects.Nodes.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// leave deletes the Node.
func (b *bed) leave(name string) {
	b.t.Helper()
	if err := b.kube.CoreV1().Nodes().Delete(b.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// given are the podCIDRs by node, as the API server has them. It fails the test when two overlap.
func (b *bed) given() map[string]string {
	b.t.Helper()
	list, err := b.objects.Nodes.List(b.t.Context(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	var all []netip.Prefix
	for _, n := range list.Items {
		for _, p := range n.Spec.PodCIDRs {
			if slices.ContainsFunc(all, p.Overlaps) {
				b.t.Fatalf("%s of %s overlaps another node's: %v", p, n.Name, out)
			}
			all = append(all, p)
			out[n.Name] = p.String()
		}
	}
	return out
}

func (b *bed) awaitGiven(want map[string]string) {
	b.t.Helper()
	b.eventually("nodes have their podCIDRs", func() error {
		if got := b.given(); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("got %v, want %v", got, want)
		}
		return nil
	})
}

func TestPodCIDRsAreGiven(t *testing.T) {
	b := newBed(t)
	stop := b.run(b.operator("a", pool(t, 24, "10.0.0.0/23")))
	b.join("n1")
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24"})
	b.join("n2")
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24", "n2": "10.0.1.0/24"})

	// The pool is used up: the node waits, and it is said where.
	b.join("n3")
	b.eventually("the problem is said", func() error {
		n, err := b.objects.Nodes.Get(t.Context(), "n3", metav1.GetOptions{})
		if err != nil || !strings.Contains(n.Status.Problem, "10.0.0.0/23") || !strings.Contains(n.Status.Problem, "ipam.operator.clusterPoolIPv4PodCIDRList") {
			return fmt.Errorf("%+v, %w", n.Status, err)
		}
		events, err := b.kube.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=n3"})
		if err != nil || len(events.Items) != 1 || events.Items[0].Reason != reasonPoolUsedUp || events.Items[0].Message != n.Status.Problem {
			return fmt.Errorf("%+v, %w", events, err)
		}
		return nil
	})
	// Another CIDR helps at once, and the problem is gone.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.run(b.operator("b", pool(t, 24, "10.0.0.0/23", "10.9.0.0/24")))
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24", "n2": "10.0.1.0/24", "n3": "10.9.0.0/24"})
	b.eventually("no problem is left", func() error {
		n, err := b.objects.Nodes.Get(t.Context(), "n3", metav1.GetOptions{})
		if err != nil || n.Status.Problem != "" {
			return fmt.Errorf("%q, %w", n.Status.Problem, err)
		}
		return nil
	})
}

// TestProblemGoesWithItsReason: a node that waited for a podCIDR, and has one of whoever else, has no problem.
func TestProblemGoesWithItsReason(t *testing.T) {
	b := newBed(t)
	for name, p := range map[string]*ipam.ClusterPool{"n1": pool(t, 24, "10.0.0.0/16"), "n2": nil} {
		b.join(name)
		n, err := b.objects.Nodes.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Spec.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		if n, err = b.objects.Nodes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		n.Status.Problem = "it waits"
		if _, err = b.objects.Nodes.UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		stop := b.run(b.operator(name, p))
		b.eventually("no problem is left", func() error {
			n, err := b.objects.Nodes.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || n.Status.Problem != "" {
				return fmt.Errorf("%q, %w", n.Status.Problem, err)
			}
			return nil
		})
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestAgentsGiveNoPodCIDRs: an agent makes its node's object, and the podCIDR in it is the operator's.
func TestAgentsGiveNoPodCIDRs(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	if _, err := b.kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := b.kube.CoreV1().Pods("kube-system").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       corev1.PodSpec{NodeName: "n1", ServiceAccountName: "wirelab-agent", Containers: []corev1.Container{{Name: "agent", Image: "none"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := crd.NewClient(b.server.As("kube-system", "wirelab-agent", "agent"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(err error) error {
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "the operator gives out podCIDRs") {
			return fmt.Errorf("it is not refused: %w", err)
		}
		return nil
	}
	own := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: crd.LabNodeSpec{NodeUID: "u", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}}
	b.eventually("a podCIDR of one's own is refused", func() error { // policies take effect a moment after they are made
		_, err := agent.Nodes.Create(ctx, own, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return refused(err)
	})
	own.Spec.PodCIDRs = nil
	if _, err := agent.Nodes.Create(ctx, own, metav1.CreateOptions{}); err != nil {
		t.Fatalf("an object without one: %v", err)
	}
	b.run(b.operator("a", pool(t, 24, "10.0.0.0/16")))
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24"})
	made, err := b.objects.Nodes.Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Spec.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	if made, err = agent.Nodes.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("another address: %v", err)
	}
	made.Spec.PodCIDRs[0] = netip.MustParsePrefix("10.0.7.0/24")
	if _, err := agent.Nodes.Update(ctx, made, metav1.UpdateOptions{}); refused(err) != nil {
		t.Error(refused(err))
	}
}

// TestLateWriterIsRefused is why two leaders never give one podCIDR to two nodes: what the old one decided before the new
// one began is refused.
func TestLateWriterIsRefused(t *testing.T) {
	b := newBed(t)
	old := &giver{Operator: b.operator("old", pool(t, 24, "10.0.0.0/16"))}
	b.holdLease("old")
	b.join("n1")
	b.join("n2")
	// The old one decides, and is held up before it writes.
	decided, err := old.decidable(t.Context())
	if err != nil || len(decided) != 2 {
		t.Fatalf("%v, %v", decided, err)
	}
	// The new one takes over, and gives the first node what the old one has for the second.
	b.holdLease("new")
	next := &giver{Operator: b.operator("new", pool(t, 24, "10.0.1.0/24", "10.0.0.0/24"))}
	if err := next.fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.join("n3")
	list, err := next.decidable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := next.give(t.Context(), &list[0], netip.MustParsePrefix("10.0.1.0/24")); err != nil {
		t.Fatal(err)
	}
	for i, cidr := range []string{"10.0.0.0/24", "10.0.1.0/24"} {
		if err := old.give(t.Context(), &decided[i], netip.MustParsePrefix(cidr)); !apierrors.IsConflict(err) {
			t.Errorf("what the old one decided for %s was not refused: %v", decided[i].Name, err)
		}
	}
	if _, err := old.decidable(t.Context()); !errors.Is(err, errLost) {
		t.Errorf("the old one decides again: %v", err)
	}
	b.given()

	// The control: without the fence it would have been taken.
	b.holdLease("old")
	b.join("n4")
	decided, err = old.decidable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.holdLease("new")
	i := slices.IndexFunc(decided, func(n crd.LabNode) bool { return n.Name == "n4" })
	if err := old.give(t.Context(), &decided[i], netip.MustParsePrefix("10.0.7.0/24")); err != nil {
		t.Errorf("without the fence: %v", err)
	}
}

// holdLease makes an operator the leader by the API server's word.
func (b *bed) holdLease(identity string) {
	b.t.Helper()
	leases := b.kube.CoordinationV1().Leases("kube-system")
	// The operator that leads renews the lease at the same time.
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		lease, err := leases.Get(b.t.Context(), leaseName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			lease.Name, lease.Spec.HolderIdentity = leaseName, &identity
			_, err = leases.Create(b.t.Context(), lease, metav1.CreateOptions{})
		} else if err == nil {
			lease.Spec.HolderIdentity = &identity
			_, err = leases.Update(b.t.Context(), lease, metav1.UpdateOptions{})
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestLateWriteIsRefused is why one leader never gives one podCIDR to two nodes: what it has written, and given up waiting
// for, is refused when it decides again, or is in the list that it decides on.
func TestLateWriteIsRefused(t *testing.T) {
	b := newBed(t)
	b.holdLease("a")
	g := &giver{Operator: b.operator("a", pool(t, 24, "10.0.0.0/16"))}
	always := func() bool { return true }
	decide := func(names ...string) (list []crd.LabNode) {
		t.Helper()
		decided, err := g.decidable(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			list = append(list, decided[slices.IndexFunc(decided, func(n crd.LabNode) bool { return n.Name == name })])
		}
		return list
	}
	b.join("n1")
	first := decide("n1")
	b.network.holds = always
	if err := g.giveAll(t.Context(), first); err == nil || len(b.network.held) != 1 {
		t.Fatalf("%v, %d writes are held", err, len(b.network.held))
	}
	b.network.holds = nil
	b.join("n2")
	second := decide("n2", "n1")
	if code := b.network.deliver(t, 0); code != http.StatusConflict {
		t.Errorf("what was decided before comes late, and the API server answers %d", code)
	}
	if err := g.giveAll(t.Context(), second); err != nil {
		t.Error(err)
	}
	b.awaitGiven(map[string]string{"n1": "10.0.1.0/24", "n2": "10.0.0.0/24"})

	// One that comes before the giver decides again counts.
	b.join("n3")
	third := decide("n3", "n1", "n2")
	b.network.holds = always
	if err := g.giveAll(t.Context(), third); err == nil {
		t.Error("a write that is held has succeeded")
	}
	b.network.holds = nil
	if code := b.network.deliver(t, 0); code != http.StatusOK {
		t.Errorf("the API server answers %d", code)
	}
	b.join("n4")
	if err := g.giveAll(t.Context(), decide("n4", "n1", "n2", "n3")); err != nil {
		t.Error(err)
	}
	b.awaitGiven(map[string]string{"n1": "10.0.1.0/24", "n2": "10.0.0.0/24", "n3": "10.0.2.0/24", "n4": "10.0.3.0/24"})
}

// network carries what operators write, and can be slower than they wait.
type network struct {
	holds func() bool // whether what is written to a LabNode is; nil: nothing
	held  []heldWrite
}

type heldWrite struct {
	by http.RoundTripper
	*http.Request
}

// of is the network in front of a client's own.
func (n *network) of(rt http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if n.holds == nil || r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/labnodes/") || !n.holds() {
			return rt.RoundTrip(r)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		late := r.Clone(context.WithoutCancel(r.Context()))
		late.Body = io.NopCloser(bytes.NewReader(body))
		n.held = append(n.held, heldWrite{rt, late})
		return nil, os.ErrDeadlineExceeded
	})
}

// deliver has one of the held writes arrive, and returns what the API server says.
func (n *network) deliver(t *testing.T, i int) (code int) {
	t.Helper()
	w := n.held[i]
	n.held = slices.Delete(n.held, i, i+1)
	answer, err := w.by.RoundTrip(w.Request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNoOverlapEver has nodes come, go and return in random order, while operators take the lead from each other, some of
// them without having been told that they lost it, and what they write arrives late, if at all. A seed says all of it.
func TestNoOverlapEver(t *testing.T) {
	b := newBed(t)
	for _, seed := range []uint64{1, 2, 3, 4, 5, 6, uint64(time.Now().UnixNano())} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			of := *b
			of.t = t
			of.comeAndGo(rand.New(rand.NewPCG(seed, 1)))
		})
		if t.Failed() {
			break // what it left is not what another begins with
		}
	}
}

// comeAndGo leaves no node behind.
func (b *bed) comeAndGo(r *rand.Rand) {
	t := b.t
	pools := []*ipam.ClusterPool{pool(t, 24, "10.0.0.0/20"), pool(t, 25, "10.0.8.0/21", "10.0.0.0/22"), pool(t, 24, "10.0.0.0/22")}
	type late struct {
		giver   *giver
		decided []crd.LabNode
	}
	var waiting []late
	var leader *giver
	nodes := map[string]bool{}
	leaves := func(name string) { // and its LabNode, which has rested, is collected
		b.leave(name)
		b.collect(name)
		delete(nodes, name)
	}
	// slowly does something, at times with some of its writes held.
	slowly := func(do func() error) error {
		if r.IntN(3) == 0 {
			b.network.holds = func() bool { return r.IntN(2) == 0 }
		}
		defer func() { b.network.holds = nil }()
		return do()
	}
	for step := range 150 {
		switch r.IntN(7) {
		case 0, 1:
			if name := fmt.Sprintf("n%02d", r.IntN(30)); !nodes[name] {
				b.join(name)
				nodes[name] = true
			}
		case 2:
			if len(nodes) > 0 {
				leaves(slices.Sorted(maps.Keys(nodes))[r.IntN(len(nodes))])
			}
		case 3: // another one leads, which ends when it cannot begin
			identity := fmt.Sprintf("op%d", step)
			b.holdLease(identity)
			leader = &giver{Operator: b.operator(identity, pools[r.IntN(len(pools))])}
			if slowly(func() error { return leader.fence(t.Context()) }) != nil {
				leader = nil
			}
		case 4: // the leader decides, and is late with it
			if leader == nil || slices.ContainsFunc(waiting, func(w late) bool { return w.giver == leader }) {
				continue // it does one thing after the other
			}
			var decided []crd.LabNode
			if slowly(func() (err error) { decided, err = leader.decidable(t.Context()); return err }) != nil {
				continue
			}
			// When they were made is in seconds, of which no seed tells.
			slices.SortFunc(decided, func(a, b crd.LabNode) int { return strings.Compare(a.Name, b.Name) })
			r.Shuffle(len(decided), func(i, j int) { decided[i], decided[j] = decided[j], decided[i] })
			waiting = append(waiting, late{leader, decided})
		case 5: // one that decided at some time writes
			if len(waiting) == 0 {
				continue
			}
			i := r.IntN(len(waiting))
			w := waiting[i]
			waiting = slices.Delete(waiting, i, i+1)
			slowly(func() error { return w.giver.giveAll(t.Context(), w.decided) }) //nolint:errcheck // most are refused
		case 6: // what was written at some time arrives
			if len(b.network.held) > 0 {
				b.network.deliver(t, r.IntN(len(b.network.held)))
			}
		}
		b.given()
	}
	for name := range nodes {
		leaves(name)
	}
	b.network.held = nil
}

// collect deletes a LabNode as the operator does.
func (b *bed) collect(name string) {
	b.t.Helper()
	if err := b.operator("collector", nil).objects.Nodes.Delete(b.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

func TestTwoOperatorsAtOnce(t *testing.T) {
	b := newBed(t)
	p := pool(t, 24, "10.0.0.0/16")
	ops := []*Operator{b.operator("a", p), b.operator("b", p)}
	stops := []func() error{b.run(ops[0]), b.run(ops[1])}
	for _, o := range ops {
		b.eventually("both are ready", o.Ready)
		if err := o.Healthy(); err != nil {
			t.Error(err)
		}
	}
	b.join("n1")
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24"})
	leads := 0
	if ops[1].election.held(t.Context()) == nil {
		leads = 1
	} else if err := ops[0].election.held(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stops[leads](); err != nil {
		t.Errorf("the leader ends with %v", err)
	}
	b.join("n2")
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24", "n2": "10.0.1.0/24"})
}

// TestLostLead: who has lost the lead ends, to begin anew under another name.
func TestLostLead(t *testing.T) {
	b := newBed(t)
	o := b.operator("a", pool(t, 24, "10.0.0.0/16"))
	ended := make(chan error, 1)
	go func() { ended <- o.Run(t.Context()) }()
	b.eventually("it leads", func() error { return o.election.held(t.Context()) })
	b.holdLease("b")
	select {
	case err := <-ended:
		if !errors.Is(err, errLost) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it leads on")
	}
}

func TestGoneAndReturned(t *testing.T) {
	b := newBed(t)
	o := b.operator("a", pool(t, 24, "10.0.0.0/16"))
	b.run(o)
	b.join("n1")
	b.join("n2")
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24", "n2": "10.0.1.0/24"})
	clock := time.Now()
	c := &collector{Operator: o, now: func() time.Time { return clock }}
	marked := func(name string, want bool) {
		t.Helper()
		b.eventually(fmt.Sprintf("%s has a mark: %v", name, want), func() error {
			n, err := b.objects.Nodes.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || (n.Annotations[crd.NodeGone] != "") != want {
				return fmt.Errorf("%v, %w", n.Annotations, err)
			}
			cached := o.labNodes.Find(name)
			if cached == nil || cached.ResourceVersion != n.ResourceVersion {
				return errors.New("the cache is behind")
			}
			return nil
		})
	}
	// A node that goes keeps its podCIDR for a while, and has it again when it returns in time.
	b.leave("n1")
	b.leave("n2")
	marked("n1", true)
	marked("n2", true)
	node, err := b.kube.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	marked("n1", false)
	b.claim(node)
	clock = clock.Add(nodeRest - 5*time.Second)
	if err := c.nodesGone(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24", "n2": "10.0.1.0/24"})
	clock = clock.Add(10 * time.Second)
	if err := c.nodesGone(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.awaitGiven(map[string]string{"n1": "10.0.0.0/24"})
	// Nobody else takes an object away.
	if err := b.objects.Nodes.Delete(t.Context(), "n1", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "some minutes after the node") {
		t.Errorf("an administrator deletes a LabNode: %v", err)
	}
}

// TestReturnBeatsTheCollector: an agent that has written its LabNode keeps it, although the operator was about to take it.
func TestReturnBeatsTheCollector(t *testing.T) {
	b := newBed(t)
	o := b.operator("a", nil)
	c := &collector{Operator: o, now: time.Now}
	b.join("n1")
	n, err := b.objects.Nodes.Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Annotations = map[string]string{crd.NodeGone: time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}
	if n, err = b.objects.Nodes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.claim(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "another"}})
	if err := visit(t.Context(), c, o.objects.Nodes, n, n.DeepCopy, crd.NodeGone, true, nodeRest); err != nil {
		t.Fatal(err)
	}
	got, err := b.objects.Nodes.Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil || got.Spec.NodeUID != "another" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := visit(t.Context(), c, o.objects.Nodes, got, got.DeepCopy, crd.NodeGone, true, nodeRest); err != nil {
		t.Fatal(err)
	}
	if _, err := b.objects.Nodes.Get(t.Context(), "n1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the newest is not taken: %v", err)
	}
}

func TestUnusedIdentities(t *testing.T) {
	b := newBed(t)
	o := b.operator("a", nil)
	b.run(o)
	ctx := t.Context()
	for _, number := range []string{"300", "301"} {
		i := &crd.LabIdentity{ObjectMeta: metav1.ObjectMeta{Name: number}, Spec: crd.LabIdentitySpec{Namespace: "default", ServiceAccount: "default"}}
		if _, err := b.objects.Identities.Create(ctx, i, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b.join("n1")
	n, err := b.objects.Nodes.Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status.Endpoints = []crd.Endpoint{{Address: netip.MustParseAddr("10.0.0.7"), Identity: 300, Pod: "default/a"}}
	if _, err := b.objects.Nodes.UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	c := &collector{Operator: o, now: func() time.Time { return clock }}
	visit := func() {
		t.Helper()
		b.eventually("the cache has it all", func() error {
			list, err := b.objects.Identities.List(ctx, metav1.ListOptions{})
			for _, i := range list.Items {
				if cached := o.identities.Find(i.Name); cached == nil || cached.ResourceVersion != i.ResourceVersion {
					return fmt.Errorf("not identity %s", i.Name)
				}
			}
			if n := o.labNodes.Find("n1"); n == nil || len(n.Status.Endpoints) == 0 {
				return errors.New("not the endpoint")
			}
			return err
		})
		if err := c.identitiesUnused(ctx); err != nil {
			t.Fatal(err)
		}
	}
	visit()
	unused, err := b.objects.Identities.Get(ctx, "301", metav1.GetOptions{})
	if err != nil || unused.Annotations[crd.Unused] == "" {
		t.Fatalf("an unused one has no mark: %+v, %v", unused, err)
	}
	clock = clock.Add(identity.Rest - time.Minute)
	visit()
	if _, err := b.objects.Identities.Get(ctx, "301", metav1.GetOptions{}); err != nil {
		t.Errorf("it went too soon: %v", err)
	}
	clock = clock.Add(2 * time.Minute)
	visit()
	if _, err := b.objects.Identities.Get(ctx, "301", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it stays: %v", err)
	}
	used, err := b.objects.Identities.Get(ctx, "300", metav1.GetOptions{})
	if err != nil || used.Annotations[crd.Unused] != "" {
		t.Errorf("one in use: %+v, %v", used, err)
	}
}
