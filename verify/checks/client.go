package checks

import (
	"context"
	"net/netip"

	"wirelab.dev/wirelab/verify/field"
)

// clusterIPClient is the client address that a backend sees of one who asks
// for a ClusterIP. Without kube-proxy the address is translated at the asker's
// socket, so that the packet is an ordinary one of the asker's.
func clusterIPClient(ctx context.Context, env *field.Env, from field.Peer) func(field.Peer) (netip.Addr, error) {
	if env.KubeProxyReplacement() || from.Node == "" {
		return own(from)
	}
	node := env.NodeOf(from)
	return func(backend field.Peer) (netip.Addr, error) {
		// kube-proxy hides the node's own address, and a pod from itself.
		if from.Name == node.Name || from.Name == backend.Name {
			return through(ctx, env, node)(backend)
		}
		return own(from)(backend)
	}
}

// nodePortClient is the client address that a backend sees of one who asks for
// a nodePort of entry. kube-proxy always hides it. Without kube-proxy the entry
// hides it only when the packet has to leave the entry again: then the answer
// must come back through it.
func nodePortClient(ctx context.Context, env *field.Env, from field.Peer, entry *field.Node) func(field.Peer) (netip.Addr, error) {
	if !env.KubeProxyReplacement() {
		return through(ctx, env, entry)
	}
	return func(backend field.Peer) (netip.Addr, error) {
		if from.Node == entry.Node || backend.Node == entry.Node {
			return own(from)(backend)
		}
		return entry.Addr, nil
	}
}

// hostPortClient is the client address that the pod behind a hostPort sees.
func hostPortClient(ctx context.Context, env *field.Env, from, pod field.Peer) func(field.Peer) (netip.Addr, error) {
	if from.Name == pod.Name {
		// Its own packets must not come back to it with its own address.
		return clusterIPClient(ctx, env, from)
	}
	return own(from)
}

// hairpinClient is the client that a pod sees when a datagram of its own comes back to it, without kube-proxy: from
// its own address it would not take it. A connection to itself is one inside the pod from the start.
func hairpinClient(env *field.Env) netip.Addr {
	if !env.KubeProxyReplacement() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{169, 254, 87, 1})
}
