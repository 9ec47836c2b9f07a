package labs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/zstd"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/profiles"
)

// kubeconfigFor writes a kubeconfig with a context "there" of an API server.
func kubeconfigFor(t *testing.T, server string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := os.WriteFile(file, []byte(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "`+server+`", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: there, context: {cluster: c, user: u}}]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// nobody is an address of this machine at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// TestClusterThatCannotBeAsked: of one, each command says why and ends at once.
func TestClusterThatCannotBeAsked(t *testing.T) {
	p, err := profiles.Load("ebpf", profiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := kubeconfigFor(t, "https://"+nobody(t))
	for name, tt := range map[string]struct{ file, context, say string }{
		"no such context": {file, "other", `no context "other"`},
		"which there are": {file, "other", "there are there"},
		"no such file":    {file + ".not", "there", "no such file"},
		"server is away":  {file, "there", "connection refused"},
		"and the way out": {file, "there", "start the cluster"},
	} {
		for what, do := range map[string]func() error{
			"install": func() error {
				_, err := Install(t.Context(), InstallOptions{Profile: p, Context: tt.context, Kubeconfig: tt.file})
				return err
			},
			"values": func() error { _, err := ChartValues(t.Context(), p, tt.file, tt.context); return err },
			"uninstall": func() error {
				_, err := Uninstall(t.Context(), tt.file, tt.context, func(string) {})
				return err
			},
		} {
			if err := do(); err == nil || !strings.Contains(err.Error(), tt.say) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: got %v, want %q", name, what, err, tt.say)
			}
		}
	}
}

// TestInterruptedPreflight: an API server that takes a connection and says nothing does not hold an interrupt up.
func TestInterruptedPreflight(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := make(chan time.Time, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { conn.Close() })
		interrupted <- time.Now()
		cancel()
	}()
	p, err := profiles.Load("ebpf", profiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Install(ctx, InstallOptions{Profile: p, Context: "there", Kubeconfig: kubeconfigFor(t, "https://"+l.Addr().String())})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if took := time.Since(<-interrupted); took > 5*time.Second { // without an interrupt it is 10 s
		t.Errorf("it went on for %s", took)
	}
}

// TestAPIServerOfEndpoints: where kubeadm has told nothing, Service kubernetes does.
func TestAPIServerOfEndpoints(t *testing.T) {
	port := int32(6444)
	c := fake.NewClientset(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"192.168.0.7"}}},
		Ports:      []discoveryv1.EndpointPort{{Port: &port}},
	})
	if in, err := installOn(t.Context(), c); err != nil || in.APIServerHost != "192.168.0.7" || in.APIServerPort != 6444 {
		t.Errorf("got %+v, %v", in, err)
	}
}

// TestAppliedByHand: a network that no release brought is left to whoever did.
func TestAppliedByHand(t *testing.T) {
	if err := appliedByHand(t.Context(), fake.NewClientset()); err != nil {
		t.Errorf("of a bare cluster: %v", err)
	}
	agents := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: agentName}}
	if err := appliedByHand(t.Context(), fake.NewClientset(agents)); err == nil || !strings.Contains(err.Error(), "kubectl delete -f") {
		t.Errorf("of agents without a release: %v", err)
	}
}

// TestPodsWithoutNetwork: those of the nodes' own network have it still.
func TestPodsWithoutNetwork(t *testing.T) {
	pod := func(name, ip string, host bool) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: name},
			Spec:       corev1.PodSpec{HostNetwork: host}, Status: corev1.PodStatus{PodIP: ip},
		}
	}
	c := fake.NewClientset(pod("coredns", "10.0.1.2", false), pod("etcd", "192.168.0.2", true), pod("new", "", false))
	if got, err := podsWithoutNetwork(t.Context(), c); err != nil || strings.Join(got, " ") != "kube-system/coredns" {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestWriteImages: each file is an archive with an image in it, of which nothing is compressed.
func TestWriteImages(t *testing.T) {
	z, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true)) // or what is so small does not say its size
	if err != nil {
		t.Fatal(err)
	}
	payload := fstest.MapFS{}
	for _, name := range []string{"wirelab-agent", "wirelab-cni", "wirelab-operator", "wirelab-relay"} {
		payload["payload/"+name+".zst"] = &fstest.MapFile{Data: z.EncodeAll([]byte(name), nil)}
	}
	var i programs
	for _, each := range []struct {
		of   **image.Image
		make func(fs.FS, string) (*image.Image, error)
	}{{&i.agent, image.Agent}, {&i.operator, image.Operator}, {&i.nettool, image.Relay}} {
		if *each.of, err = each.make(payload, runtime.GOARCH); err != nil {
			t.Fatal(err)
		}
	}
	files, err := writeImages(i, filepath.Join(t.TempDir(), "new", "folder"))
	if err != nil || len(files) != len(i.all()) {
		t.Fatalf("got %v, %v; want %d files", files, err, len(i.all()))
	}
	for _, file := range files {
		names, err := inArchive(file)
		if err != nil || !strings.Contains(names, "index.json") && !strings.Contains(names, "manifest.json") {
			t.Errorf("%s has %s, %v", filepath.Base(file), names, err)
		}
		if content, err := os.ReadFile(file); err != nil || bytes.Contains(content, []byte("\x28\xb5\x2f\xfd")) { // RFC 8878, 3.1.1
			t.Errorf("%s has a layer that is compressed with zstd, or cannot be read: %v", filepath.Base(file), err)
		}
	}
}

// inArchive are the names of what an archive has.
func inArchive(file string) (names string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return names, err
		}
		names += h.Name + " "
	}
}
