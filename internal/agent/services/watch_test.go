package services

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/kubetest"
)

// startWatch runs a watch of the cluster until the test ends, and returns it
// with a channel that gets something at each change.
func startWatch(t *testing.T, cluster *fake.Clientset) (*Watch, <-chan struct{}) {
	t.Helper()
	w, err := NewWatch(cluster, "n1")
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 100)
	if err := w.Follow(func() { changed <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var eg errgroup.Group
	eg.Go(func() error { w.Run(ctx); return nil })
	t.Cleanup(func() {
		cancel()
		if err := eg.Wait(); err != nil {
			t.Error(err)
		}
	})
	if !cache.WaitForCacheSync(ctx.Done(), w.serviceInf.HasSynced, w.sliceInf.HasSynced) {
		t.Fatal("the caches do not fill")
	}
	return w, changed
}

// refreshUntil refreshes at each change until the Services are as wanted.
func refreshUntil(t *testing.T, w *Watch, changed <-chan struct{}, what string, ok func([]lb.Service) bool) refreshed {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		r, err := w.refresh()
		if err != nil {
			t.Fatal(err)
		}
		if ok(w.all()) {
			return r
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s: %+v", what, w.all())
		}
	}
}

func TestServiceWatchFollowsChanges(t *testing.T) {
	ctx := t.Context()
	cluster := fake.NewClientset(kubetest.Service(nil), kubetest.Slice(kubetest.Ready("10.0.0.1", "n1")))
	w, changed := startWatch(t, cluster)
	backends := func(want ...string) func([]lb.Service) bool {
		return func(all []lb.Service) bool {
			if len(all) != 1 || len(all[0].Backends) != len(want) {
				return false
			}
			for i, b := range all[0].Backends {
				if b.Addr != netip.MustParseAddrPort(want[i]) {
					return false
				}
			}
			return true
		}
	}
	refreshUntil(t, w, changed, "the first list", backends("10.0.0.1:8080"))
	if r, err := w.refresh(); err != nil || len(r.known) != 0 || len(r.services) != 0 || len(w.all()) != 1 {
		t.Errorf("a refresh without a change: %+v, %v", r, err)
	}

	slices := cluster.DiscoveryV1().EndpointSlices("ns")
	if _, err := slices.Update(ctx, kubetest.Slice(kubetest.Ready("10.0.0.1", "n1"), kubetest.Ready("10.0.0.2", "n2")), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := refreshUntil(t, w, changed, "another endpoint", backends("10.0.0.1:8080", "10.0.0.2:8080"))
	if len(r.services) != 1 || len(r.known) != 1 || time.Since(r.known[0]) > 10*time.Second {
		t.Errorf("changed at %v, want one moment just now", r.known)
	}
	if err := slices.Delete(ctx, "web-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	refreshUntil(t, w, changed, "no endpoint", backends())
	if err := cluster.CoreV1().Services("ns").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	refreshUntil(t, w, changed, "no Service", func(all []lb.Service) bool { return len(all) == 0 })
}

// TestEndpointsChangeNoOuterPorts holds that the ports that are reached from outside are looked at anew when one of them
// comes, changes or goes, and not when the endpoints do of a Service that alone has its NodePort.
func TestEndpointsChangeNoOuterPorts(t *testing.T) {
	ctx := t.Context()
	svc := kubetest.Service(func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
	})
	cluster := fake.NewClientset(svc, kubetest.Slice(kubetest.Ready("10.0.0.1", "n1")))
	w, changed := startWatch(t, cluster)
	backends := func(n int) func([]lb.Service) bool {
		return func(all []lb.Service) bool { return len(all) == 1 && len(all[0].Backends) == n }
	}
	if r := refreshUntil(t, w, changed, "the first list", backends(1)); !r.outer || w.outer[30080] != 1 {
		t.Errorf("a NodePort that comes is no change; there are %v now", w.outer)
	}
	more := kubetest.Slice(kubetest.Ready("10.0.0.1", "n1"), kubetest.Ready("10.0.0.2", "n2"))
	if _, err := cluster.DiscoveryV1().EndpointSlices("ns").Update(ctx, more, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := refreshUntil(t, w, changed, "another endpoint", backends(2)); r.outer || w.outer[30080] != 1 {
		t.Errorf("another endpoint changes the ports, of which there are %v now", w.outer)
	}
	svc = svc.DeepCopy()
	svc.Spec.Ports[0].NodePort = 30081
	if _, err := cluster.CoreV1().Services("ns").Update(ctx, svc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := refreshUntil(t, w, changed, "another NodePort", func([]lb.Service) bool { return w.outer[30081] == 1 })
	if !r.outer || len(w.outer) != 1 {
		t.Errorf("another NodePort is no change; there are %v now", w.outer)
	}
	if err := cluster.CoreV1().Services("ns").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r = refreshUntil(t, w, changed, "no Service", func(all []lb.Service) bool { return len(all) == 0 })
	if !r.outer || len(w.outer) != 0 {
		t.Errorf("a NodePort that goes is no change; there are %v now", w.outer)
	}
}

// TestServiceWatchKeepsChanges holds that what could not be looked up is
// looked up again.
func TestServiceWatchKeepsChanges(t *testing.T) {
	w, changed := startWatch(t, fake.NewClientset(kubetest.Service(nil)))
	refreshUntil(t, w, changed, "the first list", func(all []lb.Service) bool { return len(all) == 1 })
	good := w.services
	w.services = failingLister{good}
	w.mark(lb.Name{Namespace: "ns", Name: "web"}, time.Now())
	if _, err := w.refresh(); err == nil || !strings.Contains(err.Error(), "ns/web") {
		t.Errorf("error = %v, want one that names the Service", err)
	}
	w.services = good
	if r, err := w.refresh(); err != nil || len(r.services) != 1 || len(r.known) != 1 || len(w.all()) != 1 {
		t.Errorf("after the failure: %+v, %v; want the Service again", r, err)
	}
}

func TestStripServiceKeepsWhatCounts(t *testing.T) {
	svc := kubetest.Service(func(s *corev1.Service) {
		s.Annotations = map[string]string{"big": "text"}
		s.Spec.ExternalIPs = []string{"192.0.2.1"}
	})
	slice := kubetest.Slice(kubetest.Ready("10.0.0.1", "n1"))
	slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Name: "pod"}
	before := carriedPorts(svc, nil)
	stripped, err := stripService(svc)
	if err != nil {
		t.Fatal(err)
	}
	if s := stripped.(*corev1.Service); len(s.Annotations) > 0 || len(carriedPorts(s, nil)[0].Frontends) != len(before[0].Frontends) {
		t.Errorf("stripped to %+v", s)
	}
	if _, err := stripService(slice); err != nil || slice.Endpoints[0].TargetRef == nil {
		t.Error("the slice that was given has changed")
	}
}

func TestHealthChecks(t *testing.T) {
	var eg errgroup.Group
	ctx, cancel := context.WithCancel(t.Context())
	h := NewHealthChecks(ctx, &eg)
	defer func() { cancel(); eg.Wait() }()
	name := lb.Name{Namespace: "ns", Name: "web"}
	port := freePort(t)
	ask := func() (int, string, error) {
		resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(int(port)))
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	for _, tc := range []struct{ local, status int }{{2, 200}, {0, 503}, {1, 200}} {
		if left := h.apply([]healthCheck{{name, port, tc.local}}); len(left) > 0 {
			t.Fatal(left)
		}
		status, body, err := ask()
		if err != nil || status != tc.status || !strings.Contains(body, `"localEndpoints":`+strconv.Itoa(tc.local)) || !strings.Contains(body, `"namespace":"ns"`) {
			t.Errorf("with %d endpoints: %d %s, %v", tc.local, status, body, err)
		}
	}
	other := lb.Name{Namespace: "ns", Name: "other"}
	left := h.apply([]healthCheck{{name, port, 1}, {other, port, 1}})
	if len(left) != 1 || left[0].Name != "other" || left[0].Reason != lb.AddressTaken {
		t.Errorf("two Services with one port: %v", left)
	}
	if left := h.apply(nil); len(left) > 0 {
		t.Fatal(left)
	}
	for end := time.Now().Add(5 * time.Second); ; {
		if _, _, err := ask(); errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the port of a check that is gone still answers")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// failingLister finds nothing, and not because it is not there.
type failingLister struct{ listers.ServiceLister }

type failingNamespace struct{ listers.ServiceNamespaceLister }

func (f failingLister) Services(ns string) listers.ServiceNamespaceLister {
	return failingNamespace{f.ServiceLister.Services(ns)}
}

func (failingNamespace) Get(string) (*corev1.Service, error) { return nil, errors.New("broken") }

// freePort is a TCP port that nobody listens at, and that the kernel gives to nobody: below the ephemeral ones.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		port := 20000 + rand.N(10000)
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			l.Close()
			return uint16(port)
		}
	}
	t.Fatal("no port between 20000 and 30000 is free")
	return 0
}
