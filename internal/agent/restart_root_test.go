package agent

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/netnstest"
)

// TestAgentIsKilledAndStartsAgain holds that pods keep address, device and
// program, that the pool knows them, and that the new agent is quick.
func TestAgentIsKilledAndStartsAgain(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	pods := []*netnstest.NS{netnstest.New(t, "pod"), netnstest.New(t, "pod")}
	addrs := []netip.Addr{r.mustAdd("a", pods[0]), r.mustAdd("b", pods[1])}
	state, eps := n.kernelState(), n.endpoints()
	n.kill()
	if got := n.kernelState(); got != state {
		t.Errorf("before the kill:\n%s\nafter:\n%s", state, got)
	}
	start := time.Now()
	n.start()
	t.Logf("ready %v after the start", time.Since(start))
	if got := n.kernelState(); got != state {
		t.Errorf("before the restart:\n%s\nafter:\n%s", state, got)
	}
	for i, ep := range n.endpoints() {
		if ep != eps[i] {
			t.Errorf("endpoint was %+v and is %+v", eps[i], ep)
		}
	}
	if again := r.mustAdd("a", pods[0]); again != addrs[0] {
		t.Errorf("ADD of a pod that is there gave %s, it has %s", again, addrs[0])
	}
	if third := r.mustAdd("c", netnstest.New(t, "pod")); third == addrs[0] || third == addrs[1] {
		t.Errorf("%s was handed out twice", third)
	}
	if err := r.check("b", pods[1]); err != nil {
		t.Errorf("CHECK after the restart: %v", err)
	}
}

// TestDelWithoutAgent holds that the device goes at once, and the rest when
// an agent comes back.
func TestDelWithoutAgent(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	pods := []*netnstest.NS{netnstest.New(t, "pod"), netnstest.New(t, "pod")}
	r.mustAdd("goes", pods[0])
	stays := r.mustAdd("stays", pods[1])
	n.kill()
	start := time.Now()
	r.mustDel("goes", pods[0])
	t.Logf("DEL without an agent took %v", time.Since(start))
	if got := n.links("lxc"); len(got) != 1 {
		t.Errorf("host-side veths after a DEL without an agent: %v", got)
	}
	r.mustDel("goes", pods[0])
	if _, err := r.add("new", pods[0]); codeOf(err) != 11 {
		t.Errorf("ADD without an agent: %v", err)
	}
	if err := r.status(); codeOf(err) != 50 {
		t.Errorf("STATUS without an agent: %v", err)
	}
	n.start()
	if eps := n.endpoints(); len(eps) != 1 || eps[0].Addr != stays || n.status().IPAM.Used != 1 {
		t.Errorf("after the restart: %+v, %+v", eps, n.status().IPAM)
	}
}

// TestAddressesRestAcrossRestarts holds that a new agent hands out none that
// was in use a moment ago, whoever was there to see it go.
func TestAddressesRestAcrossRestarts(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	pod := netnstest.New(t, "pod")
	first := r.mustAdd("first", pod)
	r.mustDel("first", pod)
	n.kill()
	n.start()
	second := r.mustAdd("second", pod)
	n.kill()
	r.mustDel("second", pod)
	n.start()
	third := r.mustAdd("third", pod)
	if first == second || first == third || second == third {
		t.Errorf("addresses are %s, %s and %s", first, second, third)
	}
	if ipam := n.status().IPAM; ipam.Used != 1 || ipam.Resting != 2 {
		t.Errorf("status is %+v", ipam)
	}
}

// TestAgentStartsWithoutAnAPIServer holds that an agent whose API server is away serves pods on a node that an earlier one
// has served, and on no other; and that it undoes nothing of that one's work for want of knowing better.
func TestAgentStartsWithoutAnAPIServer(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	launch := func() {
		n.launch(serverAway + "=1")
		n.tell("node %s %s %s", n.cfg.NodeName, n.Addr, n.podCIDR)
		n.tell("node n2 192.0.2.200 10.99.2.0/24")
	}
	// Who has asked in vain for some seconds waits for some more.
	later := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !ok() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		eventually(t, what, ok)
	}
	launch()
	time.Sleep(serverPatience + time.Second) // it is not to begin, and nothing tells that it does not
	if s := strings.Join(n.status().NotReady, ""); !strings.Contains(s, "waiting for the API server") {
		t.Errorf("the agent says %q, want that it waits for the API server", s)
	}
	if _, err := os.Stat(n.cfg.Paths.CNISocket()); err == nil {
		t.Error("the agent serves pods, and nobody ever told it of its node")
	}
	n.tell("back")
	later("the agent is ready", func() bool { return n.status().Ready })
	r := n.runtime()
	before := r.mustAdd("before", netnstest.New(t, "pod"))

	n.kill()
	launch()
	later("the agent serves pods", func() bool { return n.status().CNI.Serving })
	n.tell("pod before app=before")
	after := r.mustAdd("after", netnstest.New(t, "pod"))
	if !netip.MustParsePrefix(n.podCIDR).Contains(after) || after == before {
		t.Errorf("the new pod has %s, that of before %s", after, before)
	}
	of := func(pod string) identity.ID {
		for _, ep := range n.endpoints() {
			if ep.Pod == pod {
				return identity.ID(ep.Identity)
			}
		}
		return identity.Unknown
	}
	if was, is := of("before"), of("after"); !was.OfPods() || is != identity.Init {
		t.Errorf("the pod of before has identity %s, the new one %s, want one of a pod's and init", was, is)
	}
	if s := n.status(); s.Ready || s.Kubernetes.Nodes != 0 {
		t.Errorf("the agent has heard of no node, and says ready: %v, %d nodes", s.Ready, s.Kubernetes.Nodes)
	}
	n.tell("back")
	later("the agent is ready and both pods have identities of their own", func() bool {
		if got := n.Run("ip", "route", "show", "10.99.2.0/24"); got == "" {
			t.Fatal("the route to the other node's pods was removed meanwhile")
		}
		return n.status().Ready && of("before").OfPods() && of("after").OfPods()
	})

	n.kill()
	launch()
	later("the agent serves pods", func() bool { return n.status().CNI.Serving })
	n.tell("node %s %s 10.99.7.0/24", n.cfg.NodeName, n.Addr) // it became another meanwhile
	n.tell("back")
	if err := n.wait(); err == nil || !strings.Contains(n.log.String(), "start anew") {
		t.Errorf("after another podCIDR: %v", err)
	}
}

// TestAddressesRestAcrossReboots holds that a node of which nothing is left gives no pod an address that other nodes know as
// another pod's.
func TestAddressesRestAcrossReboots(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.launch()
	n.tell("labnode %s %s %s 10.99.1.2=300 10.99.1.3=301", n.cfg.NodeName, n.Addr, n.podCIDR)
	n.tell("node %s %s %s", n.cfg.NodeName, n.Addr, n.podCIDR)
	eventually(t, "the agent is ready", func() bool { return n.status().Ready })
	if got := n.runtime().mustAdd("first", netnstest.New(t, "pod")).String(); got != "10.99.1.4" {
		t.Errorf("the first pod has %s, want 10.99.1.4", got)
	}
	if got := n.status().IPAM.Resting; got != 2 {
		t.Errorf("%d addresses rest, want 2", got)
	}
}

func TestStoppedAgentLeavesTheNodeWorking(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	n.runtime().mustAdd("a", netnstest.New(t, "pod"))
	state := n.kernelState()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if got := n.kernelState(); got != state {
		t.Errorf("before the stop:\n%s\nafter:\n%s", state, got)
	}
	if got := append(names(t, n.cfg.Paths.CNIConfDir), names(t, n.cfg.Paths.CNIBinDir)...); len(got) != 2 {
		t.Errorf("CNI files after the stop: %v", got)
	}
}

func TestUninstalledAgentCleansTheNode(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	before := n.kernelState()
	n.start()
	n.runtime().mustAdd("a", netnstest.New(t, "pod"))
	if n.kernelState() == before {
		t.Fatal("the agent made nothing that could be left")
	}
	n.tell("uninstall")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.expectClean(before)
}

func TestCleanNeedsNoAgent(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	before := n.kernelState()
	n.start()
	n.runtime().mustAdd("a", netnstest.New(t, "pod"))
	clean := func() (err error) {
		n.Do(func() { err = Clean(t.Context(), n.cfg.Paths, quiet()) })
		return err
	}
	if err := clean(); err == nil || !strings.Contains(err.Error(), "helm uninstall") {
		t.Errorf("cleaning beside an agent: %v", err)
	}
	n.kill()
	for range 2 {
		if err := clean(); err != nil {
			t.Fatal(err)
		}
	}
	n.expectClean(before)
}

func (n *testNode) expectClean(before string) {
	n.t.Helper()
	if got := n.kernelState(); got != before {
		n.t.Errorf("before wirelab:\n%s\nafter:\n%s", before, got)
	}
	if got := append(names(n.t, n.cfg.Paths.CNIConfDir), names(n.t, n.cfg.Paths.CNIBinDir)...); len(got) != 0 {
		n.t.Errorf("CNI files are left: %v", got)
	}
	if _, err := os.Stat(n.cfg.Paths.RunDir); !os.IsNotExist(err) {
		n.t.Errorf("the run directory is left: %v", err)
	}
}

// TestAgentSaysWhatItWaitsFor starts it on a node without a podCIDR.
func TestAgentSaysWhatItWaitsFor(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.launch()
	n.tell("node n1 %s -", n.Addr)
	eventually(t, "the agent says that it waits for a podCIDR", func() bool {
		s := n.status()
		return !s.Ready && strings.Contains(strings.Join(s.NotReady, ""), "podCIDR of node n1") &&
			strings.Contains(n.log.String(), "--allocate-node-cidrs")
	})
	if len(names(t, n.cfg.Paths.CNIConfDir)) != 0 {
		t.Error("the CNI configuration is there before the node works")
	}
	n.tell("node n1 %s %s", n.Addr, testPodCIDR)
	eventually(t, "the agent is ready", func() bool { return n.status().Ready })
	n.tell("node n1 %s 10.99.7.0/24", n.Addr) // a node that became another
	if err := n.wait(); err == nil || !strings.Contains(n.log.String(), "start anew") {
		t.Errorf("after another podCIDR: %v", err)
	}
}

func TestAgentRefusesANativeCIDRWithoutItsPods(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.cfg.IPv4NativeRoutingCIDR = netip.MustParsePrefix("192.168.0.0/16")
	n.launch()
	n.tell("node n1 %s %s", n.Addr, testPodCIDR)
	if err := n.wait(); err == nil || !strings.Contains(n.log.String(), "ipv4NativeRoutingCIDR 192.168.0.0/16") {
		t.Errorf("it ended with %v", err)
	}
}

// TestRoutesFollowTheNodes adds and removes another node.
func TestRoutesFollowTheNodes(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	n.tell("node n2 192.0.2.200 10.99.2.0/24")
	eventually(t, "there is a route to the other node's pods", func() bool {
		d := n.status().Datapath
		return len(d.Routing.Routes) == 1 && d.Routing.Routes[0].Via == netip.MustParseAddr("192.0.2.200")
	})
	n.tell("node n2 192.0.2.201 10.99.2.0/24")
	eventually(t, "the route follows the node's address", func() bool {
		d := n.status().Datapath
		return len(d.Routing.Routes) == 1 && d.Routing.Routes[0].Via == netip.MustParseAddr("192.0.2.201")
	})
	n.tell("node far 198.51.100.7 10.99.3.0/24")
	eventually(t, "a node on another network is reported", func() bool {
		s := n.status()
		return s.Ready && strings.Contains(strings.Join(s.Warnings, ""), "far")
	})
}
