package datapath_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

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
			if ep.Namespace != "default" || ep.Pod != fmt.Sprintf("pod%d", i) || !ep.Attached || ep.ID != uint32(i+2) {
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
	if again.HostIndex != p.HostIndex || again.PodMAC != p.PodMAC || again.ID != p.ID {
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
		"no name":          func(_ *netnstest.NS, spec *datapath.EndpointSpec) func() { spec.HostIf = ""; return nil },
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
			at := filepath.Join(n.BPFFS, "wirelab/links", spec.HostIf)
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
		return second(n.dp.DeleteEndpoint(ctx(t), spec.HostIf))
	})
	n.expectEntries(0)
	if after := traces(n.Host); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// The kernel keeps 255 bytes of an alias; a pod's namespace and name may have 317.
func TestLongPodName(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	_, spec := n.newSpec(strings.Repeat("n", 253))
	spec.Namespace = strings.Repeat("s", 63)
	n.add(spec)
	n.Do(func() {
		must(t, n.dp.CheckEndpoint(ctx(t), spec))
		eps, err := n.dp.Endpoints(ctx(t))
		must(t, err)
		if eps[0].Namespace != spec.Namespace || !strings.HasPrefix(spec.Pod, eps[0].Pod) || len(eps[0].Pod) != 255-64 {
			t.Errorf("the pod is %s/%s", eps[0].Namespace, eps[0].Pod)
		}
	})
}

// Two containers whose device would have one name: the second is refused, the first stays whole.
func TestNameTaken(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	p := n.addPod("p")
	other := p.spec
	other.Pod, other.Addr = "other", netip.MustParseAddr("10.244.0.77")
	n.Do(func() {
		if _, err := n.dp.AddEndpoint(ctx(t), other); err == nil || !strings.Contains(err.Error(), "belongs to default/p") {
			t.Errorf("got %v", err)
		}
		must(t, n.dp.CheckEndpoint(ctx(t), p.spec))
	})
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
		removed, err := n.dp.KeepEndpoints(ctx(t), []string{keep.HostIf})
		must(t, err)
		if len(removed) != 1 || removed[0].Addr != drop.Addr || removed[0].Pod != "drop" {
			t.Errorf("removed %+v, want %s", removed, drop.Addr)
		}
		must(t, n.dp.CheckEndpoint(ctx(t), keep.spec))
	})
	n.expectEntries(1)
}

// TestIdentityOfAnEndpoint: it has what it is made with before its first packet, another when it is told so, and keeps that
// over a sync and when the data plane is opened again.
func TestIdentityOfAnEndpoint(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	want := func(when string, want uint32) {
		t.Helper()
		eps, err := n.dp.Endpoints(ctx(t))
		must(t, err)
		if len(eps) != 1 || eps[0].Identity != want {
			t.Errorf("%s: %+v, want identity %d", when, eps, want)
		}
	}
	_, spec := n.newSpec("pod")
	spec.Identity = 300
	n.add(spec)
	want("at first", 300)
	must(t, n.dp.SetIdentity(spec.Addr, 301))
	want("after it was set", 301)
	must(t, n.dp.SetIdentity(netip.MustParseAddr("10.0.255.254"), 302)) // of an endpoint that is not there
	n.Do(func() {
		_, err := n.dp.SyncEndpoints(ctx(t))
		must(t, err)
	})
	want("after a sync", 301)
	n.close()
	n.open()
	want("after the data plane was opened again", 301)
}
