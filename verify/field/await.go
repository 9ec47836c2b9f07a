package field

import (
	"context"
	"errors"
	"time"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

// servicesTimeout bounds the wait for Services to work everywhere: kube-proxy
// writes its rules within a second or two, also on a busy machine.
const servicesTimeout = 8 * time.Second

// awaitServices waits until every node reaches every backend of both Services: rules
// for a Service come piece by piece, as its backends become ready.
func awaitServices(caller context.Context, env *Env) error {
	ctx, cancel := context.WithTimeout(caller, servicesTimeout)
	defer cancel()
	errs := verify.Each(env.Nodes, func(node *Node) error {
		for _, service := range []Service{env.Every, env.One} {
			err := Poll(ctx, func(ctx context.Context) (bool, error) {
				answered, _, err := Spread(ctx, node.Peer, service)
				return len(answered) == len(service.Backends), err
			})
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(errs, caller.Err())
}

// Spread makes so many requests to a ClusterIP that a backend chosen at random
// is missed less than once in a million runs, k*(1-1/k)^(16k) < k*e^-16, and
// counts the answers by pod name.
func Spread(ctx context.Context, from Peer, service Service) (answered map[string]int, failure string, err error) {
	request := probe.Request{Timeout: probe.Duration(AskTimeout), HTTP: &probe.HTTP{URL: URL(service.At()), Count: 16 * len(service.Backends)}}
	reply, err := from.Probe(ctx, request)
	if err != nil || reply.HTTP == nil {
		return nil, reply.Failure, err
	}
	return reply.HTTP.AnsweredBy, reply.Failure, nil
}
