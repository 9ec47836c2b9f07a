package checks

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func dnsChecks(env *field.Env) []verify.Check {
	return []verify.Check{{
		Name: "dns/service", Needs: []verify.Part{verify.Services},
		Claim: "Every pod resolves a Service's name to its ClusterIP over UDP and TCP, with the server its resolv.conf names.",
		Run:   lookAtServices(env, onEachNode(dnsOfService)),
	}}
}

const dnsPort = 53

// serviceName is the full name of a Service; the domain is kubeadm's default.
func serviceName(s field.Service) string { return s.Name + "." + s.Namespace + ".svc.cluster.local" }

func dnsOfService(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	name := serviceName(env.Every)
	server, err := nameserver(ctx, node.Client)
	if err != nil {
		return err
	}
	return verify.Each([]bool{false, true}, func(tcp bool) error {
		what := fmt.Sprintf("%s asks %s over %s for %s", node.Client.Name, server, map[bool]string{false: "udp", true: "tcp"}[tcp], name)
		reply, ok, err := sent(ctx, node.Client, what, probe.Request{DNS: &probe.DNS{Server: server, Name: name, TCP: tcp}}, ev)
		if err != nil || !ok {
			return err
		}
		right := slices.Equal(reply.DNS.Addresses, []netip.Addr{env.Every.Addr})
		ev.Expect(right, what, fmt.Sprint(env.Every.Addr), fmt.Sprint(reply.DNS.Addresses))
		return nil
	})
}

// nameserver is the first server a pod's resolv.conf names.
func nameserver(ctx context.Context, pod field.Peer) (netip.AddrPort, error) {
	text, err := field.Output(ctx, pod, "cat", "/etc/resolv.conf")
	if err != nil {
		return netip.AddrPort{}, err
	}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "nameserver" {
			addr, err := netip.ParseAddr(fields[1])
			if err != nil {
				return netip.AddrPort{}, fmt.Errorf("%s: read resolv.conf: %w", pod.Name, err)
			}
			return netip.AddrPortFrom(addr, dnsPort), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%s: resolv.conf names no server", pod.Name)
}

// resolve asks a pod's own server for a name. No answer is recorded as wrong,
// and nil returned.
func resolve(ctx context.Context, pod field.Peer, name string, ev *verify.Evidence) ([]netip.Addr, error) {
	server, err := nameserver(ctx, pod)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%s asks %s for %s", pod.Name, server, name)
	reply, ok, err := sent(ctx, pod, what, probe.Request{DNS: &probe.DNS{Server: server, Name: name}}, ev)
	if err != nil || !ok {
		return nil, err
	}
	if len(reply.DNS.Addresses) == 0 {
		ev.Wrong(what, "addresses", "an answer without one")
		return nil, nil
	}
	return reply.DNS.Addresses, nil
}

// sameAddresses wants exactly the peers' addresses.
func sameAddresses(ev *verify.Evidence, what string, got []netip.Addr, peers []field.Peer) {
	var want []netip.Addr
	for _, h := range peers {
		want = append(want, h.Addr)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	ev.Expect(slices.Equal(got, want), what, fmt.Sprint(want), fmt.Sprint(got))
}
