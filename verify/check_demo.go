package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// demoCheck looks at the demo as a person would, by the addresses the README
// tells them to type.
func demoCheck() Check {
	return Check{
		Name:      "demo/answers",
		Claim:     "The demo runs on every node, and its Service answers at its ClusterIP from every pod and at its nodePort on every node from outside; its headless name gives its pods.",
		NeedsDemo: true,
		Run:       demoAnswers,
	}
}

func demoAnswers(ctx context.Context, env *Env, ev *Evidence) error {
	service, err := env.demoService(ctx)
	if err != nil {
		return err
	}
	endpoints, err := env.endpointsOf(ctx, service)
	if err != nil {
		return err
	}
	ev.Expect(service.Port == env.Demo.Port && service.NodePortTCP == env.Demo.NodePort, "Service %s has port %d and nodePort %d, to be %d and %d",
		service.Name, service.Port, service.NodePortTCP, env.Demo.Port, env.Demo.NodePort)
	var pods []Host
	on := map[string]string{}
	for _, each := range endpoints {
		pods = append(pods, Host{Name: podPrefix + each.pod, Self: each.pod, Addr: each.addr, Node: each.node})
		on[each.node] = each.pod
	}
	var errs []error
	for _, node := range env.Nodes {
		ev.Expect(on[node.Node] != "", "%s: demo pod %s is ready", node.Name, on[node.Node])
		clusterIP := ask{from: node.Client, to: service.At(), name: "Service " + service.Name, by: pods}
		nodePort := ask{from: env.Outside, to: netip.AddrPortFrom(node.Addr, service.NodePortTCP), name: fmt.Sprintf("nodePort %d at %s", service.NodePortTCP, node.Name), by: pods}
		errs = append(errs, clusterIP.over(ctx, "http", ev), nodePort.over(ctx, "http", ev))
	}
	headless := Service{Namespace: env.Demo.Namespace, Name: env.Demo.Headless}
	addresses, err := resolve(ctx, env.Nodes[0].Client, serviceName(headless), ev)
	if err == nil && addresses != nil {
		sameAddresses(ev, serviceName(headless), addresses, pods)
	}
	return errors.Join(append(errs, err)...)
}
