package checks

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func mapChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{
			Name: "maps/follow", Needs: []verify.Part{verify.Services}, Modes: []string{verify.ModeKubeProxyReplacement, verify.ModeEBPF},
			Claim: "Within 2 s of a pod's deletion every node's maps have it no more among a Service's backends, and new connections go to the others.",
			Run:   lookAtServices(env, mapsFollow),
		},
		{
			Name: "maps/services", Needs: []verify.Part{verify.Services}, Modes: []string{verify.ModeKubeProxyReplacement, verify.ModeEBPF},
			Claim: "On every node the BPF maps have each Service's ClusterIP and nodePort, with exactly its ready pods as backends.",
			Run:   lookAtServices(env, mapsHoldServices),
		},
	}
}

// followWithin is how far the maps may be behind the API server.
const followWithin = 2 * time.Second

func mapsHoldServices(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	demo, err := env.DemoService(ctx)
	if err != nil {
		return err
	}
	for _, service := range []field.Service{demo, env.Every, env.One} {
		if err := mapsHold(ctx, env, service, ev); err != nil {
			return err
		}
	}
	return nil
}

// mapsHold asks the API server for the backends and each node for what it has.
// A change between the two is no mistake, so there is a while to agree.
func mapsHold(ctx context.Context, env *field.Env, service field.Service, ev *verify.Evidence) error {
	return verify.Each(env.Nodes, func(node *field.Node) error {
		return lookAgain(ctx, followWithin, ev, func(ctx context.Context, ev *verify.Evidence) error {
			want, err := env.BackendsOf(ctx, service)
			if err != nil {
				return err
			}
			have, err := field.ReadLB(ctx, node, service.IsFrontend)
			if err != nil {
				return err
			}
			judgeMap(ev, node, service, want, have)
			return nil
		})
	})
}

// judgeMap wants the Service's frontends to be there, and every one that is
// there to have exactly the wanted backends.
func judgeMap(ev *verify.Evidence, node *field.Node, service field.Service, want map[uint8][]netip.AddrPort, have field.LBMap) {
	for protocol, backends := range want {
		nodePort := service.NodePortTCP
		if protocol == field.ProtoUDP {
			nodePort = service.NodePortUDP
		}
		for _, f := range []field.Frontend{
			{Addr: service.Addr, Port: service.Port, Protocol: protocol, Scope: field.ScopeInside},
			{Addr: node.Addr, Port: nodePort, Protocol: protocol, Scope: field.ScopeInside}, {Addr: node.Addr, Port: nodePort, Protocol: protocol, Scope: field.ScopeOutside},
		} {
			if _, ok := have[f]; !ok {
				ev.Wrong(fmt.Sprintf("%s: Service %s/%s", node.Name, service.Namespace, service.Name), fmt.Sprintf("%s in the maps", f), fmt.Sprintf("%d other frontends of it in the maps", len(have)))
			}
		}
		for f, got := range have {
			if f.Protocol == protocol {
				ev.Expect(slices.Equal(got, backends), fmt.Sprintf("%s: Service %s/%s at %s", node.Name, service.Namespace, service.Name, f),
					fmt.Sprintf("backends %v", backends), fmt.Sprintf("backends %v", got))
			}
		}
	}
	if len(want) == 0 {
		ev.Wrong(fmt.Sprintf("Service %s/%s", service.Namespace, service.Name), "a ready backend to look for", "none among its endpoints")
	}
}

// mapsFollow deletes a pod of the run's own and watches its Service's ClusterIP.
func mapsFollow(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	leaver, s := env.Leaver, env.Changing
	if !leaver.Addr.IsValid() {
		_, err := leaver.Probe(ctx, probe.Request{})
		return fmt.Errorf("no pod is there to be deleted: %w", err)
	}
	at := field.Frontend{Addr: s.Addr, Port: s.Port, Protocol: field.ProtoTCP, Scope: field.ScopeInside}
	has := func(ctx context.Context, node *field.Node) (bool, error) {
		have, err := field.ReadLB(ctx, node, func(f field.Frontend) bool { return f == at })
		return slices.ContainsFunc(have[at], func(b netip.AddrPort) bool { return b.Addr() == leaver.Addr }), err
	}
	if late, err := awaitNodes(ctx, env, has); err != nil || len(late) > 0 {
		if len(late) > 0 {
			ev.Wrong(fmt.Sprintf("backends of %s", at), fmt.Sprintf("pod %s, which is ready, among them on every node", leaver.Self),
				fmt.Sprintf("%v do not have it", late))
		}
		return err
	}
	deleted := time.Now()
	err := env.Kube.CoreV1().Pods(field.Namespace).Delete(ctx, leaver.Self, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete pod %s: %w", leaver.Self, err)
	}
	late, err := awaitNodes(ctx, env, func(ctx context.Context, node *field.Node) (bool, error) {
		there, err := has(ctx, node)
		return !there, err
	})
	if err != nil || len(late) > 0 {
		if len(late) > 0 {
			ev.Wrong(fmt.Sprintf("backends of %s, %s after pod %s was deleted", at, followWithin, leaver.Self),
				"the pod on no node", fmt.Sprintf("%v still have it", late))
		}
		return err
	}
	ev.Saw("%s after pod %s was deleted no node has it among the backends of %s", time.Since(deleted).Round(time.Millisecond), leaver.Self, at)
	return othersAnswer(ctx, env, ev)
}

// awaitNodes waits until ok says so of every node. late names those of which it
// did not in time; the error is that it was not able to look.
func awaitNodes(ctx context.Context, env *field.Env, ok func(context.Context, *field.Node) (bool, error)) (late []string, err error) {
	timed, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	var mu sync.Mutex
	err = verify.Each(env.Nodes, func(node *field.Node) error {
		err := field.Poll(timed, func(ctx context.Context) (bool, error) { return ok(ctx, node) })
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
func othersAnswer(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	return verify.Each(env.Nodes, func(node *field.Node) error {
		answered, failure, err := field.Spread(ctx, node.Peer, env.Changing)
		if err != nil {
			return err
		}
		ev.Expect(failure == "" && answered[env.Leaver.Self] == 0 && len(answered) > 0, fmt.Sprintf("%s -> Service %s", node.Name, env.Changing.Name),
			"answers by its other backends alone", fmt.Sprintf("answered by %v%s", answered, because(failure)))
		return nil
	})
}
