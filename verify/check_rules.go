package verify

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const masqueradeChain = "LAB-MASQUERADE"

func ruleChecks() []Check {
	return []Check{
		{
			Name: "rules/service-in-iptables", Modes: []string{modeKubeProxy},
			Claim: "On every node iptables holds kube-proxy's rules for the demo's Service: its ClusterIP, its nodePort and each of its backends.",
			Run:   afterSettling(serviceInIPTables),
		},
		{
			Name: "rules/no-service", Modes: []string{modeReplacement, modeEBPF},
			Claim: "No node has a rule of a Service, in iptables-save, iptables-legacy-save or nft: none of kube-proxy's chains, and no mention of a ClusterIP, a nodePort or of a way to a backend.",
			Run:   afterSettling(noServiceRule),
		},
		{
			Name: "rules/masquerade-chain", If: func(cfg Config) bool { return cfg.Masquerade == MasqueradeIPTables },
			Claim: "On every node iptables-save shows the chain " + masqueradeChain + ": traffic of its own pods is masqueraded, except to nodes and inside the native-routing CIDR.",
			Run:   masqueradeInIPTables,
		},
		{
			Name: "rules/no-masquerade", If: func(cfg Config) bool { return cfg.Masquerade == MasqueradeBPF },
			Claim: "No node has a rule that masquerades pods, in iptables-save, iptables-legacy-save or nft: no chain " + masqueradeChain + ", and none about the pods' addresses.",
			Run:   noMasqueradeRule,
		},
	}
}

// demoService is the Service rules are looked for: the demo's, or the run's
// own where the profile has no demo.
func (e *Env) demoService(ctx context.Context) (Service, error) {
	if e.Demo == nil {
		return e.Every, nil
	}
	return readService(ctx, e.Kube, e.Demo.Namespace, e.Demo.Service)
}

// endpoint is one ready backend of a Service.
type endpoint struct {
	addr netip.Addr
	pod  string
	node string
}

// endpointsOf lists a Service's ready backends.
func (e *Env) endpointsOf(ctx context.Context, service Service) ([]endpoint, error) {
	slicesOf, err := e.Kube.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name,
	})
	if err != nil {
		return nil, fmt.Errorf("list the endpoints of Service %s: %w", service.Name, err)
	}
	var all []endpoint
	for _, slice := range slicesOf.Items {
		for _, each := range slice.Endpoints {
			if each.Conditions.Ready == nil || !*each.Conditions.Ready || len(each.Addresses) == 0 {
				continue
			}
			addr, err := netip.ParseAddr(each.Addresses[0])
			if err != nil {
				return nil, fmt.Errorf("read an endpoint of Service %s: %w", service.Name, err)
			}
			found := endpoint{addr: addr}
			if each.TargetRef != nil {
				found.pod = each.TargetRef.Name
			}
			if each.NodeName != nil {
				found.node = *each.NodeName
			}
			all = append(all, found)
		}
	}
	slices.SortFunc(all, func(a, b endpoint) int { return a.addr.Compare(b.addr) })
	return all, nil
}

// demoBackends is the Service rules are looked for, with the addresses of its
// ready backends, of which there has to be one.
func (e *Env) demoBackends(ctx context.Context) (Service, []netip.Addr, error) {
	service, err := e.demoService(ctx)
	if err != nil {
		return service, nil, err
	}
	endpoints, err := e.endpointsOf(ctx, service)
	if err != nil {
		return service, nil, err
	}
	var backends []netip.Addr
	for _, each := range endpoints {
		backends = append(backends, each.addr)
	}
	if len(backends) == 0 {
		return service, nil, fmt.Errorf("Service %s has no ready backend to look for", service.Name)
	}
	return service, backends, nil
}

func serviceInIPTables(ctx context.Context, env *Env, ev *Evidence) error {
	service, backends, err := env.demoBackends(ctx)
	if err != nil {
		return err
	}
	return each(env.Nodes, func(node *Node) error {
		all, err := dumps(ctx, node.Host)
		if err != nil {
			return err
		}
		judgePresent(ev, node.Name, service, backends, all)
		return nil
	})
}

// judgePresent wants the Service in what iptables-save or its legacy sibling
// shows, whichever of them kube-proxy writes to; nft's view is told as well.
func judgePresent(ev *Evidence, node string, service Service, backends []netip.Addr, all []dump) {
	what := fmt.Sprintf("%s: Service %s/%s at %s", node, service.Namespace, service.Name, service.Addr)
	complete := false
	for _, d := range all {
		found := findService(d, service, backends)
		words := fmt.Sprintf("%s: %s has %d rules of its ClusterIP, %d of its nodePorts, DNAT to %d of %d backends", what, d.Tool,
			len(found.ClusterIP), len(found.NodePort), len(found.Backends), len(backends))
		if len(found.ClusterIP) > 0 && len(found.NodePort) > 0 && len(found.Backends) == len(backends) {
			complete = complete || strings.HasPrefix(d.Tool, "iptables")
			ev.Saw("%s, such as %q", words, found.ClusterIP[0])
		} else if found.found() {
			ev.Saw("%s", words)
		}
	}
	if !complete {
		ev.Wrong("%s: neither iptables-save nor iptables-legacy-save holds rules for its ClusterIP, its nodePort and every backend", what)
	}
}

// noServiceRule looks for the demo's Service and for the run's own with the
// search that finds them where kube-proxy is.
func noServiceRule(ctx context.Context, env *Env, ev *Evidence) error {
	service, backends, err := env.demoBackends(ctx)
	if err != nil {
		return err
	}
	return each(env.Nodes, func(node *Node) error {
		all, err := dumps(ctx, node.Host)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(d dump) bool { return slices.ContainsFunc(d.Lines, kubeletChain.MatchString) }) {
			return fmt.Errorf("%s: not even the kubelet's own chains are in its rules, so they cannot be trusted to be all", node.Name)
		}
		for _, s := range []Service{service, env.Every, env.One} {
			judgeAbsent(ev, node.Name, s, backends, all)
		}
		return nil
	})
}

// kubeletChain is one of the chains that every kubelet makes.
var kubeletChain = regexp.MustCompile(`\bKUBE-(KUBELET-CANARY|IPTABLES-HINT|FIREWALL)\b`)

// judgeAbsent wants nothing of the Service in any dump.
func judgeAbsent(ev *Evidence, node string, service Service, backends []netip.Addr, all []dump) {
	for _, d := range all {
		what := fmt.Sprintf("%s: %s, %d lines, Service %s/%s at %s", node, d.Tool, len(d.Lines), service.Namespace, service.Name, service.Addr)
		found := findService(d, service, backends)
		if !found.found() {
			ev.Saw("%s: no rule", what)
			continue
		}
		rules := slices.Concat(found.Chains, found.ClusterIP, found.NodePort)
		for _, each := range backends {
			rules = append(rules, found.Backends[each]...)
		}
		ev.Wrong("%s: %d rules, such as %q", what, len(rules), rules[0])
	}
}

func masqueradeInIPTables(ctx context.Context, env *Env, ev *Evidence) error {
	return each(env.Nodes, func(node *Node) error {
		all, err := dumps(ctx, node.Host)
		if err != nil {
			return err
		}
		judgeMasquerade(ev, env, node, all)
		return nil
	})
}

func noMasqueradeRule(ctx context.Context, env *Env, ev *Evidence) error {
	return each(env.Nodes, func(node *Node) error {
		all, err := dumps(ctx, node.Host)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(d dump) bool { return slices.ContainsFunc(d.Lines, kubeletChain.MatchString) }) {
			return fmt.Errorf("%s: not even the kubelet's own chains are in its rules, so they cannot be trusted to be all", node.Name)
		}
		for _, d := range all {
			if rules := masqueradeRules(d, env); len(rules) > 0 {
				ev.Wrong("%s: %s has %q", node.Name, d.Tool, rules[0])
			} else {
				ev.Saw("%s: none of the %d lines of %s is about masquerading pods", node.Name, len(d.Lines), d.Tool)
			}
		}
		return nil
	})
}

// masqueradeRules finds what masquerades pods. iptables writes the target in
// capitals, nft does not.
func masqueradeRules(d dump, env *Env) []string {
	var found []string
	for _, line := range d.Lines {
		ofPods := slices.ContainsFunc(env.Nodes, func(n *Node) bool { return strings.Contains(line, n.PodCIDR.String()) })
		if strings.Contains(line, masqueradeChain) || ofPods && strings.Contains(strings.ToLower(line), "masquerade") {
			found = append(found, line)
		}
	}
	return found
}

// judgeMasquerade reads the chain as the kernel does, in order.
func judgeMasquerade(ev *Evidence, env *Env, node *Node, all []dump) {
	i := slices.IndexFunc(all, func(d dump) bool {
		_, exists := chainRules(d, masqueradeChain)
		return exists && strings.HasPrefix(d.Tool, "iptables")
	})
	if i < 0 {
		ev.Wrong("%s: iptables-save shows no chain %s", node.Name, masqueradeChain)
		return
	}
	jumps, _ := chainRules(all[i], "POSTROUTING")
	jumped := slices.ContainsFunc(jumps, func(rule string) bool { return strings.HasSuffix(rule, "-j "+masqueradeChain) })
	ev.Expect(jumped, "%s: POSTROUTING leads to %s", node.Name, masqueradeChain)
	rules, _ := chainRules(all[i], masqueradeChain)
	for _, other := range env.Nodes {
		spared := slices.ContainsFunc(rules, func(rule string) bool {
			return addressPattern(other.Addr).MatchString(rule) && strings.Contains(rule, "-d ") && strings.Contains(rule, "-j RETURN")
		})
		ev.Expect(spared, "%s: %s spares traffic to %s", node.Name, masqueradeChain, other.Name)
	}
	masquerades := slices.IndexFunc(rules, func(rule string) bool {
		return strings.Contains(rule, "-s "+node.PodCIDR.String()) && strings.Contains(rule, "! -d "+env.NativeCIDR.Masked().String()) && strings.Contains(rule, "-j MASQUERADE")
	})
	if masquerades < 0 {
		ev.Wrong("%s: %s masquerades nothing from %s to outside %s:\n%s", node.Name, masqueradeChain, node.PodCIDR, env.NativeCIDR, strings.Join(rules, "\n"))
		return
	}
	ev.Saw("%s: %s: %s", node.Name, masqueradeChain, rules[masquerades])
}
