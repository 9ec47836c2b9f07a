package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/agent/reach"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
)

// probed is longer than a node, or the way to it, is left alone.
const probed = 30 * time.Second

// twoProbingNodes are two nodes on one network whose agents know each other.
func twoProbingNodes(t *testing.T, settings func(*config.Config)) (n1, n2 *testNode) {
	t.Helper()
	netnstest.RequireRoot(t)
	network := netnstest.NewNetwork(t)
	n1, n2 = newTestNodeOn(t, network, "n1", testPodCIDR), newTestNodeOn(t, network, "n2", "10.99.2.0/24")
	for _, n := range []*testNode{n1, n2} {
		n.cfg.ClusterHealth.Enabled = true
		settings(&n.cfg)
	}
	n1.startBeside(n2)
	n2.startBeside(n1)
	return n1, n2
}

// startBeside starts an agent that knows of another node.
func (n *testNode) startBeside(other *testNode) {
	n.t.Helper()
	n.start()
	n.tell("node %s %s %s", other.cfg.NodeName, other.Addr, other.podCIDR)
}

// health is what n's agent says of another node; empty while it says nothing.
func (n *testNode) health(node string) api.NodeHealth {
	if h := n.status().ClusterHealth; h != nil {
		for _, one := range h.Nodes {
			if one.Name == node {
				return one
			}
		}
	}
	return api.NodeHealth{}
}

// within is eventually with more patience: nodes that are reached are probed
// every ten seconds.
func within(t *testing.T, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to be that %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestNodesProbeEachOther(t *testing.T) {
	t.Parallel() // they wait for nodes to be probed again
	n1, n2 := twoProbingNodes(t, func(*config.Config) {})
	eventually(t, "the nodes reach each other", func() bool {
		return n1.status().ClusterHealth.Reachable == 2 && n2.status().ClusterHealth.Reachable == 2
	})
	h := n1.health("n2")
	if h.Addr != n2.Addr || h.Endpoint != n2.status().ClusterHealth.Endpoint || len(h.Probes) != 4 || h.Self {
		t.Errorf("of n2 is known %+v", h)
	}
	for _, p := range h.Probes {
		// A first packet may be lost while the other node has no route back yet, and is sent again.
		if p.Latency <= 0 || p.Latency > reach.DefaultPace().Timeout || p.Error != "" {
			t.Errorf("a probe that was answered: %+v", p)
		}
	}
	if self := n1.health("n1"); !self.Self || len(self.Probes) != 2 {
		t.Errorf("of itself n1 knows %+v", self)
	}

	n2.kill()
	within(t, probed, "the agent that is gone is missed", func() bool { return n1.health("n2").Failing != "" })
	h = n1.health("n2")
	for _, part := range []string{"node n2 is partly reached: its address " + n2.Addr.String() + " by icmp, not by tcp (connection refused)", "its health endpoint " + h.Endpoint.String() + " by neither icmp"} {
		if !strings.Contains(h.Failing, part) {
			t.Errorf("no %q in %q", part, h.Failing)
		}
	}
	if h.Probes[0].Error != "" {
		t.Errorf("the node itself is there and answers pings: %+v", h.Probes[0])
	}
	if s := n1.status(); !s.Ready || s.ClusterHealth.Reachable != 1 || h.Since.IsZero() {
		t.Errorf("a node that is not reached has no say in readiness: %+v", s.ClusterHealth)
	}
	n2.startBeside(n1)
	within(t, probed, "the node is reached again", func() bool { return n1.health("n2").Reached == api.Reached })
	if h := n1.health("n2"); h.Failing != "" || !h.Since.IsZero() {
		t.Errorf("it is reached again, and yet %+v", h)
	}
}

// TestProbesTakeThePodsWay drops what pods of one node send to the other's,
// and nothing between the nodes.
func TestProbesTakeThePodsWay(t *testing.T) {
	t.Parallel() // they wait for nodes to be probed again
	n1, n2 := twoProbingNodes(t, func(*config.Config) {})
	eventually(t, "n1 reaches n2", func() bool { return n1.health("n2").Reached == api.Reached })
	n2.Run("iptables", "-I", "FORWARD", "-j", "DROP")
	within(t, probed, "the endpoint of n2 is not reached", func() bool { return n1.health("n2").Failing != "" })
	for _, p := range n1.health("n2").Probes {
		if want := p.Target == "endpoint"; (p.Error != "") != want || want && p.Error != "no answer" {
			t.Errorf("with forwarding stopped on n2: %+v", p)
		}
	}
	n2.Run("iptables", "-D", "FORWARD", "-j", "DROP")
	within(t, probed, "n1 reaches n2 again", func() bool { return n1.health("n2").Reached == api.Reached })
}

// TestProbesInEveryMode holds that each mode carries probes, and that the
// status says what carries them.
func TestProbesInEveryMode(t *testing.T) {
	for _, tt := range []struct {
		mode, host, masquerading string
		settings                 func(*config.Config)
	}{
		{"kubeproxy", "Legacy", "iptables", func(*config.Config) {}},
		{"kubeproxy-replacement", "Legacy", "iptables", func(c *config.Config) { c.KubeProxyReplacement = true }},
		{"ebpf", "BPF", "BPF", func(c *config.Config) { c.KubeProxyReplacement, c.BPF.Masquerade = true, true }},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			n1, n2 := twoProbingNodes(t, func(c *config.Config) {
				tt.settings(c)
				c.Paths.CgroupRoot = strings.Replace(netnstest.NewCgroup(t).Path, "self", fmt.Sprint(os.Getpid()), 1)
			})
			eventually(t, "the nodes reach each other", func() bool { return n1.health("n2").Reached == api.Reached && n2.health("n1").Reached == api.Reached })
			d := n1.status().Datapath
			if d.Mode != tt.mode || d.Routing.Host != tt.host || d.Routing.Requested != tt.host || (d.Routing.Reason == "") != (tt.host == "BPF") {
				t.Errorf("the mode is %s, host routing %+v", d.Mode, d.Routing)
			}
			if m := d.Masquerading; !m.Enabled || m.Kind != tt.masquerading || (tt.masquerading == "BPF") != slices.Equal(m.Devices, []string{netnstest.NIC}) {
				t.Errorf("masquerading is %+v", m)
			}
		})
	}
}

// TestIdleConnectionsHideNoNode has a host hold connections to all that a node
// answers at, and open new ones for those that are closed.
func TestIdleConnectionsHideNoNode(t *testing.T) {
	t.Parallel()
	n1, n2 := twoProbingNodes(t, func(c *config.Config) { c.KubeProxyReplacement = true })
	eventually(t, "n1 reaches n2", func() bool { return n1.health("n2").Reached == api.Reached })
	endpoint := n2.status().ClusterHealth.Endpoint
	metrics := netip.AddrPortFrom(n2.Addr, uint16(n2.cfg.Prometheus.Port))
	for _, to := range []netip.AddrPort{
		netip.AddrPortFrom(n2.Addr, uint16(n2.cfg.ClusterHealth.Port)),
		netip.AddrPortFrom(endpoint, uint16(n2.cfg.ClusterHealth.Port)),
		metrics,
	} {
		n1.crowd(to, 300)
	}
	n1.kill() // the next one probes at once
	n1.startBeside(n2)
	within(t, 5*time.Second, "n1 has probed n2", func() bool { return !n1.health("n2").ProbedAt.IsZero() })
	if h := n1.health("n2"); h.Reached != api.Reached {
		t.Errorf("of n2 is known %+v", h)
	}
	c, err := n1.Dial("tcp4", metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("GET /metrics HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(page), "wirelab_") {
		t.Errorf("the metrics are %d bytes, %v", len(page), err)
	}
}

// crowd keeps many idle connections open until the test ends.
func (n *testNode) crowd(to netip.AddrPort, many int) {
	n.t.Helper()
	conns := make([]net.Conn, many)
	fill := func() {
		for i, c := range conns {
			if c != nil {
				c.SetReadDeadline(time.Now().Add(10 * time.Microsecond))
				if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
					continue
				}
				c.Close()
			}
			var err error
			if conns[i], err = n.Dial("tcp4", to); err != nil {
				conns[i] = nil
			}
		}
	}
	fill()
	if conns[many-1] == nil {
		n.t.Fatalf("%s cannot be connected to", to)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				fill()
			}
		}
	}()
	n.t.Cleanup(func() {
		close(stop)
		<-done
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
}

func TestHealthEndpoint(t *testing.T) {
	t.Parallel()
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	before := n.kernelState()
	n.cfg.ClusterHealth.Enabled = true
	n.start()
	has := func() bool { s := n.status(); return s.ClusterHealth.Endpoint.IsValid() && s.Endpoints == 1 }
	eventually(t, "there is a health endpoint", has)
	ep := n.endpoints()[0]
	if ep.Namespace != healthNamespace || ep.Pod != healthName || !ep.Attached || ep.Addr != n.status().ClusterHealth.Endpoint {
		t.Errorf("it is %+v", ep)
	}

	r := n.runtime()
	list := r.list()
	err := r.do(func(ctx context.Context) error { return r.cni.GCNetworkList(ctx, list, &libcni.GCArgs{}) })
	if eps := n.endpoints(); err != nil || len(eps) != 1 || eps[0] != ep {
		t.Errorf("the runtime collects all of its own: %v, left are %+v", err, eps)
	}

	n.Run("ip", "link", "del", ep.HostIf)
	within(t, probed, "the health endpoint is made again", func() bool {
		eps := n.endpoints()
		return len(eps) == 1 && eps[0].HostIndex != 0 && eps[0].HostIndex != ep.HostIndex
	})

	n.kill()
	n.start()
	eventually(t, "the next agent has one, too", has)
	if links := n.links("lxc"); len(links) != 1 {
		t.Errorf("devices after the restart: %v", links)
	}

	n.tell("uninstall")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.expectClean(before)
}

// TestHealthEndpointGoesWithTheAgent holds that an agent that is stopped
// takes its endpoint along, and leaves pods alone.
func TestHealthEndpointGoesWithTheAgent(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.cfg.ClusterHealth.Enabled = true
	n.start()
	eventually(t, "there is a health endpoint", func() bool { return n.status().Endpoints == 1 })
	n.runtime().mustAdd("a", netnstest.New(t, "pod"))
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if links := n.links("lxc"); len(links) != 1 {
		t.Errorf("devices after the stop: %v", links)
	}
}

// TestHealthPortIsTaken has another process on the port.
func TestHealthPortIsTaken(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.cfg.ClusterHealth.Enabled = true
	n.cfg.ClusterHealth.Port = n.cfg.Prometheus.Port
	n.start()
	eventually(t, "the status says why nobody is probed", func() bool {
		return strings.Contains(n.status().ClusterHealth.Error, "clusterHealth.port")
	})
	if s := n.status(); !s.Ready || len(s.ClusterHealth.Nodes) != 0 {
		t.Errorf("the node itself works: %v, %+v", s.NotReady, s.ClusterHealth)
	}
	if _, err := os.Stat(n.cfg.Paths.AgentSocket()); err != nil {
		t.Error(err)
	}
}
