package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// spoofPort is where forged datagrams are sent; nobody serves it.
const spoofPort = 4242

// spoofed sends forged packets from a pod to a neighbour and to a remote pod,
// and after them one with the pod's own address, which ends the watch: what was
// sent before it and has not been seen by then has not arrived.
func spoofed(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	targets := []field.Peer{node.Server}
	for _, other := range env.Nodes {
		if other != node {
			targets = append(targets, other.Server)
			break
		}
	}
	return verify.Each(targets, func(to field.Peer) error { return spoofTo(ctx, env, node, to, ev) })
}

// forgedSources are addresses a pod might want to be taken for.
func forgedSources(env *field.Env, node *field.Node, to field.Peer) map[string]netip.Addr {
	forged := map[string]netip.Addr{
		"its node's":           node.Addr,
		"the outside host's":   env.Outside.Addr,
		"nobody's in the CIDR": field.LastAddress(node.PodCIDR).Prev(),
	}
	for _, other := range env.Nodes {
		if pod := other.Client; pod.Addr.IsValid() && other != node {
			forged["a remote pod's"] = pod.Addr
		}
	}
	if to.Name != node.Server.Name && node.Server.Addr.IsValid() {
		forged["its neighbour's"] = node.Server.Addr
	}
	return forged
}

func spoofTo(ctx context.Context, env *field.Env, node *field.Node, to field.Peer, ev *verify.Evidence) error {
	from := node.Client
	_, _, veth, err := env.HostSide(ctx, from)
	if err != nil {
		return err
	}
	for _, peer := range []field.Peer{to, env.Outside} {
		if !peer.Addr.IsValid() {
			return fmt.Errorf("%s has no address, to send to or to forge", peer.Name)
		}
	}
	marker := field.NewMarker()
	last := probe.Filter{Contains: marker + " own"}
	watch := func(peer field.Peer, dev string) (field.Running, error) {
		return peer.Start(ctx, probe.Request{Timeout: watchTimeout, Capture: &probe.Capture{
			Interface: dev, Filter: probe.Filter{Direction: probe.In, Protocol: "udp", Contains: marker}, Until: &last,
		}})
	}
	arrives, err := watch(to, "eth0")
	if err != nil {
		return err
	}
	leaves, err := watch(node.Peer, veth.Name)
	if err != nil {
		return err
	}
	forged := forgedSources(env, node, to)
	for whose, source := range forged {
		if err := forge(ctx, from, source, to, marker+" forged, "+whose); err != nil {
			return err
		}
	}
	if err := forge(ctx, from, from.Addr, to, marker+" own"); err != nil {
		return err
	}
	left, errLeft := leaves.Wait(ctx)
	arrived, errArrived := arrives.Wait(ctx)
	if err := errors.Join(errLeft, errArrived); err != nil {
		return err
	}
	judgeSpoof(ev, from, to, forged, left, arrived)
	return nil
}

func forge(ctx context.Context, from field.Peer, source netip.Addr, to field.Peer, payload string) error {
	reply, err := from.Probe(ctx, probe.Request{Send: &probe.Send{
		Protocol: "udp", Source: source, Destination: to.Addr, SourcePort: spoofPort, DestinationPort: spoofPort, Payload: payload,
	}})
	if err != nil {
		return err
	}
	if reply.Failure != "" {
		return fmt.Errorf("%s was not able to send as %s: %s", from.Name, source, reply.Failure)
	}
	return nil
}

// judgeSpoof: the own packet must have arrived, the forged ones must have left
// the pod, and none of them may have arrived.
func judgeSpoof(ev *verify.Evidence, from, to field.Peer, forged map[string]netip.Addr, left, arrived probe.Reply) {
	what := fmt.Sprintf("%s -> %s", from.Name, to.Name)
	has := func(reply probe.Reply, source netip.Addr) bool {
		return slices.ContainsFunc(reply.Capture.Packets, func(p probe.Packet) bool {
			return p.Source == source && !strings.HasSuffix(p.Payload, " own")
		})
	}
	own := fmt.Sprintf("%s: sent with its own address %s", what, from.Addr)
	if arrived.Failure == "" {
		ev.Saw("%s: it arrives", own)
	} else {
		ev.Wrong(own, "its arrival", "it did not arrive: "+arrived.Failure)
	}
	for whose, source := range forged {
		about := fmt.Sprintf("%s: sent as %s, %s", what, source, whose)
		if !has(left, source) {
			ev.Wrong(about, "it at the host-side veth, and nowhere behind", "it was never seen at the host-side veth, so its absence elsewhere proves nothing")
			continue
		}
		if has(arrived, source) {
			ev.Wrong(about, "it at the host-side veth, and nowhere behind", "it left the pod, and arrived")
		} else {
			ev.Saw("%s: it left the pod, and did not arrive", about)
		}
	}
}
