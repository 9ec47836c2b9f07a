package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/agent/kubetest"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
	"wirelab.dev/wirelab/internal/logtest"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// asAgent makes this test binary an agent with the configuration it holds,
// as JSON, against a fake API server of its own. As a process it can be in a
// network namespace with all its threads, and be killed.
const asAgent = "WIRELAB_TEST_AS_AGENT"

// serverAway is set where that API server shows the agent nothing until it is told to be back.
const serverAway = "WIRELAB_TEST_SERVER_AWAY"

// kubernetesService is the address of that API server's Service, for which pods wait.
const kubernetesService = "WIRELAB_TEST_KUBERNETES_SERVICE"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(asAgent); cfg != "" {
		if err := runAsAgent(cfg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(runTests(m))
}

// testDir is the variable with the directory of what tests build for each
// other, gone when they are done.
const testDir = "WIRELAB_TEST_DIR"

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "wirelab-test")
	if err == nil {
		err = os.Setenv(testDir, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
}

// runAsAgent reads what happens in the cluster from standard input, a line
// each: "node NAME IP PODCIDR", where - is for nothing, "service CLUSTERIP",
// "nodeport CLUSTERIP PORT" and "endpoints ADDR..." of the Service ns/web, port 80 to 8080,
// "pod NAME KEY=VALUE..." of a pod in namespace default with these labels, "labnode NAME IP PODCIDR ADDRESS=IDENTITY..." of what another agent tells, "objects", which says what LabNodes and
// LabIdentities there are, "bad NAME" of a Service of which nothing is carried, "healthcheck CLUSTERIP PORT" of one with such a port,
// "events", which says of which objects there are some, "back", which ends what serverAway says, or "uninstall".
func runAsAgent(encoded string) error {
	var cfg config.Config
	if err := json.Unmarshal([]byte(encoded), &cfg); err != nil {
		return err
	}
	cluster := fake.NewClientset(ownDaemonSet())
	objects, labObjects := crdtest.NewClient()
	var away atomic.Bool
	away.Store(os.Getenv(serverAway) != "")
	refuse(&away, &cluster.Fake, labObjects)
	a, err := New(cfg, apiserver.Server{Kubernetes: cluster, Objects: objects, URL: "fake", Service: testService(os.Getenv(kubernetesService))}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if lines.Text() == "back" {
				away.Store(false)
			}
			err := happen(ctx, cluster, objects, strings.Fields(lines.Text()))
			fmt.Fprintf(os.Stderr, "%s%s: %v\n", happened, lines.Text(), err)
		}
	}()
	return a.Run(ctx)
}

// refuse has servers show nobody anything while they are away. What happens in the cluster is still written.
func refuse(away *atomic.Bool, servers ...*clienttesting.Fake) {
	errAway := errors.New("connection refused")
	for _, server := range servers {
		for _, verb := range []string{"get", "list"} {
			server.PrependReactor(verb, "*", func(clienttesting.Action) (bool, runtime.Object, error) { return away.Load(), nil, errAway })
		}
		server.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) { return away.Load(), nil, errAway })
	}
}

// happened begins the line by which a child says that it has done what it was
// told.
const happened = "happened in the cluster: "

func happen(ctx context.Context, cluster *fake.Clientset, objects *crd.Client, line []string) error {
	switch line[0] {
	case "back":
		return nil
	case "pod":
		return putPod(ctx, cluster, line[1], line[2:])
	case "labnode":
		return putLabNode(ctx, objects, line[1:])
	case "objects":
		return describe(ctx, objects)
	}
	if line[0] == "uninstall" {
		return cluster.AppsV1().DaemonSets("kube-system").Delete(ctx, "wirelab-agent", metav1.DeleteOptions{})
	}
	if line[0] == "service" {
		svc := kubetest.Service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = line[1], line[1:] })
		_, err := cluster.CoreV1().Services("ns").Create(ctx, svc, metav1.CreateOptions{})
		return err
	}
	if line[0] == "nodeport" {
		svc := kubetest.Service(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeNodePort, line[1], line[1:2]
			port, err := strconv.ParseInt(line[2], 10, 32)
			if err != nil {
				panic(err)
			}
			s.Spec.Ports[0].NodePort = int32(port)
		})
		_, err := cluster.CoreV1().Services("ns").Create(ctx, svc, metav1.CreateOptions{})
		return err
	}
	if line[0] == "bad" {
		return putBadService(ctx, cluster, line[1])
	}
	if line[0] == "healthcheck" {
		return putHealthChecked(ctx, cluster, line[1], line[2])
	}
	if line[0] == "events" {
		list, err := cluster.CoreV1().Events("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var said []string
		for _, e := range list.Items {
			said = append(said, e.InvolvedObject.Name+" "+e.Reason)
		}
		return errors.New(strings.Join(said, ", "))
	}
	if line[0] == "endpoints" {
		return putEndpoints(ctx, cluster, line[1:])
	}
	for i := range line {
		line[i] = strings.TrimPrefix(line[i], "-")
	}
	node := kubeNode(line[1], line[2], line[3])
	nodes := cluster.CoreV1().Nodes()
	if _, err := nodes.Update(ctx, node, metav1.UpdateOptions{}); err == nil {
		return nil
	}
	_, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	return err
}

// testNode is a node in a network namespace, with an agent that comes and
// goes.
type testNode struct {
	*netnstest.Host
	t       *testing.T
	cfg     config.Config
	podCIDR string

	mu   sync.Mutex
	pods map[int]*netnstest.NS

	agent *exec.Cmd // nil when none runs
	stdin io.WriteCloser
	log   *logtest.Buffer
}

const testPodCIDR = "10.99.1.0/24"

// newTestNode makes a node without an agent, on a network of its own.
func newTestNode(t *testing.T) *testNode {
	t.Helper()
	return newTestNodeOn(t, netnstest.NewNetwork(t), "n1", testPodCIDR)
}

func newTestNodeOn(t *testing.T, network *netnstest.Network, name, podCIDR string) *testNode {
	t.Helper()
	host := network.AddHost(name)
	dir, err := os.MkdirTemp("", "wl") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	cfg := config.Default()
	cfg.RoutingMode, cfg.AutoDirectNodeRoutes = settings.RoutingNative, true
	cfg.NodeName, cfg.DaemonSet, cfg.IPv4NativeRoutingCIDR = name, "kube-system/wirelab-agent", netip.MustParsePrefix("10.0.0.0/8")
	cfg.ClusterHealth.Enabled = false // most tests count what there is of pods
	cfg.Paths.RunDir = filepath.Join(dir, "run")
	cfg.Paths.CNIConfDir, cfg.Paths.CNIBinDir = filepath.Join(dir, "net.d"), filepath.Join(dir, "bin")
	cfg.Paths.CNIPlugin = plugin(t)
	// The descriptor is this process's, and the agent another.
	cfg.Paths.BPFFS = strings.Replace(host.BPFFS, "self", fmt.Sprint(os.Getpid()), 1)
	for _, d := range []string{cfg.Paths.CNIConfDir, cfg.Paths.CNIBinDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n := &testNode{Host: host, t: t, cfg: cfg, podCIDR: podCIDR, log: &logtest.Buffer{}, pods: map[int]*netnstest.NS{}}
	t.Cleanup(func() {
		n.kill()
		if strings.Contains(n.log.String(), "WARNING: DATA RACE") {
			t.Error("the agent has a data race")
		}
		if t.Failed() {
			t.Logf("the agent's log:\n%s", n.log.String())
		}
	})
	return n
}

// plugin builds the real CNI plugin, once.
func plugin(t *testing.T) string {
	t.Helper()
	path, err := buildPlugin()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildPlugin = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.Getenv(testDir), cniPluginName)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "wirelab.dev/wirelab/cmd/cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the CNI plugin: %w: %s", err, out)
	}
	return path, nil
})

// launch starts an agent and tells it of nothing. The environment is added to that of the test.
func (n *testNode) launch(env ...string) {
	n.t.Helper()
	encoded, err := json.Marshal(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = slices.Concat(os.Environ(), []string{asAgent + "=" + string(encoded), "GORACE=halt_on_error=1"}, env)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	if n.stdin, err = cmd.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	n.Do(func() { err = cmd.Start() })
	if err != nil {
		n.t.Fatal(err)
	}
	n.agent = cmd
}

// start starts an agent, tells it of its node and waits until it is ready.
func (n *testNode) start() {
	n.t.Helper()
	n.launch()
	n.tell("node %s %s %s", n.cfg.NodeName, n.Addr, n.podCIDR)
	eventually(n.t, "the agent is ready", func() bool { return n.status().Ready })
}

// get is what is answered over HTTP at a port of the node, with its header.
func (n *testNode) get(port uint16, path string) (string, error) {
	c, err := n.Dial("tcp4", netip.AddrPortFrom(n.Addr, port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// tell has something happen in the cluster, and waits until it has.
func (n *testNode) tell(format string, args ...any) {
	n.t.Helper()
	line := fmt.Sprintf(format, args...)
	n.mu.Lock()
	before := strings.Count(n.log.String(), happened+line)
	defer n.mu.Unlock()
	if _, err := fmt.Fprintln(n.stdin, line); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, "the cluster hears: "+line, func() bool { return strings.Count(n.log.String(), happened+line) > before })
}

// kill ends the agent at once.
func (n *testNode) kill() {
	if n.agent == nil {
		return
	}
	n.agent.Process.Kill() //nolint:errcheck // it may have ended
	n.agent.Wait()         //nolint:errcheck // killed
	n.agent = nil
}

// stop asks the agent to end and returns how it did.
func (n *testNode) stop() error {
	n.t.Helper()
	if err := n.agent.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	return n.wait()
}

func (n *testNode) wait() error {
	n.t.Helper()
	done := make(chan error, 1)
	go func() { done <- n.agent.Wait() }()
	select {
	case err := <-done:
		n.agent = nil
		return err
	case <-time.After(30 * time.Second):
		n.t.Fatal("the agent does not end")
		return nil
	}
}

// status is empty while no agent answers.
func (n *testNode) status() api.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := client.New(n.cfg.Paths.AgentSocket()).Status(ctx)
	if err != nil {
		return api.Status{}
	}
	return s
}

// frontends are the entries of the map of Services.
func (n *testNode) frontends() []api.Frontend {
	n.t.Helper()
	list, err := client.New(n.cfg.Paths.AgentSocket()).Frontends(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

func (n *testNode) endpoints() []api.Endpoint {
	n.t.Helper()
	eps, err := client.New(n.cfg.Paths.AgentSocket()).Endpoints(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return eps
}

// pod is the namespace of pod i, made when it is first asked for.
func (n *testNode) pod(i int) *netnstest.NS {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pods[i] == nil {
		n.pods[i] = netnstest.New(n.t, "pod")
	}
	return n.pods[i]
}

// links are the names of the devices with prefix, sorted.
func (n *testNode) links(prefix string) []string {
	n.t.Helper()
	links, err := n.Netlink().LinkList()
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, prefix) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// pins are the pinned objects, as paths below the bpffs.
func (n *testNode) pins() []string {
	n.t.Helper()
	var pins []string
	err := filepath.WalkDir(n.BPFFS+"/", func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			pins = append(pins, strings.TrimPrefix(path, n.BPFFS))
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return pins
}

// kernelState is what an agent leaves on a node: devices, routes, rules, pins.
func (n *testNode) kernelState() string {
	n.t.Helper()
	return strings.Join([]string{
		"links " + strings.Join(append(n.links("lab_"), n.links("lxc")...), " "),
		"routes " + n.Run("ip", "-4", "route", "show", "table", "all"),
		"rules " + strings.Join(chains(n.Run("iptables-save", "-t", "nat")), "\n"),
		"pins " + strings.Join(n.pins(), " "),
	}, "\n")
}

// chains are the lines of iptables-save that are not comments or counters.
func chains(saved string) []string {
	var lines []string
	for line := range strings.Lines(saved) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":LAB") {
			line, _, _ = strings.Cut(line, " [") // counters of a chain
			lines = append(lines, line)
		}
	}
	return lines
}
