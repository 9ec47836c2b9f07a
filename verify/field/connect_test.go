package field

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

// fakeEngine is Docker as far as a run uses it. Nettool in its containers
// serves where it is told to and remembers the scripts it ran.
type fakeEngine struct {
	mu      sync.Mutex
	hosts   map[string]string // the outside hosts there are, by ID, and their lab
	files   map[string]bool   // "container path" that were written and not removed
	scripts []string
	fail    string // a script that fails, by a part of it
	paused  string // a node's container
}

func (e *fakeEngine) Containers(_ context.Context, labels ...string) ([]docker.Found, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if name, lab, _ := strings.Cut(labels[0], "="); name == ContainerLabel {
		var found []docker.Found
		for id, of := range e.hosts {
			if of == lab {
				found = append(found, docker.Found{ID: id})
			}
		}
		return found, nil
	}
	if labels[0] != kindLabel+"=test" {
		return nil, nil
	}
	return []docker.Found{
		{ID: "1", Name: "test-control-plane", Image: "node:v1", Network: "lan", Running: e.paused != "test-control-plane"},
		{ID: "2", Name: "test-worker", Image: "node:v1", Network: "lan", Running: e.paused != "test-worker"},
	}, nil
}

func (e *fakeEngine) Run(_ context.Context, spec docker.RunSpec) (*docker.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if spec.Network != "lan" || spec.Image != "node:v1" {
		return nil, fmt.Errorf("run %s on network %q", spec.Image, spec.Network)
	}
	e.hosts["new"] = spec.Labels[ContainerLabel]
	return &docker.Container{ID: "new", Name: spec.Name, IP: netip.MustParseAddr("172.18.0.99")}, nil
}

func (e *fakeEngine) RemoveContainer(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.hosts, id)
	maps.DeleteFunc(e.files, func(file string, _ bool) bool { return strings.HasPrefix(file, id+" ") })
	return nil
}

func (e *fakeEngine) WriteFile(_ context.Context, container, file string, mode fs.FileMode, content []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(content) == 0 || mode != 0o755 {
		return fmt.Errorf("%d bytes of mode %o are no program", len(content), mode)
	}
	e.files[container+" "+file] = true
	return nil
}

func (e *fakeEngine) ExecStream(ctx context.Context, container string, stdin io.Reader, stdout, stderr io.Writer, cmd ...string) (int, error) {
	if cmd[0] != nettoolInContainer {
		return e.script(container, strings.Join(cmd, " ")), nil
	}
	decoder, encoder := json.NewDecoder(stdin), json.NewEncoder(stdout)
	for {
		var r probe.Request
		if err := decoder.Decode(&r); err != nil {
			return 0, nil
		}
		reply := probe.Reply{ID: r.ID}
		switch {
		case r.Serve != nil:
			reply.Ready, reply.Serve = true, &probe.ServeResult{Address: netip.AddrPortFrom(r.Serve.Address.Addr(), max(r.Serve.Address.Port(), 1234))}
		case r.Exec != nil:
			reply.Exec = &probe.ExecResult{Code: e.script(container, strings.Join(r.Exec.Argv, " "))}
		}
		if err := encoder.Encode(reply); err != nil {
			return 0, err
		}
	}
}

func (e *fakeEngine) script(container, text string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scripts = append(e.scripts, container+": "+text)
	if strings.Contains(text, "rm -f "+nettoolInContainer) {
		delete(e.files, container+" "+nettoolInContainer)
	}
	if e.fail != "" && strings.Contains(text, e.fail) {
		return 1
	}
	return 0
}

// deafPods accepts a session and never answers: setting up needs no answer.
type deafPods struct{}

func (deafPods) ExecPod(ctx context.Context, _, _, _ string, _ []string, stdin io.Reader, _, _ io.Writer) error {
	_, err := io.Copy(io.Discard, stdin)
	return err
}

// fakeLab is a lab with two nodes whose kubelets make every pod what status says.
func fakeLab(t *testing.T, status func(pod *corev1.Pod)) (Config, *fakeEngine, *fake.Clientset) {
	t.Helper()
	kube := fake.NewClientset(nodeObject("test-worker", "172.18.0.3", "10.244.1.0/24"), nodeObject("test-control-plane", "172.18.0.2", "10.244.0.0/24"),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "of-an-interrupted-run", Labels: map[string]string{runLabel: RoleClient}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: everyService, Labels: map[string]string{runLabel: "service"}}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "somebody-elses"}})
	kube.PrependReactor("create", "pods", func(action k8stesting.Action) (bool, runtime.Object, error) {
		status(action.(k8stesting.CreateAction).GetObject().(*corev1.Pod))
		return false, nil, nil
	})
	kube.PrependReactor("create", "services", func(action k8stesting.Action) (bool, runtime.Object, error) {
		service := action.(k8stesting.CreateAction).GetObject().(*corev1.Service)
		if service.Spec.ClusterIP == "" {
			service.Spec.ClusterIP = "10.96.0.7"
			for i := range service.Spec.Ports {
				service.Spec.Ports[i].NodePort = int32(31000 + i)
			}
		}
		return false, nil, nil
	})
	engine := &fakeEngine{hosts: map[string]string{"stale": "test", "other": "another-lab"}, files: map[string]bool{"test-worker " + nettoolInContainer: true}}
	cfg := Config{
		Config: verify.Config{
			Lab: "test", Kind: verify.Kind{Mode: verify.ModeKubeProxy}, SetupTimeout: 2 * time.Second,
		},
		NativeCIDR: netip.MustParsePrefix("10.0.0.0/8"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
		Kube: kube, Pods: deafPods{}, Engine: engine, Image: func(context.Context) (string, error) { return "nettool:1", nil }, Nettool: []byte("binary"),
	}
	return cfg.WithDefaults(), engine, kube
}

func nodeObject(name, ip, cidr string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: name}}
	return node
}

func ready(pod *corev1.Pod) {
	pod.Status.PodIP = "10.244.0.9"
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

// left lists what a run would have left behind.
func left(t *testing.T, engine *fakeEngine, kube *fake.Clientset) []string {
	t.Helper()
	var all []string
	for id := range engine.hosts {
		all = append(all, "host "+id)
	}
	for file := range engine.files {
		all = append(all, "file "+file)
	}
	pods, err := kube.CoreV1().Pods(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		all = append(all, "pod "+pod.Name)
	}
	services, err := kube.CoreV1().Services(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range services.Items {
		all = append(all, "service "+service.Name)
	}
	slices.Sort(all)
	return all
}

// everything is all parts that a run can lay out, but for the demo's.
var everything = []verify.Part{verify.Services, verify.Native}

var notOurs = []string{"host other", "pod somebody-elses"}

func TestConnectLaysOutAndTakesAway(t *testing.T) {
	cfg, engine, kube := fakeLab(t, ready)
	env := New(cfg)
	if err := env.Open(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	if len(env.Nodes) != 2 || env.Nodes[0].Node != "test-control-plane" || env.Nodes[1].Client.Self != PodName(RoleClient, "test-worker") || env.Nodes[0].Port != 1234 {
		t.Errorf("nodes: %+v", env.Nodes)
	}
	if env.One.Backends[0].Name != env.Nodes[1].Client.Name || env.Every.NodePortUDP != 31001 || env.Headless.Addr.IsValid() || len(env.Every.Backends) != 2 {
		t.Errorf("Services: %+v %+v %+v", env.Every, env.One, env.Headless)
	}
	if env.Native != netip.MustParseAddr("10.255.255.254") {
		t.Errorf("native address %s", env.Native)
	}
	if _, stale := engine.hosts["stale"]; stale {
		t.Error("the outside host of an interrupted run is still there")
	}
	if there := left(t, engine, kube); slices.Contains(there, "pod of-an-interrupted-run") || !slices.Contains(there, "pod "+PodName(RoleServer, "test-worker")) {
		t.Errorf("while checks run there are %v", there)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if there := left(t, engine, kube); !slices.Equal(there, notOurs) {
		t.Errorf("left: %v, want %v", there, notOurs)
	}
	flushed := slices.ContainsFunc(engine.scripts, func(s string) bool { return strings.Contains(s, "ip route flush proto "+routeProtocol) })
	if !flushed {
		t.Errorf("routes were not flushed: %v", engine.scripts)
	}
}

// TestBegin: what is made ahead is what a run would make, and the run takes it as it is, and away.
func TestBegin(t *testing.T) {
	made := func(kube *fake.Clientset) (all []string) {
		for _, action := range kube.Actions() {
			if create, ok := action.(k8stesting.CreateAction); ok {
				object := create.GetObject().(metav1.Object)
				all = append(all, fmt.Sprint(action.GetResource().Resource, " ", object.GetName(), " ", object.GetLabels()))
			}
		}
		slices.Sort(all)
		return all
	}
	cfg, _, kube := fakeLab(t, ready)
	if err := New(cfg).Open(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	want := made(kube)

	cfg, engine, kube := fakeLab(t, ready)
	if err := kube.Tracker().Delete(schema.GroupVersionResource{Version: "v1", Resource: "services"}, Namespace, everyService); err != nil {
		t.Fatal(err)
	}
	if err := Begin(t.Context(), cfg, everything, []string{"test-worker", "test-control-plane"}); err != nil {
		t.Fatal(err)
	}
	if got := made(kube); !slices.Equal(got, want) || len(want) < 8 {
		t.Errorf("made ahead: %v, want %v", got, want)
	}
	cfg.Begun = true
	env := New(cfg)
	if err := env.Open(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	if got := made(kube); !slices.Equal(got, want) {
		t.Errorf("made in all: %v, want %v", got, want)
	}
	if !env.Nodes[1].Client.Addr.IsValid() || env.One.Backends[0].Name != env.Nodes[1].Client.Name {
		t.Errorf("nodes: %+v, Service %+v", env.Nodes, env.One)
	}
	engine.hosts = map[string]string{"other": "another-lab"}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if there := slices.DeleteFunc(left(t, engine, kube), func(s string) bool { return strings.HasPrefix(s, "file ") }); !slices.Equal(there, notOurs) {
		t.Errorf("left: %v, want %v", there, notOurs)
	}
	cfg, _, kube = fakeLab(t, ready)
	if err := Begin(t.Context(), cfg, []verify.Part{verify.Native}, []string{"test-worker"}); err != nil || len(made(kube)) > 0 {
		t.Errorf("for checks without pods: %v, %v", made(kube), err)
	}
}

func TestConnectWithAPodThatDoesNotStart(t *testing.T) {
	cfg, engine, kube := fakeLab(t, func(pod *corev1.Pod) {
		if pod.Name == PodName(RoleServer, "test-worker") {
			pod.Status.Phase = corev1.PodPending
			return
		}
		ready(pod)
	})
	cfg.SetupTimeout = 400 * time.Millisecond
	env := New(cfg)
	if err := env.Open(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	if _, err := env.Nodes[1].Server.Probe(t.Context(), probe.Request{}); err == nil || !strings.Contains(err.Error(), "pod wirelab-verify-server-test-worker on node test-worker is not ready: phase Pending") {
		t.Errorf("error %v", err)
	}
	if env.Nodes[1].Server.Addr.IsValid() || !env.Nodes[1].Client.Addr.IsValid() {
		t.Errorf("hosts: %+v", env.Nodes[1])
	}
	if err := env.ServicesReady(t.Context()); err == nil || !strings.Contains(err.Error(), "pod server-test-worker, which did not come up") {
		t.Errorf("Services that lead to it are judged: %v", err)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if there := left(t, engine, kube); !slices.Equal(there, notOurs) {
		t.Errorf("left: %v, want %v", there, notOurs)
	}
}

func TestConnectThatFailsLeavesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(*Config, *fakeEngine)
		status func(*corev1.Pod)
		want   string
	}{
		{"no such lab", func(c *Config, _ *fakeEngine) { c.Lab = "gone" }, ready, `no container of lab "gone" runs in Docker`},
		{"nettool cannot be put on a node", func(c *Config, _ *fakeEngine) { c.Nettool = nil }, ready, "put nettool on"},
		{"the outside host takes no address", func(_ *Config, e *fakeEngine) { e.fail = "ip addr add" }, ready, "an address inside 10.0.0.0/8"},
		{"the nodes lack the image", func(*Config, *fakeEngine) {}, func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImageNeverPull"}}}}
		}, "the nodes do not have image nettool:1 of this version of lab: bring the lab up to date"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, engine, kube := fakeLab(t, test.status)
			test.spoil(&cfg, engine)
			env := New(cfg)
			err := env.Open(t.Context(), everything)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			engine.fail = ""
			if err := env.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if there := left(t, engine, kube); cfg.Lab == "test" && !slices.Equal(there, notOurs) {
				t.Errorf("left: %v, want %v", there, notOurs)
			}
		})
	}
}

func TestRemovalThatFailsSaysSo(t *testing.T) {
	cfg, engine, _ := fakeLab(t, ready)
	env := New(cfg)
	if err := env.Open(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	engine.fail = "ip route flush"
	if err := env.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "ip route flush") {
		t.Errorf("error %v", err)
	}
}

func TestFreeAddress(t *testing.T) {
	prefixes := func(all ...string) (parsed []netip.Prefix) {
		for _, s := range all {
			parsed = append(parsed, netip.MustParsePrefix(s))
		}
		return parsed
	}
	for _, test := range []struct {
		cidr  string
		taken []netip.Prefix
		want  string
	}{
		{"10.0.0.0/8", prefixes("10.244.0.0/24"), "10.255.255.254"},
		{"10.244.0.0/16", prefixes("10.244.255.0/24", "10.244.254.0/24"), "10.244.253.255"},
		{"10.244.1.0/24", prefixes("10.244.1.0/24"), ""},
		{"10.244.1.128/25", prefixes("10.244.0.0/16"), ""},
		{"10.0.0.0/8", prefixes("10.128.0.0/9"), "10.127.255.255"},
	} {
		got, ok := freeAddress(netip.MustParsePrefix(test.cidr), test.taken)
		if ok != (test.want != "") || ok && got.String() != test.want {
			t.Errorf("freeAddress(%s, %v) = %s, %v; want %q", test.cidr, test.taken, got, ok, test.want)
		}
	}
	if _, ok := freeAddress(netip.Prefix{}, nil); ok {
		t.Error("no CIDR has a free address")
	}
}

func TestOpenLaysOutNoMoreThanIsNeeded(t *testing.T) {
	for _, test := range []struct {
		parts []verify.Part
		want  []string
	}{
		{nil, notOurs},
		{[]verify.Part{verify.Nodes}, []string{"file test-control-plane " + nettoolInContainer, "file test-worker " + nettoolInContainer, "host other", "pod somebody-elses"}},
		{[]verify.Part{verify.Outside}, []string{"file new " + nettoolInContainer, "host new", "host other", "pod somebody-elses"}},
		{[]verify.Part{verify.Pods}, []string{"host other", "pod somebody-elses",
			"pod wirelab-verify-client-test-control-plane", "pod wirelab-verify-client-test-worker", "pod wirelab-verify-server-test-control-plane", "pod wirelab-verify-server-test-worker"}},
	} {
		cfg, engine, kube := fakeLab(t, ready)
		loaded := 0
		cfg.Image = func(context.Context) (string, error) { loaded++; return "nettool:1", nil }
		env := New(cfg)
		if err := env.Open(t.Context(), test.parts); err != nil {
			t.Fatal(err)
		}
		if there := left(t, engine, kube); !slices.Equal(there, test.want) {
			t.Errorf("with %v there are %v, want %v", test.parts, there, test.want)
		}
		if want := slices.Contains(test.parts, verify.Pods); (loaded > 0) != want {
			t.Errorf("with %v the image was loaded %d times", test.parts, loaded)
		}
		if _, err := env.Nodes[0].Client.Probe(t.Context(), probe.Request{}); !slices.Contains(test.parts, verify.Pods) && (err == nil || !strings.Contains(err.Error(), "needs pods")) {
			t.Errorf("a pod that was not laid out: %v", err)
		}
		if err := env.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if there := left(t, engine, kube); !slices.Equal(there, notOurs) {
			t.Errorf("left of %v: %v, want %v", test.parts, there, notOurs)
		}
	}
}

// TestANodeThatDoesNotRunIsLeftOut: nothing is laid out on it, and what an earlier run left there is not waited for.
func TestANodeThatDoesNotRunIsLeftOut(t *testing.T) {
	cfg, engine, kube := fakeLab(t, ready)
	engine.paused = "test-worker"
	cfg.Down = map[string]string{"test-worker": "is paused"}
	stuck := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "stuck", Labels: map[string]string{runLabel: RoleClient}}, Spec: corev1.PodSpec{NodeName: "test-worker"}}
	if err := kube.Tracker().Add(stuck); err != nil {
		t.Fatal(err)
	}
	forced := false
	kube.PrependReactor("delete", "pods", func(action k8stesting.Action) (bool, runtime.Object, error) {
		d := action.(k8stesting.DeleteActionImpl)
		grace := d.DeleteOptions.GracePeriodSeconds
		if d.Name == "stuck" {
			forced = grace != nil && *grace == 0
		}
		return false, nil, nil
	})
	env := New(cfg)
	if err := env.Open(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	if env.Size() != 1 || env.Nodes[0].Node != "test-control-plane" {
		t.Errorf("nodes: %+v", env.Nodes)
	}
	if !forced {
		t.Error("a pod of the node that does not run is waited for")
	}
	for _, s := range engine.scripts {
		if strings.HasPrefix(s, "test-worker: ") {
			t.Errorf("ran on the node that does not: %s", s)
		}
	}
	if there := left(t, engine, kube); slices.ContainsFunc(there, func(s string) bool { return strings.HasPrefix(s, "pod ") && strings.Contains(s, "test-worker") }) {
		t.Errorf("there are %v", there)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.Down["test-control-plane"] = "is stopped"
	if err := New(cfg).Open(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no node of lab test runs") {
		t.Errorf("error %v", err)
	}
}

func TestDemoPodsOfNodesThatDoNotRunAreNotSentFrom(t *testing.T) {
	cfg, engine, kube := fakeLab(t, ready)
	engine.paused = "test-worker"
	cfg.Down = map[string]string{"test-worker": "is paused"}
	cfg.Demo = &Demo{Namespace: "default", Service: "demo"}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}}
	service.Spec.ClusterIP = "10.96.0.9"
	ready := true
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-1", Labels: map[string]string{discoveryv1.LabelServiceName: "demo"}}}
	for i, node := range []string{"test-control-plane", "test-worker"} {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.244.%d.4", i)}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: &corev1.ObjectReference{Name: "demo-" + node},
		})
	}
	for _, object := range []runtime.Object{service, slice} {
		if err := kube.Tracker().Add(object); err != nil {
			t.Fatal(err)
		}
	}
	env := New(cfg)
	if err := env.Open(t.Context(), []verify.Part{verify.Demo}); err != nil {
		t.Fatal(err)
	}
	if len(env.DemoPods) != 1 || env.DemoPods[0].Self != "demo-test-control-plane" {
		t.Errorf("sent from %+v", env.DemoPods)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
