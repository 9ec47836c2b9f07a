package datapath_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

// traces is everything on a node that could be ours, as text: what Clean and DeleteEndpoint have to
// bring back to what it was.
func traces(n *netnstest.Host) string {
	var b strings.Builder
	// Without the devices' states, which the kernel brings up to date when it comes round to it.
	for _, command := range []string{
		"ip -oneline addr show scope global",
		"ip route show table all",
		"ip neigh show nud permanent",
		"tc qdisc show",
	} {
		fmt.Fprintf(&b, "# %s\n%s", command, n.Run(strings.Fields(command)...))
	}
	b.WriteString("# devices\n" + devices(n.NS) + "\n")
	b.WriteString("# iptables\n" + rules(n.NS))
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/eth0/rp_filter"} {
		fmt.Fprintf(&b, "# %s=%s\n", path, n.ReadSysctl(path))
	}
	b.WriteString("# pins\n" + strings.Join(pinned(n.BPFFS), "\n"))
	return b.String()
}

// rules are the node's iptables rules and chains without counters and comments, and without tables that
// have neither: looking at a table makes it.
func rules(n *netnstest.NS) string {
	var b strings.Builder
	for line := range strings.Lines(n.Run("iptables-save")) {
		if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":") && !strings.Contains(line, "ACCEPT") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// devices are the names of a namespace's devices.
func devices(ns *netnstest.NS) string {
	var names []string
	for line := range strings.Lines(ns.Run("ip", "-oneline", "link")) {
		names = append(names, strings.Fields(line)[1])
	}
	return strings.Join(names, " ")
}

func pinned(bpffs string) []string {
	var names []string
	filepath.WalkDir(bpffs+"/", func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			names = append(names, strings.TrimPrefix(path, bpffs+"/"))
		}
		return nil
	})
	return names
}

func TestCleanLeavesNothing(t *testing.T) {
	network := netnstest.NewNetwork(t)
	l := &lab{t: t, net: network}
	probe := network.AddHost("before")
	probe.Sysctl("net/ipv4/conf/all/rp_filter", "1")
	probe.Sysctl("net/ipv4/ip_forward", "0")
	n := &node{Host: probe, t: t, cfg: datapath.Config{
		Mode: datapath.ModeKubeProxy, NodeName: "node", NodeIP: probe.Addr, PodCIDR: netip.MustParsePrefix("10.244.7.0/24"),
		NativeCIDR: native, Masquerade: true, DirectNodeRoutes: true, BPFFS: probe.BPFFS,
	}}
	n.next = n.cfg.Router()
	before := traces(probe)
	n.open()
	l.nodes = []*node{n, {Host: probe, t: t, dp: n.dp, cfg: datapath.Config{NodeName: "other", NodeIP: netip.MustParseAddr("192.0.2.77"), PodCIDR: netip.MustParsePrefix("10.244.8.0/24")}}}
	n.Do(func() {
		must(t, second(n.dp.Routes().Apply(context.Background(), l.desired())))
		must(t, n.dp.Masquerade().Apply(context.Background(), l.desired()))
		must(t, n.dp.HostPorts().Apply(context.Background(), []datapath.HostPort{{Proto: "tcp", Port: 80, Backend: netip.MustParseAddrPort("10.244.7.2:80")}}))
	})
	p := n.addPod("p")
	n.close()

	// The positive control: all of it is there, and seen.
	during := traces(probe)
	for _, trace := range []string{
		p.HostIf, "lab_host", "lab_net", "10.244.7.1", "10.244.7.0/24 via", "10.244.8.0/24 via", "proto 87",
		"LAB-MASQUERADE", "LAB-HOSTPORT", "LAB-HOSTPORT-SNAT", "ip_forward=1", "all/rp_filter=0",
		"wirelab/links/lab_host", "wirelab/links/" + p.HostIf, "wirelab/maps/v1/lab_endpoints", "wirelab/maps/lab_sysctls",
	} {
		if !strings.Contains(during, trace) {
			t.Errorf("%q is not on the node while it is in use:\n%s", trace, during)
		}
	}
	for range 2 { // cleaning a clean node does nothing
		n.Do(func() {
			must(t, datapath.Clean(ctx(t), datapath.Config{BPFFS: probe.BPFFS}, logger(t)))
		})
		if after := traces(probe); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSixtyEndpointsLeaveNothing(t *testing.T) { sixtyEndpoints(t) }

func sixtyEndpoints(t *testing.T, with ...func(*datapath.Config)) {
	n := newLab(t, 1, with...).nodes[0]
	before := traces(n.Host)
	var specs []datapath.EndpointSpec
	var slowest, total time.Duration
	for i := range 60 {
		_, spec := n.newSpec(fmt.Sprintf("pod%d", i))
		start := time.Now()
		n.add(spec)
		took := time.Since(start)
		total += took
		slowest = max(slowest, took)
		specs = append(specs, spec)
	}
	t.Logf("60 endpoints: %s on average, %s at most", total/60, slowest)
	n.Do(func() {
		eps, err := n.dp.Endpoints(ctx(t))
		must(t, err)
		if len(eps) != 60 {
			t.Errorf("%d endpoints are listed, want 60", len(eps))
		}
		for i, ep := range eps {
			if i > 0 && !eps[i-1].Addr.Less(ep.Addr) {
				t.Error("endpoints are not sorted by address")
			}
			if ep.Namespace != "default" || ep.Name != fmt.Sprintf("pod%d", i) || !ep.Attached || ep.ID != uint32(i+2) {
				t.Errorf("endpoint %d is %+v", i, ep)
			}
		}
	})
	start := time.Now()
	for _, spec := range specs {
		if freed := n.delete(spec); !slices.Equal(freed, []netip.Addr{spec.Addr}) {
			t.Errorf("freed %v, want %s", freed, spec.Addr)
		}
	}
	t.Logf("deleted: %s on average", time.Since(start)/60)
	if after := traces(n.Host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	n.expectEntries(0)
}

// expectEntries looks into the maps that have an entry for each endpoint.
func (n *node) expectEntries(want int) {
	n.t.Helper()
	n.Do(func() {
		s, err := n.dp.Status(ctx(n.t))
		must(n.t, err)
		for _, m := range s.Maps {
			if (m.Name == "lab_endpoints" || m.Name == "lab_ifaces") && m.Entries != want {
				n.t.Errorf("%s has %d entries, want %d", m.Name, m.Entries, want)
			}
		}
	})
}

func TestAddIsIdempotent(t *testing.T) { addTwice(t) }

func addTwice(t *testing.T, with ...func(*datapath.Config)) {
	l := newLab(t, 1, with...)
	n := l.nodes[0]
	p, q := n.addPod("p"), n.addPod("q")
	again := n.add(p.spec)
	if again.HostIfIndex != p.HostIfIndex || again.PodMAC.String() != p.PodMAC.String() || again.ID != p.ID {
		t.Errorf("the second time it is %+v, was %+v", again, p.Endpoint)
	}
	// A damaged one is made anew.
	p.Run("ip", "route", "del", "default")
	n.Do(func() {
		err := n.dp.CheckEndpoint(ctx(t), p.spec)
		if err == nil || !strings.Contains(err.Error(), "default") {
			t.Errorf("the missing route is not reported: %v", err)
		}
	})
	n.add(p.spec)
	n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), p.spec)) })
	if _, err := p.Ping(q.Addr, netnstest.PingOptions{}); err != nil {
		t.Error(err)
	}
	n.delete(p.spec)
	if freed := n.delete(p.spec); freed != nil {
		t.Errorf("the second deletion freed %v", freed)
	}
	n.Do(func() {
		if err := n.dp.CheckEndpoint(ctx(t), p.spec); !errors.Is(err, datapath.ErrUnknownEndpoint) {
			t.Errorf("a deleted endpoint's check says %v", err)
		}
	})
}

func TestCheckEndpointReportsDamage(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	for name, damage := range map[string]struct {
		do   func(p *pod)
		says string
	}{
		"pod's interface down": {func(p *pod) { p.Run("ip", "link", "set", "eth0", "down") }, "eth0 is down"},
		"host side down":       {func(p *pod) { n.Run("ip", "link", "set", p.HostIf, "down") }, "is down"},
		"address gone":         {func(p *pod) { p.Run("ip", "addr", "flush", "dev", "eth0") }, "does not have address"},
		"other MAC":            {func(p *pod) { p.Run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99") }, "02:00:00:00:00:99"},
		"other MTU":            {func(p *pod) { p.Run("ip", "link", "set", "eth0", "mtu", "1300") }, "1300"},
		"program gone":         {func(p *pod) { must(t, os.Remove(filepath.Join(n.BPFFS, "wirelab/links", p.HostIf))) }, "not attached"},
		"device gone":          {func(p *pod) { n.Run("ip", "link", "del", p.HostIf) }, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			p := n.addPod("p")
			n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), p.spec)) })
			damage.do(p)
			n.Do(func() {
				if err := n.dp.CheckEndpoint(ctx(t), p.spec); err == nil || !strings.Contains(err.Error(), damage.says) {
					t.Errorf("got %v, want it to say %q", err, damage.says)
				}
			})
			n.delete(p.spec)
		})
	}
}

func TestFailedAddLeavesNothing(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	live := n.addPod("live")
	before := traces(n.Host)
	// Each breaks the endpoint at another step.
	for name, breaks := range map[string]func(ns *netnstest.NS, spec *datapath.EndpointSpec) func(){
		"address in use": func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() { spec.Addr = live.Addr; return nil },
		"address outside": func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() {
			spec.Addr = netip.MustParseAddr("10.9.9.9")
			return nil
		},
		"router's address": func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() { spec.Addr = n.cfg.Router(); return nil },
		"no container ID":  func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() { spec.ContainerID = ""; return nil },
		"long interface name": func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() {
			spec.IfName = "sixteen-letters-"
			return nil
		},
		"namespace is no file": func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() { spec.NetNS = 1 << 20; return nil },
		"interface there before": func(ns *netnstest.NS, _ *datapath.EndpointSpec) func() {
			netnstest.Connect(ns, "eth0", ns, "other")
			return nil
		},
		"route there before": func(ns *netnstest.NS, _ *datapath.EndpointSpec) func() {
			netnstest.Connect(ns, "net1", ns, "other")
			ns.Run("ip", "route", "add", "default", "dev", "net1")
			return nil
		},
		"link cannot be pinned": func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() {
			at := filepath.Join(n.BPFFS, "wirelab/links", datapath.HostIfName(spec.ContainerID, spec.IfName))
			must(t, os.Mkdir(at, 0o700))
			must(t, os.Mkdir(filepath.Join(at, "full"), 0o700))
			return func() { must(t, os.RemoveAll(at)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns, spec := n.newSpec("broken")
			undo := breaks(ns, &spec)
			podBefore := devices(ns)
			n.Do(func() {
				_, err := n.dp.AddEndpoint(ctx(t), spec)
				if err == nil {
					t.Fatal("the endpoint was added")
				}
				if name == "address in use" && !errors.Is(err, datapath.ErrAddrInUse) {
					t.Errorf("the error is %v", err)
				}
				t.Log(err)
			})
			if undo != nil {
				undo()
			}
			if after := traces(n.Host); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if podAfter := devices(ns); podAfter != podBefore {
				t.Errorf("in the pod before:\n%s\nafter:\n%s", podBefore, podAfter)
			}
			n.expectEntries(1)
		})
	}
}

func TestCancelledAddLeavesNothing(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	before := traces(n.Host)
	_, spec := n.newSpec("cancelled")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	n.Do(func() {
		if _, err := n.dp.AddEndpoint(cancelled, spec); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want it to be cancelled", err)
		}
	})
	if after := traces(n.Host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// Endpoints of different pods are added at the same time, as kubelet asks for them.
func TestConcurrentEndpoints(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	before := traces(n.Host)
	var specs []datapath.EndpointSpec
	for i := range 16 {
		_, spec := n.newSpec(fmt.Sprintf("pod%d", i))
		specs = append(specs, spec)
	}
	each := func(do func(datapath.EndpointSpec) error) {
		var all sync.WaitGroup
		for _, spec := range specs {
			all.Go(func() {
				n.Do(func() {
					if err := do(spec); err != nil {
						t.Error(err)
					}
				})
			})
		}
		all.Wait()
	}
	each(func(spec datapath.EndpointSpec) error { return second(n.dp.AddEndpoint(ctx(t), spec)) })
	each(func(spec datapath.EndpointSpec) error { return n.dp.CheckEndpoint(ctx(t), spec) })
	n.expectEntries(len(specs))
	each(func(spec datapath.EndpointSpec) error {
		return second(n.dp.DeleteEndpoint(ctx(t), spec.ContainerID, spec.IfName))
	})
	n.expectEntries(0)
	if after := traces(n.Host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// Closing and opening again, with other settings too, loses no packet and resets no connection.
func TestRestartLosesNothing(t *testing.T) { restart(t) }

func restart(t *testing.T, with ...func(*datapath.Config)) {
	l := newLab(t, 2, with...)
	a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
	serve(b.NS, c.NS)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var asked atomic.Int64
	for _, to := range []*pod{b, c} {
		for _, network := range []string{"tcp4", "udp4"} {
			conn, err := a.Dial(network, to.at(port))
			must(t, err)
			t.Cleanup(func() { conn.Close() })
			clients.Go(func() { pingPong(t, conn, network == "tcp4", &asked, stop) })
		}
	}
	seen := func(more int64) {
		target := asked.Load() + more
		eventually(t, func() bool { return asked.Load() >= target || t.Failed() }, "traffic goes on")
	}
	seen(1000)
	for i := range 6 {
		for _, n := range l.nodes {
			n.close()
			n.cfg.MonitorAggregation = []datapath.Aggregation{datapath.AggregationNone, datapath.AggregationMaximum}[i%2]
			seen(100)
			n.open()
			seen(100)
		}
	}
	close(stop)
	clients.Wait()
	t.Logf("%d questions were answered", asked.Load())
}

// pingPong asks one question after the other on a connection; a lost one fails the test.
func pingPong(t *testing.T, c net.Conn, stream bool, asked *atomic.Int64, stop <-chan struct{}) {
	buf := make([]byte, 2048)
	if stream { // the server's greeting
		c.SetDeadline(time.Now().Add(netnstest.ProbeTimeout))
		if _, err := c.Read(buf); err != nil {
			t.Error(err)
			return
		}
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		c.SetDeadline(time.Now().Add(netnstest.ProbeTimeout))
		if _, err := c.Write([]byte("question")); err != nil {
			t.Error(err)
			return
		}
		var err error
		if stream {
			_, err = io.ReadFull(c, buf[:len("question")])
		} else {
			_, err = c.Read(buf)
		}
		if err != nil {
			t.Errorf("after %d answers: %v", asked.Load(), err)
			return
		}
		asked.Add(1)
	}
}

// A map of another shape, or the lack of all maps, is no reason to forget the endpoints.
func TestEndpointsSurviveALostMap(t *testing.T) {
	for name, damage := range map[string]func(n *node){
		"another shape": func(n *node) {
			at := filepath.Join(n.BPFFS, "wirelab/maps/v1/lab_endpoints")
			must(n.t, os.Remove(at))
			other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 8})
			must(n.t, err)
			defer other.Close()
			must(n.t, other.Pin(at))
		},
		"another layout": func(n *node) {
			dir := filepath.Join(n.BPFFS, "wirelab/maps")
			must(n.t, os.Rename(filepath.Join(dir, "v1"), filepath.Join(dir, "v0")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newLab(t, 1).nodes[0]
			a, b := n.addPod("a"), n.addPod("b")
			n.close()
			damage(n)
			n.open()
			n.expectEntries(2)
			for _, p := range []*pod{a, b} {
				n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), p.spec)) })
			}
			must(t, second(a.Ping(b.Addr, netnstest.PingOptions{})))
			if pins := pinned(n.BPFFS); slices.Contains(pins, "wirelab/maps/v0") {
				t.Error("the maps of the old layout are still pinned")
			}
		})
	}
}

func TestSyncEndpoints(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	alive, peer := n.addPod("alive"), n.addPod("peer")
	before := traces(n.Host)
	sync := func() (removed []datapath.Endpoint) {
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
		m, err := ebpf.LoadPinnedMap(filepath.Join(n.BPFFS, "wirelab/maps/v1/lab_endpoints"), nil)
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

func TestDeleteWithoutNamespaceOrVeth(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	before := traces(n.Host)
	p := n.addPod("p")
	n.Run("ip", "link", "del", p.HostIf)
	if freed := n.delete(p.spec); !slices.Equal(freed, []netip.Addr{p.Addr}) {
		t.Errorf("freed %v, want %s", freed, p.Addr)
	}
	if after := traces(n.Host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	n.expectEntries(0)
}

func TestKeepEndpoints(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	keep, drop := n.addPod("keep"), n.addPod("drop")
	n.Do(func() {
		removed, err := n.dp.KeepEndpoints(ctx(t), []datapath.Attachment{{ContainerID: keep.spec.ContainerID, IfName: "eth0"}})
		must(t, err)
		if len(removed) != 1 || removed[0].Addr != drop.Addr || removed[0].Name != "drop" {
			t.Errorf("removed %+v, want %s", removed, drop.Addr)
		}
		must(t, n.dp.CheckEndpoint(ctx(t), keep.spec))
	})
	n.expectEntries(1)
}
