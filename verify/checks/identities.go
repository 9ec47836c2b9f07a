package checks

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

func identityChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{
			Name: "identities/by-labels", Needs: []verify.Part{verify.Nodes, verify.Pods},
			Claim: "Every node knows the run's pods by their addresses as the same identities: pods of the same labels have one, whatever node they are on, and pods of other labels another.",
			Run:   onceTold(env, identitiesByLabels),
		},
		{
			Name: "identities/as-told", Needs: []verify.Part{verify.Nodes},
			Claim: "Whomever a node takes for the holder of a pod's address, the LabNode of that pod's node tells of the same identity there.",
			Run:   onceTold(env, identitiesAsTold),
		},
	}
}

const (
	// told is how long nodes may take to tell each other of pods.
	told = 3 * time.Second
	// firstOfPods is the lowest number that labels have; those below are reserved.
	firstOfPods = 256
)

// onceTold has a check look again while nodes may not have told each other.
func onceTold(env *field.Env, run looker) func(context.Context, *verify.Evidence) error {
	return func(ctx context.Context, ev *verify.Evidence) error {
		return lookAgain(ctx, told, ev, func(ctx context.Context, ev *verify.Evidence) error { return run(ctx, env, ev) })
	}
}

func identitiesByLabels(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	for _, node := range env.Nodes {
		for _, pod := range []field.Peer{node.Server, node.Client} {
			if !pod.Addr.IsValid() {
				return fmt.Errorf("%s has no address", pod.Name)
			}
		}
	}
	server := env.Nodes[0].Server // which all servers have the labels of
	first, err := field.ReadIPCache(ctx, env.Nodes[0])
	if err != nil {
		return err
	}
	want := first[field.Single(server.Addr)].Identity
	if want < firstOfPods {
		ev.Wrong(fmt.Sprintf("%s: %s at %s", env.Nodes[0].Name, server.Name, server.Addr), "the identity of its labels, 256 or more", fmt.Sprintf("identity %d", want))
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		have, err := field.ReadIPCache(ctx, node)
		if err != nil {
			return err
		}
		right := true
		known := func(pod field.Peer) uint32 { return have[field.Single(pod.Addr)].Identity }
		judge := func(ok bool, pod field.Peer, want string) {
			if !ok {
				right = false
				ev.Wrong(fmt.Sprintf("%s: %s at %s", node.Name, pod.Name, pod.Addr), want, fmt.Sprintf("identity %d", known(pod)))
			}
		}
		for _, on := range env.Nodes {
			judge(known(on.Server) == want, on.Server, fmt.Sprintf("identity %d, as %s has", want, server.Name))
			got, one := known(on.Client), first[field.Single(on.Client.Addr)].Identity
			judge(got == one && got != want && got >= firstOfPods, on.Client, fmt.Sprintf("the one that %s knows, %d, if that is one of pods and not %d", env.Nodes[0].Name, one, want))
		}
		if right {
			ev.Saw("%s: servers have identity %d, clients others", node.Name, want)
		}
		return nil
	})
}

// identitiesAsTold judges the addresses that a node knows: that it knows those of the run's pods is another check's claim.
func identitiesAsTold(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	told, err := toldIdentities(ctx, env)
	if err != nil {
		return err
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		have, err := field.ReadIPCache(ctx, node)
		if err != nil {
			return err
		}
		known, right := 0, true
		for prefix, holder := range have {
			of := nodeOf(env, prefix)
			if of == nil || !prefix.IsSingleIP() || holder.IsNode {
				continue
			}
			known++
			if want, ok := told[prefix.Addr()]; !ok || holder.Identity != want {
				right = false
				ev.Wrong(fmt.Sprintf("%s: %s, on %s", node.Name, prefix.Addr(), of.Name), toldWords(want, ok), fmt.Sprintf("identity %d", holder.Identity))
			}
		}
		if known == 0 {
			return fmt.Errorf("%s: it knows no address of a pod", node.Name)
		}
		if right {
			ev.Saw("%s: %d addresses of pods have the identities that their nodes tell of", node.Name, known)
		}
		return nil
	})
}

func toldWords(identity uint32, ok bool) string {
	if !ok {
		return "nobody, as the node tells of none"
	}
	return fmt.Sprintf("identity %d, as the node tells", identity)
}

// toldIdentities are those of whoever has an address, as the nodes tell.
func toldIdentities(ctx context.Context, env *field.Env) (map[netip.Addr]uint32, error) {
	nodes, err := env.LabNodes(ctx)
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr]uint32{}
	for _, n := range nodes {
		maps.Copy(all, n.Endpoints)
	}
	return all, nil
}
