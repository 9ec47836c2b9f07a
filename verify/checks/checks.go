// Package checks has every check there is, one file a subject. A check is a
// name, the claim it makes, the labs that make it, and a function that looks
// through a [field.Env].
package checks

import (
	"context"
	"errors"
	"slices"
	"time"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// watchTimeout bounds a capture that a check ends itself, or that ends by a
// packet which is sent at once.
const watchTimeout = probe.Duration(4 * time.Second)

// masquerading is the setting of labs whose pods leave them with a node's address.
const masquerading = "network.enableIPv4Masquerade=true"

// All returns every check there is, in the order of reports. The slow ones
// of a group come first, as they start in this order. They look through env,
// which may be nil where none of them is run.
func All(env *field.Env) []verify.Check {
	return slices.Concat(pathChecks(env), hopChecks(env), hostChecks(env), nodeChecks(env), podChecks(env), identityChecks(env), outsideChecks(env),
		serviceChecks(env), policyChecks(env), dnsChecks(env), mapChecks(env), tunnelChecks(env), ruleChecks(env), kubeProxyChecks(env), []verify.Check{demoCheck(env)})
}

// looker looks through env. An error means that it was not able to look.
type looker func(ctx context.Context, env *field.Env, ev *verify.Evidence) error

// onEachNode looks at all nodes at once.
func onEachNode(run func(context.Context, *field.Env, *field.Node, *verify.Evidence) error) looker {
	return func(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
		return verify.Each(env.Nodes, func(node *field.Node) error { return run(ctx, env, node, ev) })
	}
}

// withFlows opens flows to look at, and ends them.
func withFlows(
	pairs func(*field.Env) []field.Pair, run func(context.Context, *field.Env, []field.Flow, *verify.Evidence) error,
) looker {
	return func(ctx context.Context, env *field.Env, ev *verify.Evidence) (err error) {
		flows, stop, err := field.OpenFlows(ctx, pairs(env))
		defer func() { err = errors.Join(err, stop()) }()
		if err != nil {
			return err
		}
		return run(ctx, env, flows, ev)
	}
}

// look has a check look through env.
func look(env *field.Env, run looker) func(context.Context, *verify.Evidence) error {
	return func(ctx context.Context, ev *verify.Evidence) error { return run(ctx, env, ev) }
}

// lookAgain looks again for a while, as long as what it sees contradicts the claim. What it saw last counts.
func lookAgain(
	ctx context.Context, within time.Duration, ev *verify.Evidence, look func(context.Context, *verify.Evidence) error,
) error {
	deadline := time.Now().Add(within)
	var seen *verify.Evidence
	err := field.Poll(ctx, func(ctx context.Context) (bool, error) {
		seen = &verify.Evidence{}
		err := look(ctx, seen)
		return !seen.Contradicts() || time.Now().After(deadline), err
	})
	if err == nil {
		ev.Add(seen)
	}
	return err
}

// lookAtServices has a check look at Services of the run, which have to work first.
func lookAtServices(env *field.Env, run looker) func(context.Context, *verify.Evidence) error {
	return func(ctx context.Context, ev *verify.Evidence) error {
		if err := env.ServicesReady(ctx); err != nil {
			return err
		}
		return run(ctx, env, ev)
	}
}
