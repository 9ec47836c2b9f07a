package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/verify/probe"
)

func mapChecks() []Check {
	checks := []Check{
		{
			Name: "maps/follow", Modes: []string{modeReplacement, modeEBPF},
			Claim: "Within 2 s of a pod's deletion every node's maps have it no more among a Service's backends, and new connections go to the others.",
			Run:   mapsFollow,
		},
		{
			Name: "maps/services", Modes: []string{modeReplacement, modeEBPF},
			Claim: "On every node the BPF maps have each Service's ClusterIP and nodePort, with exactly its ready pods as backends.",
			Run:   mapsHoldServices,
		},
	}
	for i := range checks {
		checks[i].Run = afterSettling(checks[i].Run)
	}
	return checks
}

// followWithin is how far the maps may be behind the API server.
const followWithin = 2 * time.Second

func mapsHoldServices(ctx context.Context, env *Env, ev *Evidence) error {
	demo, err := env.demoService(ctx)
	if err != nil {
		return err
	}
	for _, service := range []Service{demo, env.Every, env.One} {
		if err := mapsHold(ctx, env, service, ev); err != nil {
			return err
		}
	}
	return nil
}

// mapsHold asks the API server for the backends and each node for what it has.
// A change between the two is no mistake, so there is a while to agree.
func mapsHold(ctx context.Context, env *Env, service Service, ev *Evidence) error {
	return each(env.Nodes, func(node *Node) error {
		timed, cancel := context.WithTimeoutCause(ctx, followWithin, errors.New("the maps do not agree with the API server"))
		defer cancel()
		var last *Evidence
		err := poll(timed, func(ctx context.Context) (bool, error) {
			want, err := env.backendsOf(ctx, service)
			if err != nil {
				return false, err
			}
			have, err := readLB(ctx, node, service.isFrontend)
			if err != nil {
				return false, err
			}
			last = &Evidence{}
			judgeMap(last, node, service, want, have)
			return len(last.wrong) == 0, nil
		})
		if last == nil || err != nil && timed.Err() == nil {
			return err // not even able to look
		}
		for _, line := range last.seen {
			ev.Saw("%s", line)
		}
		for _, line := range last.wrong {
			ev.Wrong("%s", line)
		}
		return nil
	})
}

// isFrontend picks what belongs to the Service: its ClusterIP, and its nodePorts
// at whatever address.
func (s Service) isFrontend(f frontend) bool {
	return f.Addr == s.Addr || f.Protocol == protoTCP && f.Port == s.NodePortTCP || f.Protocol == protoUDP && f.Port == s.NodePortUDP
}

// Protocols as in IP headers.
const (
	protoTCP = 6
	protoUDP = 17
)

// backendsOf lists a Service's ready endpoints by protocol, sorted.
func (e *Env) backendsOf(ctx context.Context, service Service) (map[uint8][]netip.AddrPort, error) {
	all, err := e.Kube.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name,
	})
	if err != nil {
		return nil, fmt.Errorf("list the endpoints of Service %s: %w", service.Name, err)
	}
	found := map[uint8][]netip.AddrPort{}
	for _, slice := range all.Items {
		for _, port := range slice.Ports {
			protocol := uint8(protoTCP)
			if port.Protocol != nil && *port.Protocol == corev1.ProtocolUDP {
				protocol = protoUDP
			}
			for _, each := range slice.Endpoints {
				if each.Conditions.Ready != nil && !*each.Conditions.Ready || len(each.Addresses) == 0 || port.Port == nil {
					continue
				}
				addr, err := netip.ParseAddr(each.Addresses[0])
				if err != nil {
					return nil, fmt.Errorf("read an endpoint of Service %s: %w", service.Name, err)
				}
				found[protocol] = append(found[protocol], netip.AddrPortFrom(addr, uint16(*port.Port))) //nolint:gosec // a port
			}
		}
	}
	for protocol := range found {
		slices.SortFunc(found[protocol], netip.AddrPort.Compare)
	}
	return found, nil
}

// judgeMap wants the Service's frontends to be there, and every one that is
// there to have exactly the wanted backends.
func judgeMap(ev *Evidence, node *Node, service Service, want map[uint8][]netip.AddrPort, have lbMap) {
	for protocol, backends := range want {
		nodePort := service.NodePortTCP
		if protocol == protoUDP {
			nodePort = service.NodePortUDP
		}
		for _, f := range []frontend{
			{service.Addr, service.Port, protocol, scopeInside},
			{node.Addr, nodePort, protocol, scopeInside}, {node.Addr, nodePort, protocol, scopeOutside},
		} {
			if _, ok := have[f]; !ok {
				ev.Wrong("%s: the maps lack %s of Service %s/%s", node.Name, f, service.Namespace, service.Name)
			}
		}
		for f, got := range have {
			if f.Protocol == protocol {
				ev.Expect(slices.Equal(got, backends), "%s: Service %s/%s at %s has backends %v, to be %v", node.Name, service.Namespace, service.Name, f, got, backends)
			}
		}
	}
	if len(want) == 0 {
		ev.Wrong("Service %s/%s has no ready backend to look for", service.Namespace, service.Name)
	}
}

// mapsFollow deletes a pod of the run's own and watches its Service's ClusterIP.
func mapsFollow(ctx context.Context, env *Env, ev *Evidence) error {
	leaver, s := env.Leaver, env.Changing
	if !leaver.Addr.IsValid() {
		_, err := leaver.Probe(ctx, probe.Request{})
		return fmt.Errorf("no pod is there to be deleted: %w", err)
	}
	at := frontend{s.Addr, s.Port, protoTCP, scopeInside}
	has := func(ctx context.Context, node *Node) (bool, error) {
		have, err := readLB(ctx, node, func(f frontend) bool { return f == at })
		return slices.ContainsFunc(have[at], func(b netip.AddrPort) bool { return b.Addr() == leaver.Addr }), err
	}
	if late, err := awaitNodes(ctx, env, has); err != nil || len(late) > 0 {
		ev.Expect(len(late) == 0, "%v have not pod %s, which is ready, among the backends of %s", late, leaver.Self, at)
		return err
	}
	deleted := time.Now()
	err := env.Kube.CoreV1().Pods(Namespace).Delete(ctx, leaver.Self, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete pod %s: %w", leaver.Self, err)
	}
	late, err := awaitNodes(ctx, env, func(ctx context.Context, node *Node) (bool, error) {
		there, err := has(ctx, node)
		return !there, err
	})
	if err != nil || len(late) > 0 {
		ev.Expect(len(late) == 0, "%s after pod %s was deleted %v still have it among the backends of %s", followWithin, leaver.Self, late, at)
		return err
	}
	ev.Saw("%s after pod %s was deleted no node has it among the backends of %s", time.Since(deleted).Round(time.Millisecond), leaver.Self, at)
	return othersAnswer(ctx, env, ev)
}

// awaitNodes waits until ok says so of every node. late names those of which it
// did not in time; the error is that it was not able to look.
func awaitNodes(ctx context.Context, env *Env, ok func(context.Context, *Node) (bool, error)) (late []string, err error) {
	timed, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	var mu sync.Mutex
	err = each(env.Nodes, func(node *Node) error {
		err := poll(timed, func(ctx context.Context) (bool, error) { return ok(ctx, node) })
		if err == nil || timed.Err() == nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		late = append(late, node.Name)
		return ctx.Err()
	})
	slices.Sort(late)
	return late, err
}

// othersAnswer makes connections from every node to the Service that has lost a backend.
func othersAnswer(ctx context.Context, env *Env, ev *Evidence) error {
	return each(env.Nodes, func(node *Node) error {
		answered, failure, err := spread(ctx, node.Host, env.Changing)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s -> Service %s", node.Name, env.Changing.Name)
		ev.Expect(failure == "" && answered[env.Leaver.Self] == 0 && len(answered) > 0, "%s: answered by %v %s", what, answered, failure)
		return nil
	})
}
