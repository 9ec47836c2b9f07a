package agent

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/kubetest"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/netnstest"
)

// putEndpoints makes addrs, all on node n1, the endpoints of the Service ns/web.
func putEndpoints(ctx context.Context, cluster *fake.Clientset, addrs []string) error {
	slice := kubetest.Slice()
	for _, addr := range addrs {
		slice.Endpoints = append(slice.Endpoints, kubetest.Ready(addr, "n1"))
	}
	all := cluster.DiscoveryV1().EndpointSlices("ns")
	_, err := all.Update(ctx, slice, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = all.Create(ctx, slice, metav1.CreateOptions{})
	}
	return err
}

// putBadService makes a Service of whose two ports neither is carried: one of a
// protocol that is not, one with endpoints that cannot be.
func putBadService(ctx context.Context, cluster *fake.Clientset, name string) error {
	svc := kubetest.Service(func(s *corev1.Service) {
		s.Name, s.UID = name, types.UID("uid-"+name)
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.96.0.66", []string{"10.96.0.66"}
		s.Spec.Ports = []corev1.ServicePort{{Name: "s", Port: 9, Protocol: corev1.ProtocolSCTP}, {Name: "http", Port: 0}}
	})
	if _, err := cluster.CoreV1().Services("ns").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	slice := kubetest.Slice(kubetest.Ready("127.0.0.1", "n1"), kubetest.Ready("10.0.0.1", "n1"))
	slice.Name, slice.Labels = name, map[string]string{discoveryv1.LabelServiceName: name}
	slice.Ports = append(slice.Ports, kubetest.SlicePort("http", "TCP", 70000))
	_, err := cluster.DiscoveryV1().EndpointSlices("ns").Create(ctx, slice, metav1.CreateOptions{})
	return err
}

// putHealthChecked makes a Service ns/checked without endpoints, of which load balancers ask at the port.
func putHealthChecked(ctx context.Context, cluster *fake.Clientset, clusterIP, port string) error {
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return err
	}
	svc := kubetest.Service(func(s *corev1.Service) {
		s.Name, s.UID = "checked", "uid-checked"
		s.Spec.ClusterIP, s.Spec.ClusterIPs = clusterIP, []string{clusterIP}
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.HealthCheckNodePort = int32(number)
	})
	_, err = cluster.CoreV1().Services("ns").Create(ctx, svc, metav1.CreateOptions{})
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
	n.cfg.KubeProxyReplacement = true
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

// TestBadObjectsStopNoOthers holds that what a whole agent cannot carry is in
// its status, its list of Services and an event, and that the node is ready and
// carries what comes after.
func TestBadObjectsStopNoOthers(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newServiceNode(t)
	n.tell("bad broken")
	eventually(t, "the status says so", func() bool { return len(n.status().LeftOut) > 0 })
	n.tell("service %s", n.vip.Addr())
	n.tell("endpoints %s", strings.Join(n.backends, " "))
	eventually(t, "the Service answers", n.answers)
	s := n.status()
	if !s.Ready {
		t.Errorf("the agent is not ready: %q", s.NotReady)
	}
	reasons := map[string]bool{}
	for _, x := range s.LeftOut {
		reasons[x.Reason] = true
		if x.Kind != "Service" || x.Namespace != "ns" || x.Name != "broken" || x.Message == "" {
			t.Errorf("left out: %+v", x)
		}
	}
	if !reasons["NotCarried"] || !reasons["NotValid"] {
		t.Errorf("left out: %+v", s.LeftOut)
	}
	listed, err := client.New(n.cfg.Paths.AgentSocket()).Services(t.Context())
	if i := slices.IndexFunc(listed, func(s api.Service) bool { return strings.HasPrefix(s.Service, "ns/broken") }); err != nil || i < 0 || len(listed[i].LeftOut) == 0 {
		t.Errorf("the Services are %+v, %v", listed, err)
	}
	eventually(t, "there are events", func() bool {
		n.tell("events")
		return strings.Contains(n.log.String(), "broken NotCarried") && strings.Contains(n.log.String(), "broken NotValid")
	})
}

// TestHealthCheckPortIsServedOnceItIsFree holds that a health check's port that another has is said to be left out,
// and is served at the next event, of whatever Service, after the other has given it up.
func TestHealthCheckPortIsServedOnceItIsFree(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newServiceNode(t)
	const port = 30999
	var other net.Listener
	var err error
	n.Do(func() { other, err = net.Listen("tcp", fmt.Sprint(":", port)) })
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	n.tell("healthcheck 10.96.0.20 %d", port)
	isTaken := func() bool {
		return slices.ContainsFunc(n.status().LeftOut, func(x api.LeftOut) bool { return x.Name == "checked" && x.Reason == lb.AddressTaken })
	}
	eventually(t, "the port is said to be taken", isTaken)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	n.tell("service %s", n.vip.Addr())
	eventually(t, "the health check answers", func() bool {
		answer, err := n.get(port, "/")
		return err == nil && strings.Contains(answer, "503") && strings.Contains(answer, `"name":"checked"`)
	})
	eventually(t, "the port is no longer said to be taken", func() bool { return !isTaken() })
}

// TestReadersDuringChanges asks a whole agent for all that it tells while its
// Services change. The race detector looks on in both where it is built in
// (make test-race).
func TestReadersDuringChanges(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newServiceNode(t)
	n.tell("service %s", n.vip.Addr())
	n.tell("endpoints %s", strings.Join(n.backends, " "))
	n.tell("bad broken")
	eventually(t, "the Service answers", n.answers)
	c := client.New(n.cfg.Paths.AgentSocket())
	ctx, stop := context.WithCancel(t.Context())
	var eg errgroup.Group
	for _, read := range []func() error{
		func() error { _, err := c.Services(ctx); return err },
		func() error { _, err := c.Frontends(ctx); return err },
		func() error { _, err := c.Flows(ctx); return err },
		func() error { _, err := c.Translations(ctx); return err },
		func() error { _, err := c.Status(ctx); return err },
		func() error { _, err := c.Endpoints(ctx); return err },
		n.scrape,
	} {
		eg.Go(func() error {
			for ctx.Err() == nil {
				if err := read(); err != nil && ctx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	for round := range 40 {
		n.tell("endpoints %s", strings.Join(n.backends[:1+round%2], " "))
	}
	stop()
	if err := eg.Wait(); err != nil {
		t.Error(err)
	}
	if !n.answers() {
		t.Error("afterwards the Service does not answer")
	}
}

// scrape reads the metrics.
func (n *serviceNode) scrape() error {
	_, err := n.get(uint16(n.cfg.Prometheus.Port), "/metrics")
	return err
}
