package datapath_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath"
)

// rest is how long addresses rest in these tests: for as long as a test takes.
const rest = time.Hour

// A pod that gets the address of one that is gone reads nothing that was meant for that one, whatever came
// between the two.
func TestReusedAddressInheritsNothing(t *testing.T) {
	for name, between := range map[string]func(*node, *pod){
		"at once": func(n *node, y *pod) { n.delete(y.spec) },
		"purged before": func(n *node, y *pod) {
			n.delete(y.spec)
			n.purge()
		},
		"a restart between": func(n *node, y *pod) {
			n.delete(y.spec)
			n.close()
			n.open()
		},
		"deleted while nothing ran": func(n *node, y *pod) {
			n.close()
			n.Run("ip", "link", "del", y.HostIf)
			n.open()
		},
		"collected": func(n *node, y *pod) {
			n.Do(func() { must(n.t, second(n.dp.KeepEndpoints(ctx(n.t), nil))) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inModes(t, func(t *testing.T, mode setup) { reuse(t, mode, between) })
		})
	}
}

func reuse(t *testing.T, mode setup, between func(*node, *pod)) {
	const local = 5555
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	y := n.addPod("y")
	server := listenUDP(t, l.outside.NS, anyPort)
	c := listenUDP(t, y.NS, netip.AddrPortFrom(netip.IPv4Unspecified(), local))
	must(t, second(c.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(l.outside.Addr, port))))
	buf := make([]byte, 64)
	_, from, err := server.ReadFromUDPAddrPort(buf)
	must(t, err)
	must(t, second(server.WriteToUDPAddrPort([]byte("for y"), from)))
	if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
		t.Fatalf("y got no answer: %v", err) // the control: there is a flow to inherit
	}
	c.Close()
	between(n, y)
	ns, spec := n.newSpec("z")
	spec.Addr = y.Addr
	n.add(spec)
	z := listenUDP(t, ns, netip.AddrPortFrom(netip.IPv4Unspecified(), local))
	must(t, second(server.WriteToUDPAddrPort([]byte("for y alone"), from)))
	// What comes after it is read, so it is not still on its way.
	must(t, second(z.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(l.outside.Addr, port))))
	_, again, err := server.ReadFromUDPAddrPort(buf)
	must(t, err)
	must(t, second(server.WriteToUDPAddrPort([]byte("for z"), again)))
	size, _, err := z.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:size]) != "for z" {
		t.Errorf("the new pod read %q, %v", buf[:size], err)
	}
}

func (n *node) purge() {
	n.t.Helper()
	n.Do(func() { must(n.t, n.dp.PurgeAddresses(ctx(n.t), rest, func(netip.Addr) bool { return true })) })
}

// named are the pinned maps, and the kernel's connection tracking, with an entry that has the address in key
// or value, sorted.
func (n *node) named(addr netip.Addr) []string {
	n.t.Helper()
	var names []string
	paths, err := filepath.Glob(filepath.Join(n.BPFFS, "wirelab/maps/*/*"))
	must(n.t, err)
	for _, path := range paths {
		m, err := ebpf.LoadPinnedMap(path, nil)
		must(n.t, err)
		if names16(n.t, m, addr.As16()) {
			names = append(names, filepath.Base(path))
		}
		m.Close()
	}
	n.Do(func() {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		must(n.t, err)
		if slices.ContainsFunc(flows, func(f *netlink.ConntrackFlow) bool {
			ip := net.IP(addr.AsSlice())
			return f.Forward.SrcIP.Equal(ip) || f.Forward.DstIP.Equal(ip) || f.Reverse.SrcIP.Equal(ip) || f.Reverse.DstIP.Equal(ip)
		}) {
			names = append(names, "conntrack")
		}
	})
	slices.Sort(names)
	return names
}

func names16(t *testing.T, m *ebpf.Map, addr [16]byte) bool {
	t.Helper()
	if m.Type() != ebpf.Hash && m.Type() != ebpf.LRUHash {
		return false
	}
	var key, value []byte
	it := m.Iterate()
	for it.Next(&key, &value) {
		if bytes.Contains(key, addr[:]) || bytes.Contains(value, addr[:]) {
			return true
		}
	}
	must(t, it.Err())
	return false
}

// Whatever remembers a pod by its address forgets it before the address is another's, and nothing else.
func TestFreedAddressIsForgotten(t *testing.T) { inModes(t, forgotten) }

func forgotten(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	goes, stays := n.addPod("goes"), n.addPod("stays")
	for _, p := range []*pod{goes, stays} {
		n.remember(l, p)
	}
	want := []string{"conntrack", "lab_kernel_ct"}
	if n.cfg.KubeProxyReplacement {
		want = []string{"lab_affinity", "lab_ct", "lab_fragments", "lab_nat", "lab_peers"}
	}
	for _, p := range []*pod{goes, stays} {
		named := n.named(p.Addr)
		for _, m := range want {
			if !slices.Contains(named, m) {
				t.Fatalf("before, %s is named in %v, want %v", p.Addr, named, want)
			}
		}
	}
	before := n.named(stays.Addr)
	n.delete(goes.spec)
	n.purge()
	if named := n.named(goes.Addr); len(named) != 0 {
		t.Errorf("the address of a pod that is gone is named in %v", named)
	}
	if named := n.named(stays.Addr); !slices.Equal(named, before) {
		t.Errorf("the address of the pod that stays was named in %v, and is in %v", before, named)
	}
	if resting := n.resting(); len(resting) != 1 || resting[0].Addr != goes.Addr {
		t.Errorf("at rest are %v", resting)
	}
	// And it may be had again.
	ns, spec := n.newSpec("new")
	spec.Addr = goes.Addr
	n.add(spec)
	if resting := n.resting(); len(resting) != 0 {
		t.Errorf("at rest are %v, beside the pod that has it", resting)
	}
	serve(l.outside.NS)
	asks{ns, l.outside.Addr, n.Host.Addr}.check(t)
}

func (n *node) resting() (list []datapath.RestingAddr) {
	n.t.Helper()
	n.Do(func() {
		var err error
		list, err = n.dp.Resting(ctx(n.t))
		must(n.t, err)
	})
	return list
}

// remember has the node remember the pod in every way there is.
func (n *node) remember(l *lab, p *pod) {
	t := n.t
	t.Helper()
	other := n.addPod("other")
	serve(other.NS)
	outside := listenUDP(t, l.outside.NS, netip.AddrPort{})
	to := netip.AddrPortFrom(l.outside.Addr, uint16(outside.LocalAddr().(*net.UDPAddr).Port)) //nolint:gosec // a port
	c := listenUDP(t, p.NS, netip.AddrPort{})
	must(t, second(c.WriteToUDPAddrPort([]byte("hello"), to)))
	must(t, second(outside.Read(make([]byte, 64))))
	// In fragments, to a local pod.
	must(t, second(p.Ask("udp4", other.at(port), make([]byte, 3000))))
	if !n.cfg.KubeProxyReplacement {
		return
	}
	s := demo(ready(other, n))
	s.Affinity = time.Hour
	l.balance(both(s)...)
	must(t, second(p.Ask("tcp4", netip.AddrPortFrom(clusterIP, port), []byte("hello"))))
	// As sockets leave it, of which these tests have none in a cgroup.
	peers, err := ebpf.LoadPinnedMap(mapPath(t, n, bpf.SockMapLabPeers), nil)
	must(t, err)
	defer peers.Close()
	must(t, peers.Put(bpf.SockPeerKey{Cookie: uint64(p.HostIndex), Addr: bpf.IP{B: p.Addr.As16()}, Port: port, Proto: unix.IPPROTO_UDP}, bpf.SockPeer{}))
}

func mapPath(t *testing.T, n *node, name string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(n.BPFFS, "wirelab/maps/*", name))
	must(t, err)
	if len(paths) != 1 {
		t.Fatalf("map %s is pinned at %v", name, paths)
	}
	return paths[0]
}

// An address that rests does so across restarts, for as long as it is to.
func TestAddressesRestAcrossRestarts(t *testing.T) {
	n := newLab(t, 1, routed).nodes[0]
	p, q := n.addPod("p"), n.addPod("q")
	n.delete(p.spec)
	n.close()
	n.Run("ip", "link", "del", q.HostIf)
	n.open()
	n.Do(func() { must(t, second(n.dp.SyncEndpoints(ctx(t)))) })
	for range 2 {
		resting := n.resting()
		if len(resting) != 2 || resting[0].Addr != p.Addr || resting[1].Addr != q.Addr || resting[0].For < resting[1].For || resting[0].For > time.Minute {
			t.Fatalf("at rest are %v, want %s and, shorter, %s", resting, p.Addr, q.Addr)
		}
		n.purge()
		n.close()
		n.open()
	}
	n.dp.AgeResting(t, rest/2)
	n.purge()
	if resting := n.resting(); len(resting) != 2 {
		t.Errorf("after half the rest, at rest are %v", resting)
	}
	n.dp.AgeResting(t, rest)
	n.purge()
	if resting := n.resting(); len(resting) != 0 {
		t.Errorf("after the rest, at rest are %v", resting)
	}
}

// A pod that is made again under its own address, because it was damaged, keeps its flows.
func TestMendedPodKeepsItsFlows(t *testing.T) {
	l := newLab(t, 1, routed)
	n := l.nodes[0]
	p := n.addPod("p")
	sign(t, l.outside.NS)
	must(t, second(whoAt(t, p.NS, "tcp4", netip.AddrPortFrom(l.outside.Addr, port))))
	flows := len(n.flowsOf("masquerade"))
	n.Run("ip", "link", "del", p.HostIf)
	n.add(p.spec)
	n.purge()
	if now := len(n.flowsOf("masquerade")); now != flows || flows == 0 {
		t.Errorf("%d flows are left of %d", now, flows)
	}
}

// With full maps, too, an endpoint is deleted at once, and the purge is short.
func TestPurgeOfFullMaps(t *testing.T) {
	l := newLab(t, 1, routed)
	n := l.nodes[0]
	p := n.addPod("p")
	n.dp.FillFlows(t)
	start := time.Now()
	n.delete(p.spec)
	deleted := time.Since(start)
	start = time.Now()
	n.purge()
	purged := time.Since(start)
	flows, err := n.dp.Services().Flows(context.Background())
	must(t, err)
	t.Logf("deleted in %s, purged in %s, beside %d flows", deleted, purged, len(flows))
	if len(flows) < 60000 || deleted > 500*time.Millisecond || purged > 2*time.Second {
		t.Error("that is not what it was made for")
	}
}
