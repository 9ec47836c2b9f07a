package verify

import (
	"context"
	"net/netip"
)

// replaced tells whether BPF maps serve Services in place of kube-proxy.
func (c Config) replaced() bool { return c.Mode != modeKubeProxy }

// clusterIPClient is the client address that a backend sees of one who asks
// for a ClusterIP. Without kube-proxy the address is translated at the asker's
// socket, so that the packet is an ordinary one of the asker's.
func (e *Env) clusterIPClient(ctx context.Context, from Host) func(Host) (netip.Addr, error) {
	if e.replaced() || from.Node == "" {
		return own(from)
	}
	node, err := e.node(from.Node)
	if err != nil {
		return func(Host) (netip.Addr, error) { return netip.Addr{}, err }
	}
	return func(backend Host) (netip.Addr, error) {
		// kube-proxy hides the node's own address, and a pod from itself.
		if from.Name == node.Name || from.Name == backend.Name {
			return through(ctx, node)(backend)
		}
		return own(from)(backend)
	}
}

// nodePortClient is the client address that a backend sees of one who asks for
// a nodePort of entry. kube-proxy always hides it. Without kube-proxy the entry
// hides it only when the packet has to leave the entry again: then the answer
// must come back through it.
func (e *Env) nodePortClient(ctx context.Context, from Host, entry *Node) func(Host) (netip.Addr, error) {
	if !e.replaced() {
		return through(ctx, entry)
	}
	return func(backend Host) (netip.Addr, error) {
		if from.Node == entry.Node || backend.Node == entry.Node {
			return own(from)(backend)
		}
		return entry.Addr, nil
	}
}

// hostPortClient is the client address that the pod behind a hostPort sees.
func (e *Env) hostPortClient(ctx context.Context, from, pod Host) func(Host) (netip.Addr, error) {
	if from.Name == pod.Name {
		// Its own packets must not come back to it with its own address.
		return e.clusterIPClient(ctx, from)
	}
	return own(from)
}

// hairpinClient is the client that a pod sees when a datagram of its own comes back to it, without kube-proxy: from
// its own address it would not take it. A connection to itself is one inside the pod from the start.
func (e *Env) hairpinClient() netip.Addr {
	if !e.replaced() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{169, 254, 87, 1})
}
