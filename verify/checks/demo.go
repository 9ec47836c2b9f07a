package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

// demoCheck looks at the demo as a person would, by the addresses the README
// tells them to type.
func demoCheck(env *field.Env) verify.Check {
	return verify.Check{
		Name:     "demo/answers",
		Claim:    "The demo runs on every node, and its Service answers at its ClusterIP from every pod and at its nodePort on every node from outside; its headless name gives its pods.",
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
	ev.Expect(service.Port == env.Demo.Port && service.NodePortTCP == env.Demo.NodePort, "Service %s has port %d and nodePort %d, to be %d and %d",
		service.Name, service.Port, service.NodePortTCP, env.Demo.Port, env.Demo.NodePort)
	var pods []field.Host
	on := map[string]string{}
	for _, each := range endpoints {
		pods = append(pods, field.Host{Name: field.PodPrefix + each.Pod, Self: each.Pod, Addr: each.Addr, Node: each.Node})
		on[each.Node] = each.Pod
	}
	var errs []error
	for _, node := range env.Nodes {
		ev.Expect(on[node.Node] != "", "%s: demo pod %s is ready", node.Name, on[node.Node])
		clusterIP := ask{from: node.Client, to: service.At(), name: "Service " + service.Name, by: pods}
		nodePort := ask{from: env.Outside, to: netip.AddrPortFrom(node.Addr, service.NodePortTCP), name: fmt.Sprintf("nodePort %d at %s", service.NodePortTCP, node.Name), by: pods}
		errs = append(errs, clusterIP.over(ctx, "http", ev), nodePort.over(ctx, "http", ev))
	}
	headless := field.Service{Namespace: env.Demo.Namespace, Name: env.Demo.Headless}
	addresses, err := resolve(ctx, env.Nodes[0].Client, serviceName(headless), ev)
	if err == nil && addresses != nil {
		sameAddresses(ev, serviceName(headless), addresses, pods)
	}
	return errors.Join(append(errs, err)...)
}
