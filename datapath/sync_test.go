package datapath_test

import (
	"os"
	"path/filepath"
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
	sync := func() (removed []api.Endpoint) {
		t.Helper()
		n.Do(func() {
			var err error
			removed, err = n.dp.SyncEndpoints(ctx(t))
			must(t, err)
		})
		return removed
	}
	if removed := sync(); len(removed) != 0 {
		t.Fatalf("healthy endpoints were removed: %+v", removed)
	}

	t.Run("a vanished veth", func(t *testing.T) {
		p := n.addPod("vanished")
		n.Run("ip", "link", "del", p.HostIf)
		if removed := sync(); len(removed) != 1 || removed[0].Addr != p.Addr {
			t.Errorf("removed %+v, want %s", removed, p.Addr)
		}
	})
	t.Run("a vanished veth, whose name another endpoint has by now", func(t *testing.T) {
		p := n.addPod("vanished")
		n.Run("ip", "link", "del", p.HostIf)
		_, next := n.newSpec("next")
		next.HostIf = p.HostIf
		n.add(next)
		if removed := sync(); len(removed) != 1 || removed[0].Addr != p.Addr {
			t.Errorf("removed %+v, want %s", removed, p.Addr)
		}
		n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), next)) })
		n.delete(next)
	})
	t.Run("a half-made veth", func(t *testing.T) {
		n.Run("ip", "link", "add", "lxc01234567", "type", "veth", "peer", "name", "half")
		sync()
	})
	t.Run("a detached program", func(t *testing.T) {
		l, err := link.LoadPinnedLink(filepath.Join(n.BPFFS, "wirelab/links", alive.HostIf), nil)
		must(t, err)
		must(t, l.Detach())
		must(t, l.Close())
		sync()
	})
	t.Run("a lost pin", func(t *testing.T) {
		must(t, os.Remove(filepath.Join(n.BPFFS, "wirelab/links", alive.HostIf)))
		sync()
	})
	t.Run("a lost entry", func(t *testing.T) {
		m, err := ebpf.LoadPinnedMap(filepath.Join(n.BPFFS, "wirelab/maps/"+datapath.Layout+"/lab_endpoints"), nil)
		must(t, err)
		defer m.Close()
		must(t, m.Delete(alive.Addr.As16()))
		sync()
	})
	if after := traces(n.Host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	n.expectEntries(2)
	n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), alive.spec)) })
	must(t, second(alive.Ping(peer.Addr, netnstest.PingOptions{})))
}
