package datapath_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// native is the native-routing CIDR of every lab in these tests.
var native = netip.MustParsePrefix("10.0.0.0/8")

// lab is a network of nodes that run the real data plane, and a host outside the cluster.
type lab struct {
	t       *testing.T
	net     *netnstest.Network
	nodes   []*node
	outside *netnstest.Host
}

type node struct {
	*netnstest.Host
	t      *testing.T
	cgroup *netnstest.Cgroup
	cfg    datapath.Config
	dp     *datapath.Datapath
	next   netip.Addr
}

type pod struct {
	*netnstest.NS
	spec datapath.EndpointSpec
	api.Endpoint
}

// newLab makes a lab with routes between the nodes and masquerading, each node changed by with first.
func newLab(t *testing.T, nodes int, with ...func(*datapath.Config)) *lab {
	t.Helper()
	netnstest.Needs(t, netnstest.Atomics)
	l := &lab{t: t, net: netnstest.NewNetwork(t)}
	for i := range nodes {
		l.nodes = append(l.nodes, l.addNode(i, with...))
	}
	l.outside = l.net.AddHost("outside")
	for _, n := range l.nodes {
		n.AddRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), l.outside.Addr)
	}
	l.reconcile()
	return l
}

func (l *lab) addNode(i int, with ...func(*datapath.Config)) *node {
	l.t.Helper()
	host := l.net.AddHost(fmt.Sprintf("node%d", i))
	cgroup := netnstest.NewCgroup(l.t)
	n := &node{Host: host, t: l.t, cgroup: cgroup, cfg: datapath.Config{
		NodeName:   fmt.Sprintf("node%d", i),
		NodeIP:     host.Addr,
		PodCIDR:    netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24),
		Network:    settings.Network{RoutingMode: settings.RoutingNative, IPv4NativeRoutingCIDR: native, EnableIPv4Masquerade: true, AutoDirectNodeRoutes: true},
		BPFFS:      host.BPFFS,
		CgroupRoot: cgroup.Path,
	}}
	for _, change := range with {
		change(&n.cfg)
	}
	n.next = n.cfg.Router()
	n.open()
	l.t.Cleanup(n.close)
	return n
}

// desired is what the reconcilers of every node are given.
func (l *lab) desired() []datapath.Node {
	var nodes []datapath.Node
	for _, n := range l.nodes {
		nodes = append(nodes, datapath.Node{Name: n.cfg.NodeName, IP: n.cfg.NodeIP, PodCIDRs: []netip.Prefix{n.cfg.PodCIDR}})
	}
	return nodes
}

func (l *lab) reconcile() {
	l.t.Helper()
	for _, n := range l.nodes {
		n.Do(func() {
			skipped, err := n.dp.Routes().Apply(context.Background(), l.desired())
			must(l.t, err)
			if len(skipped) != 0 {
				l.t.Fatalf("nodes %v are on the same LAN, but were skipped", skipped)
			}
			must(l.t, n.dp.Masquerade().Apply(context.Background(), l.desired()))
			must(l.t, n.dp.IPCache().Apply(context.Background(), l.whoHas(n)))
		})
	}
}

// whoHas is what a node is told of who has which address.
func (l *lab) whoHas(n *node) []api.IPCacheEntry {
	one := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	entries := []api.IPCacheEntry{
		{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Identity: 2},
		{Prefix: one(n.cfg.NodeIP), Identity: 1, NodeAddress: true},
		{Prefix: one(n.cfg.Router()), Identity: 1, NodeAddress: true},
		{Prefix: n.cfg.PodCIDR},
	}
	for _, o := range l.nodes {
		if o != n {
			entries = append(entries, api.IPCacheEntry{Prefix: one(o.cfg.NodeIP), Identity: 6, Node: o.cfg.NodeIP, NodeAddress: true},
				api.IPCacheEntry{Prefix: o.cfg.PodCIDR, Node: o.cfg.NodeIP})
		}
	}
	return entries
}

func (n *node) open() {
	n.t.Helper()
	n.Do(func() {
		var err error
		n.dp, err = datapath.Open(ctx(n.t), n.cfg, logger(n.t))
		must(n.t, err)
	})
}

func (n *node) close() {
	n.t.Helper()
	if n.dp != nil {
		must(n.t, n.dp.Close())
	}
	n.dp = nil
}

// newSpec is a pod that is not added yet, in a namespace of its own.
func (n *node) newSpec(name string) (*netnstest.NS, datapath.EndpointSpec) {
	n.t.Helper()
	ns := netnstest.New(n.t, name)
	n.next = n.next.Next()
	return ns, datapath.EndpointSpec{
		HostIf:    api.HostIfName(rand.Text(), "eth0"),
		IfName:    "eth0",
		Namespace: "default",
		Pod:       name,
		Addr:      n.next,
		NetNS:     ns.FD(),
	}
}

func (n *node) addPod(name string) *pod {
	n.t.Helper()
	ns, spec := n.newSpec(name)
	return &pod{NS: ns, spec: spec, Endpoint: n.add(spec)}
}

func (n *node) add(spec datapath.EndpointSpec) (ep api.Endpoint) {
	n.t.Helper()
	n.Do(func() {
		var err error
		ep, err = n.dp.AddEndpoint(ctx(n.t), spec)
		must(n.t, err)
	})
	return ep
}

func (n *node) delete(spec datapath.EndpointSpec) (freed []netip.Addr) {
	n.t.Helper()
	n.Do(func() {
		var err error
		freed, err = n.dp.DeleteEndpoint(ctx(n.t), spec.HostIf)
		must(n.t, err)
	})
	return freed
}

// packets is a counter of the node's.
func (n *node) packets(reason string, dir datapath.Direction) uint64 {
	n.t.Helper()
	list, err := n.dp.Metrics()
	must(n.t, err)
	for _, m := range list {
		if m.Reason == reason && m.Direction == dir {
			return m.Packets
		}
	}
	return 0
}

func (p *pod) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.Endpoint.Addr, port) }

// ctx bounds whatever a test calls.
func ctx(t *testing.T) context.Context {
	limit := 20 * time.Second
	if netnstest.OtherKernel() {
		limit = 5 * time.Minute
	}
	c, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return c
}

// logger writes to the test's log.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
