package agent

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/netnstest"
)

// putEndpoints makes addrs, all on node n1, the endpoints of the Service ns/web.
func putEndpoints(ctx context.Context, cluster *fake.Clientset, addrs []string) error {
	slice := kubeSlice()
	for _, addr := range addrs {
		slice.Endpoints = append(slice.Endpoints, ready(addr, "n1"))
	}
	all := cluster.DiscoveryV1().EndpointSlices("ns")
	_, err := all.Update(ctx, slice, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = all.Create(ctx, slice, metav1.CreateOptions{})
	}
	return err
}

// serviceNode is a node whose agent carries the Service 10.96.0.10:80 with
// two backends, and a pod to ask from.
type serviceNode struct {
	*testNode
	client   *netnstest.NS
	backends []string
	vip      netip.AddrPort
}

func newServiceNode(t *testing.T) *serviceNode {
	t.Helper()
	n := &serviceNode{testNode: newTestNode(t), vip: netip.MustParseAddrPort("10.96.0.10:80")}
	n.cfg.KubeProxyReplacement = "true"
	cgroup := netnstest.NewCgroup(t)
	n.cfg.Paths.CgroupRoot = strings.Replace(cgroup.Path, "self", fmt.Sprint(os.Getpid()), 1)
	n.start()
	r := n.runtime()
	n.client = n.pod(0)
	r.mustAdd("client", n.client)
	for i := 1; i <= 2; i++ {
		addr := r.mustAdd(fmt.Sprint("server", i), n.pod(i))
		n.pod(i).ServeTCP(netip.AddrPortFrom(addr, 8080))
		n.backends = append(n.backends, addr.String())
	}
	return n
}

// begin starts an agent that knows all before it knows its own node, as one
// whose API server has been there all along.
func (n *serviceNode) begin() {
	n.t.Helper()
	n.launch()
	n.tell("service %s", n.vip.Addr())
	n.tell("endpoints %s", strings.Join(n.backends, " "))
	n.tell("node n1 %s %s", n.Addr, testPodCIDR)
	eventually(n.t, "the agent is ready", func() bool { return n.status().Ready })
}

func (n *serviceNode) answers() bool {
	_, err := n.client.Ask("tcp4", n.vip, []byte("hello"))
	return err == nil
}

// talk says a line and hears it again.
func talk(t *testing.T, c net.Conn, r *bufio.Reader, line string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(netnstest.ProbeTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ReadString('\n'); err != nil || got != line+"\n" {
		t.Fatalf("said %q and heard %q, %v", line, got, err)
	}
}

// TestServicesComeFromTheCluster follows a Service from the API server to a
// connection, through an agent that is killed, to a backend that leaves.
func TestServicesComeFromTheCluster(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newServiceNode(t)
	n.tell("service %s", n.vip.Addr())
	n.tell("endpoints %s", strings.Join(n.backends, " "))
	eventually(t, "the Service answers", n.answers)

	c, err := n.client.Dial("tcp4", n.vip)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil { // the server's greeting
		t.Fatal(err)
	}
	talk(t, c, r, "before")
	n.kill()
	talk(t, c, r, "without an agent")
	if !n.answers() {
		t.Error("without an agent the Service does not answer")
	}
	n.begin()
	talk(t, c, r, "with a new agent")
	if !n.answers() {
		t.Error("with a new agent the Service does not answer")
	}

	n.tell("endpoints %s", n.backends[0])
	eventually(t, "the map has one backend", func() bool {
		out := n.status().Datapath
		return out != nil && out.Services != nil && out.Services.Backends == 1
	})
	talk(t, c, r, "with fewer backends")
	n.tell("endpoints")
	eventually(t, "the Service refuses", func() bool {
		start := time.Now()
		_, err := n.client.Ask("tcp4", n.vip, []byte("hello"))
		return err != nil && strings.Contains(err.Error(), "refused") && time.Since(start) < time.Second
	})
}
