package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

// demoCheck looks at the demo as a person would, by the addresses the README
// tells them to type.
func demoCheck(env *field.Env) verify.Check {
	return verify.Check{
		Name: "demo/answers", Needs: []verify.Part{verify.Demo, verify.Outside},
		Claim:    "The demo runs on every node, and its Service answers at its ClusterIP from each of its pods and at its nodePort on every node from outside; its headless name gives its pods.",
		Settings: []string{"demo.enabled=true"},
		Run:      look(env, demoAnswers),
	}
}

func demoAnswers(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	service, err := env.DemoService(ctx)
	if err != nil {
		return err
	}
	endpoints, err := env.EndpointsOf(ctx, service)
	if err != nil {
		return err
	}
	ports := func(port, nodePort uint16) string { return fmt.Sprintf("port %d and nodePort %d", port, nodePort) }
	ev.Expect(service.Port == env.Demo.Port && service.NodePortTCP == env.Demo.NodePort, "Service "+service.Name,
		ports(env.Demo.Port, env.Demo.NodePort), ports(service.Port, service.NodePortTCP))
	var pods []field.Peer
	on := map[string]string{}
	for _, each := range endpoints {
		pods = append(pods, field.Peer{Name: field.PodPrefix + each.Pod, Self: each.Pod, Addr: each.Addr, Node: each.Node})
		on[each.Node] = each.Pod
	}
	var errs []error
	for _, node := range env.Nodes {
		if pod := on[node.Node]; pod != "" {
			ev.Saw("%s: demo pod %s is ready", node.Name, pod)
		} else {
			ev.Wrong(node.Name, "a demo pod that is ready", "no pod of it among the endpoints of Service "+service.Name)
		}
		nodePort := ask{from: env.Outside, to: netip.AddrPortFrom(node.Addr, service.NodePortTCP), name: fmt.Sprintf("nodePort %d at %s", service.NodePortTCP, node.Name), by: pods}
		errs = append(errs, nodePort.over(ctx, "http", ev))
	}
	for _, each := range pods {
		if env.Down[each.Node] != "" {
			continue
		}
		pod, ok := find(env.DemoPods, each.Self)
		if !ok {
			errs = append(errs, fmt.Errorf("%s was not among the demo's when the run began, so it was not asked from", each.Name))
			continue
		}
		clusterIP := ask{from: pod, to: service.At(), name: "Service " + service.Name, by: pods}
		errs = append(errs, clusterIP.over(ctx, "http", ev))
	}
	headless := field.Service{Namespace: env.Demo.Namespace, Name: env.Demo.Headless}
	if len(env.DemoPods) == 0 {
		return errors.Join(errs...) // each node's lack has been told of
	}
	addresses, err := resolve(ctx, env.DemoPods[0], serviceName(headless), ev)
	if err != nil || addresses == nil {
		return errors.Join(append(errs, err)...)
	}
	now, err := env.EndpointsOf(ctx, service)
	switch {
	case err != nil:
		errs = append(errs, err)
	case !slices.Equal(now, endpoints):
		errs = append(errs, fmt.Errorf("the endpoints of Service %s have changed meanwhile, so what its headless name gives was not judged", service.Name))
	default:
		sameAddresses(ev, serviceName(headless), addresses, pods)
	}
	return errors.Join(errs...)
}
