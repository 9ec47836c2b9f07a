package datapath_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
)

func TestSyncEndpoints(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	alive, peer := n.addPod("alive"), n.addPod("peer")
	before := traces(n.Host)
	// sync expects that the endpoints that are there before and after are these, by their host-side veths.
	sync := func(before, after []string) {
		t.Helper()
		n.Do(func() {
			have, err := n.dp.Endpoints(ctx(t))
			must(t, err)
			left, err := n.dp.SyncEndpoints(ctx(t))
			must(t, err)
			if !slices.Equal(hostIfs(have), before) || !slices.Equal(hostIfs(left), after) {
				t.Errorf("there were %v, and then %v, want %v and %v", hostIfs(have), hostIfs(left), before, after)
			}
		})
	}
	healthy := []string{alive.HostIf, peer.HostIf}
	sync(healthy, healthy)

	t.Run("a vanished veth", func(t *testing.T) {
		p := n.addPod("vanished")
		n.Run("ip", "link", "del", p.HostIf)
		sync(append(healthy, p.HostIf), healthy)
	})
	t.Run("a vanished veth, whose name another endpoint has by now", func(t *testing.T) {
		p := n.addPod("vanished")
		n.Run("ip", "link", "del", p.HostIf)
		_, next := n.newSpec("next")
		next.HostIf = p.HostIf
		n.add(next)
		sync(append(healthy, p.HostIf, next.HostIf), append(healthy, next.HostIf))
		n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), next)) })
		n.delete(next)
	})
	t.Run("a half-made veth", func(t *testing.T) {
		n.Run("ip", "link", "add", "lxc01234567", "type", "veth", "peer", "name", "half")
		sync(healthy, healthy)
	})
	t.Run("a detached program", func(t *testing.T) {
		l, err := link.LoadPinnedLink(filepath.Join(n.BPFFS, "wirelab/links", alive.HostIf), nil)
		must(t, err)
		must(t, l.Detach())
		must(t, l.Close())
		sync(healthy, healthy)
	})
	t.Run("a lost pin", func(t *testing.T) {
		must(t, os.Remove(filepath.Join(n.BPFFS, "wirelab/links", alive.HostIf)))
		sync(healthy, healthy)
	})
	t.Run("a lost entry", func(t *testing.T) {
		m, err := ebpf.LoadPinnedMap(filepath.Join(n.BPFFS, "wirelab/maps/"+datapath.Layout+"/lab_endpoints"), nil)
		must(t, err)
		defer m.Close()
		must(t, m.Delete(alive.Addr.As16()))
		sync([]string{peer.HostIf}, healthy)
	})
	if after := traces(n.Host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	n.expectEntries(2)
	n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), alive.spec)) })
	must(t, second(alive.Ping(peer.Addr, netnstest.PingOptions{})))
}

func hostIfs(eps []api.Endpoint) (names []string) {
	for _, ep := range eps {
		names = append(names, ep.HostIf)
	}
	return names
}
