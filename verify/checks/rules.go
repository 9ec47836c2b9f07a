package checks

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

func ruleChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{
			Name: "rules/service-in-iptables", Needs: []verify.Part{verify.Services}, Modes: []string{verify.ModeKubeProxy},
			Claim: "On every node iptables holds kube-proxy's rules for the demo's Service: its ClusterIP, its nodePort and each of its backends.",
			Run:   lookAtServices(env, serviceInIPTables),
		},
		{
			Name: "rules/no-service", Needs: []verify.Part{verify.Services}, Modes: []string{verify.ModeKubeProxyReplacement, verify.ModeEBPF},
			Claim: "No node has a rule of a Service, in iptables-save, iptables-legacy-save or nft: none of kube-proxy's chains, and no mention of a ClusterIP, a nodePort or of a way to a backend.",
			Run:   lookAtServices(env, noServiceRule),
		},
		{
			Name: "rules/masquerade-chain", Needs: []verify.Part{verify.Nodes}, Settings: []string{masquerading, "network.bpf.masquerade=false"},
			Claim: "On every node iptables-save shows the chain " + field.MasqueradeChain + ": traffic of its own pods is masqueraded, except inside the native-routing CIDR and to nodes, which pods reach by the tunnel where there is one.",
			Run:   look(env, onEachNode(masqueradeInIPTables)),
		},
		{
			Name: "rules/no-masquerade", Needs: []verify.Part{verify.Nodes}, Settings: []string{masquerading, "network.bpf.masquerade=true"},
			Claim: "No node has a rule that masquerades pods, in iptables-save, iptables-legacy-save or nft: no chain " + field.MasqueradeChain + ", and none about the pods' addresses.",
			Run:   look(env, onEachNode(noMasqueradeRule)),
		},
	}
}

func serviceInIPTables(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	service, backends, err := env.DemoBackends(ctx)
	if err != nil {
		return err
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		all, err := field.Dumps(ctx, node.Peer)
		if err != nil {
			return err
		}
		judgePresent(ev, node.Name, service, backends, all)
		return nil
	})
}

// judgePresent wants the Service in what iptables-save or its legacy sibling
// shows, whichever of them kube-proxy writes to; nft's view is told as well.
func judgePresent(ev *verify.Evidence, node string, service field.Service, backends []netip.Addr, all []field.Dump) {
	what := fmt.Sprintf("%s: Service %s/%s at %s", node, service.Namespace, service.Name, service.Addr)
	complete := false
	var incomplete []string
	for _, d := range all {
		found := field.FindService(d, service, backends)
		words := fmt.Sprintf("%s has %d rules of its ClusterIP, %d of its nodePorts, DNAT to %d of %d backends", d.Tool,
			len(found.ClusterIP), len(found.NodePort), len(found.Backends), len(backends))
		if len(found.ClusterIP) > 0 && len(found.NodePort) > 0 && len(found.Backends) == len(backends) {
			complete = complete || strings.HasPrefix(d.Tool, "iptables")
			ev.Saw("%s: %s, such as %q", what, words, found.ClusterIP[0])
		} else if found.Found() {
			ev.Saw("%s: %s", what, words)
		}
		if strings.HasPrefix(d.Tool, "iptables") {
			incomplete = append(incomplete, words)
		}
	}
	if !complete {
		ev.Wrong(what, "rules for its ClusterIP, its nodePort and every backend in iptables-save or iptables-legacy-save", strings.Join(incomplete, "; "))
	}
}

// noServiceRule looks for the demo's Service and for the run's own with the
// search that finds them where kube-proxy is.
func noServiceRule(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	service, backends, err := env.DemoBackends(ctx)
	if err != nil {
		return err
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		all, err := wholeDumps(ctx, node)
		if err != nil {
			return err
		}
		for _, s := range []field.Service{service, env.Every, env.One} {
			judgeAbsent(ev, node.Name, s, backends, all)
		}
		return nil
	})
}

// kubeletChain is one of the chains that every kubelet makes.
var kubeletChain = regexp.MustCompile(`\bKUBE-(KUBELET-CANARY|IPTABLES-HINT|FIREWALL)\b`)

// wholeDumps are a node's rules for a check that something is not among them: without the kubelet's they are an error.
func wholeDumps(ctx context.Context, node *field.Node) ([]field.Dump, error) {
	all, err := field.Dumps(ctx, node.Peer)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(d field.Dump) bool { return slices.ContainsFunc(d.Lines, kubeletChain.MatchString) }) {
		return nil, fmt.Errorf("%s: not even the kubelet's own chains are in its rules, so they cannot be trusted to be all", node.Name)
	}
	return all, nil
}

// judgeAbsent wants nothing of the Service in any dump.
func judgeAbsent(ev *verify.Evidence, node string, service field.Service, backends []netip.Addr, all []field.Dump) {
	for _, d := range all {
		what := fmt.Sprintf("%s: %s, %d lines, Service %s/%s at %s", node, d.Tool, len(d.Lines), service.Namespace, service.Name, service.Addr)
		found := field.FindService(d, service, backends)
		if !found.Found() {
			ev.Saw("%s: no rule", what)
			continue
		}
		rules := slices.Concat(found.Chains, found.ClusterIP, found.NodePort)
		for _, each := range backends {
			rules = append(rules, found.Backends[each]...)
		}
		ev.Wrong(what, "no rule of it", fmt.Sprintf("%d rules, such as %q", len(rules), rules[0]))
	}
}

func masqueradeInIPTables(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	all, err := field.Dumps(ctx, node.Peer)
	if err != nil {
		return err
	}
	judgeMasquerade(ev, env, node, all)
	return nil
}

func noMasqueradeRule(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	all, err := wholeDumps(ctx, node)
	if err != nil {
		return err
	}
	for _, d := range all {
		if rules := masqueradeRules(d, env); len(rules) > 0 {
			ev.Wrong(node.Name+": "+d.Tool, "nothing about masquerading pods", fmt.Sprintf("%q", rules[0]))
		} else {
			ev.Saw("%s: none of the %d lines of %s is about masquerading pods", node.Name, len(d.Lines), d.Tool)
		}
	}
	return nil
}

// masqueradeRules finds what masquerades pods. iptables writes the target in
// capitals, nft does not.
func masqueradeRules(d field.Dump, env *field.Env) []string {
	return slices.DeleteFunc(slices.Clone(d.Lines), func(line string) bool {
		ofPods := slices.ContainsFunc(env.Nodes, func(n *field.Node) bool { return strings.Contains(line, n.PodCIDR.String()) })
		masquerades := strings.Contains(line, field.MasqueradeChain) || ofPods && strings.Contains(strings.ToLower(line), "masquerade")
		return !masquerades
	})
}

// judgeMasquerade reads the chain as the kernel does, in order.
func judgeMasquerade(ev *verify.Evidence, env *field.Env, node *field.Node, all []field.Dump) {
	i := slices.IndexFunc(all, func(d field.Dump) bool {
		_, exists := field.ChainRules(d, field.MasqueradeChain)
		return exists && strings.HasPrefix(d.Tool, "iptables")
	})
	if i < 0 {
		ev.Wrong(node.Name+": iptables-save", "chain "+field.MasqueradeChain, "no such chain")
		return
	}
	jumps, _ := field.ChainRules(all[i], "POSTROUTING")
	jumped := slices.ContainsFunc(jumps, func(rule string) bool { return strings.HasSuffix(rule, "-j "+field.MasqueradeChain) })
	if jumped {
		ev.Saw("%s: POSTROUTING leads to %s", node.Name, field.MasqueradeChain)
	} else {
		ev.Wrong(node.Name+": POSTROUTING", "a rule that leads to "+field.MasqueradeChain, fmt.Sprintf("%d rules that lead elsewhere: %q", len(jumps), jumps))
	}
	rules, _ := field.ChainRules(all[i], field.MasqueradeChain)
	for _, other := range env.Nodes {
		spared := slices.ContainsFunc(rules, func(rule string) bool {
			return field.AddressPattern(other.Addr).MatchString(rule) && strings.Contains(rule, "-d ") && strings.Contains(rule, "-j RETURN")
		})
		switch {
		case spared && env.Tunnel != nil: // nobody there would know the pod
			ev.Wrong(node.Name+": "+field.MasqueradeChain, fmt.Sprintf("no rule that spares traffic to %s which does not go by the tunnel", other.Name), fmt.Sprintf("%d rules: %q", len(rules), rules))
		case spared:
			ev.Saw("%s: %s spares traffic to %s", node.Name, field.MasqueradeChain, other.Name)
		case env.Tunnel == nil:
			ev.Wrong(node.Name+": "+field.MasqueradeChain, fmt.Sprintf("a rule that spares traffic to %s, which has %s", other.Name, other.Addr), fmt.Sprintf("%d others: %q", len(rules), rules))
		}
	}
	masquerades := slices.IndexFunc(rules, func(rule string) bool {
		return strings.Contains(rule, "-s "+node.PodCIDR.String()) && strings.Contains(rule, "! -d "+env.NativeCIDR.Masked().String()) && strings.Contains(rule, "-j MASQUERADE")
	})
	if masquerades < 0 {
		ev.Wrong(node.Name+": "+field.MasqueradeChain, fmt.Sprintf("a rule that masquerades what goes from %s to outside %s", node.PodCIDR, env.NativeCIDR), fmt.Sprintf("%d others: %q", len(rules), rules))
		return
	}
	ev.Saw("%s: %s: %s", node.Name, field.MasqueradeChain, rules[masquerades])
}
