package agent

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

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"wirelab.dev/wirelab/internal/netnstest"
)

// criRuntime calls the plugin that the agent installed as a container runtime
// does, by the CNI library and the configuration on the node.
type criRuntime struct {
	n   *testNode
	cni *libcni.CNIConfig
}

func (n *testNode) runtime() *criRuntime {
	// Without one, the library makes its own at the first call, of which
	// there may be several at once.
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}
	return &criRuntime{n: n, cni: libcni.NewCNIConfigWithCacheDir([]string{n.cfg.Paths.CNIBinDir}, n.t.TempDir(), exec)}
}

// list is the configuration on the node, as it is now.
func (r *criRuntime) list() *libcni.NetworkConfigList {
	r.n.t.Helper()
	list, err := libcni.ConfListFromFile(filepath.Join(r.n.cfg.Paths.CNIConfDir, cniConfName))
	if err != nil {
		r.n.t.Fatal(err)
	}
	return list
}

func (r *criRuntime) conf(id string, pod *netnstest.NS) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: id, IfName: "eth0", Args: [][2]string{{"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", id}, {"K8S_POD_UID", id}}}
	if pod != nil {
		rt.NetNS = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.FD())
	}
	return rt
}

// do runs f with a deadline on a thread in the node's namespace, where the
// plugins it starts are then, too.
func (r *criRuntime) do(f func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r.n.Do(func() { err = f(ctx) })
	return err
}

// add is of a pod default/<id>, which the agent's cluster has then.
func (r *criRuntime) add(id string, pod *netnstest.NS) (netip.Addr, error) {
	if r.n.agent != nil {
		r.n.tell("pod %s app=%s", id, id)
	}
	return r.addTold(id, pod)
}

// addTold is add of a pod that the agent's cluster has already.
func (r *criRuntime) addTold(id string, pod *netnstest.NS) (netip.Addr, error) {
	var addr netip.Addr
	list := r.list()
	err := r.do(func(ctx context.Context) error {
		got, err := r.cni.AddNetworkList(ctx, list, r.conf(id, pod))
		if err != nil {
			return err
		}
		result, err := current.NewResultFromResult(got)
		if err != nil {
			return err
		}
		addr, _ = netip.AddrFromSlice(result.IPs[0].Address.IP.To4())
		return nil
	})
	return addr, err
}

func (r *criRuntime) mustAdd(id string, pod *netnstest.NS) netip.Addr {
	r.n.t.Helper()
	addr, err := r.add(id, pod)
	if err != nil {
		r.n.t.Fatalf("ADD %s: %v", id, err)
	}
	return addr
}

func (r *criRuntime) del(id string, pod *netnstest.NS) error {
	list := r.list()
	return r.do(func(ctx context.Context) error { return r.cni.DelNetworkList(ctx, list, r.conf(id, pod)) })
}

func (r *criRuntime) mustDel(id string, pod *netnstest.NS) {
	r.n.t.Helper()
	if err := r.del(id, pod); err != nil {
		r.n.t.Fatalf("DEL %s: %v", id, err)
	}
}

func (r *criRuntime) check(id string, pod *netnstest.NS) error {
	list := r.list()
	return r.do(func(ctx context.Context) error { return r.cni.CheckNetworkList(ctx, list, r.conf(id, pod)) })
}

func (r *criRuntime) status() error {
	list := r.list()
	return r.do(func(ctx context.Context) error { return r.cni.GetStatusNetworkList(ctx, list) })
}

// codeOf is the CNI error code in err, 0 if there is none.
func codeOf(err error) uint {
	var coded *types.Error
	if errors.As(err, &coded) {
		return coded.Code
	}
	return 0
}

func TestCNICommands(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	if err := r.status(); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	pod := netnstest.New(t, "pod")
	addr := r.mustAdd("a", pod)
	if got := pod.Run("ip", "-4", "-o", "addr", "show", "dev", "eth0"); !strings.Contains(got, addr.String()+"/32") {
		t.Errorf("the pod has %s, ADD said %s", got, addr)
	}
	if again := r.mustAdd("a", pod); again != addr || n.status().IPAM.Used != 1 {
		t.Errorf("a second ADD gave %s, %d addresses in use; want %s and 1", again, n.status().IPAM.Used, addr)
	}
	if err := r.check("a", pod); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	pod.Run("ip", "route", "del", "default")
	if err := r.check("a", pod); codeOf(err) != 101 {
		t.Errorf("CHECK of a pod without its default route: %v", err)
	}
	if got := n.links("lxc"); len(got) != 1 {
		t.Errorf("host-side veths: %v", got)
	}
	for range 2 {
		r.mustDel("a", pod)
	}
	if got := n.links("lxc"); len(got) != 0 || n.status().IPAM.Used != 0 || len(n.endpoints()) != 0 {
		t.Errorf("after DEL: devices %v, status %+v", got, n.status().IPAM)
	}
	if err := r.check("a", pod); err == nil {
		t.Error("CHECK of what is gone succeeds")
	}
}

// A pod is added when kube-proxy translates Services. What is asked of a pod that is there does not wait for that.
func TestCNIAddWaitsForKubeProxy(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	old := netnstest.New(t, "pod")
	r.mustAdd("old", old)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	service := netip.AddrPortFrom(n.Addr, 6443)
	n.launch(kubernetesService + "=" + service.String())
	n.tell("node %s %s %s", n.cfg.NodeName, n.Addr, n.podCIDR)
	n.tell("pod old app=old")
	eventually(t, "the agent says that pods wait", func() bool {
		return strings.Contains(strings.Join(n.status().NotReady, ""), "pods wait for kube-proxy")
	})
	if err := r.check("old", old); err != nil {
		t.Errorf("CHECK of a pod that is there: %v", err)
	}
	added := make(chan error, 1)
	pod := netnstest.New(t, "pod")
	n.tell("pod new app=new")
	go func() {
		_, err := r.addTold("new", pod)
		added <- err
	}()
	select {
	case err := <-added:
		t.Fatalf("a pod was added: %v", err)
	case <-time.After(time.Second):
	}
	n.Do(func() { serveService(t, listen(t, service.String())) })
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent is ready", func() bool { return n.status().Ready })
}

func TestCNIGarbageCollection(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	stays := r.mustAdd("stays", netnstest.New(t, "pod"))
	r.mustAdd("goes", netnstest.New(t, "pod"))
	list := r.list()
	err := r.do(func(ctx context.Context) error {
		return r.cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "stays", IfName: "eth0"}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if eps := n.endpoints(); len(eps) != 1 || eps[0].Addr != stays || n.status().IPAM.Used != 1 {
		t.Errorf("after GC: %+v", eps)
	}
}

func TestCNIAddThatFailsLeavesNothing(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	before := n.kernelState()
	pod := netnstest.New(t, "pod")
	netnstest.Connect(pod, "eth0", netnstest.New(t, "other"), "eth0") // the name is taken
	if _, err := r.add("a", pod); err == nil {
		t.Fatal("ADD over an interface that is there")
	}
	if after := n.kernelState(); after != before || n.status().IPAM.Used != 0 {
		t.Errorf("before:\n%s\nafter:\n%s\n%+v", before, after, n.status().IPAM)
	}
}

// TestCNIManyPods makes and deletes 60 pods, four at a time, and holds that
// nothing is left. It logs how long the calls took.
func TestCNIManyPods(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	r := n.runtime()
	before := n.kernelState()
	const pods, atOnce = 60, 4
	var mu sync.Mutex
	addrs := map[netip.Addr]bool{}
	var adds, dels []time.Duration
	each := func(work func(id string, pod *netnstest.NS)) {
		ns := make(chan int)
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() {
				for i := range ns {
					work(fmt.Sprintf("pod%d", i), n.pod(i))
				}
			})
		}
		for i := range pods {
			n.pod(i)
			ns <- i
		}
		close(ns)
		wg.Wait()
	}
	each(func(id string, pod *netnstest.NS) {
		start := time.Now()
		addr, err := r.add(id, pod)
		took := time.Since(start)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || addrs[addr] {
			t.Errorf("ADD %s: %s (given before: %v), %v", id, addr, addrs[addr], err)
		}
		addrs[addr] = true
		adds = append(adds, took)
	})
	if used := n.status().IPAM.Used; used != pods || len(n.links("lxc")) != pods || len(n.endpoints()) != pods {
		t.Errorf("%d addresses, %d devices, %d endpoints, want %d of each", used, len(n.links("lxc")), len(n.endpoints()), pods)
	}
	each(func(id string, pod *netnstest.NS) {
		start := time.Now()
		err := r.del(id, pod)
		took := time.Since(start)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("DEL %s: %v", id, err)
		}
		dels = append(dels, took)
	})
	if after := n.kernelState(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if used := n.status().IPAM.Used; used != 0 {
		t.Errorf("%d addresses are still in use", used)
	}
	for name, took := range map[string][]time.Duration{"ADD": adds, "DEL": dels} {
		slices.Sort(took)
		t.Logf("%s, %d at a time: p50 %v, p99 %v", name, atOnce, took[len(took)/2], took[len(took)*99/100])
	}
}
