// Package apiservertest has a real API server for tests: kube-apiserver and etcd as the node image has them, and nothing
// else of a cluster. No controller runs.
package apiservertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/logtest"
)

// Server is an API server that ends with its test.
type Server struct {
	t      *testing.T
	Config *rest.Config // of an administrator
}

const adminToken = "admin"

// Start starts one and waits until it is ready. Where the node image was never built, the test is skipped, or fails if
// WIRELAB_TEST_STRICT is set.
func Start(t *testing.T) *Server {
	t.Helper()
	etcd, apiserver := binary(t, "etcd-*/etcd"), binary(t, "kubernetes-*/kube-apiserver")
	dir := t.TempDir()
	client, peer, secure := freePort(t), freePort(t), freePort(t)
	etcdURL, peerURL := "http://127.0.0.1:"+client, "http://127.0.0.1:"+peer
	run(t, etcd, "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL)
	key, tokens := filepath.Join(dir, "sa.key"), filepath.Join(dir, "tokens")
	writeKey(t, key)
	if err := os.WriteFile(tokens, []byte(adminToken+`,admin,admin,"system:masters"`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, apiserver, "--etcd-servers", etcdURL, "--bind-address", "127.0.0.1", "--secure-port", secure,
		"--cert-dir", filepath.Join(dir, "certs"), "--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC", "--allow-privileged",
		"--token-auth-file", tokens, "--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", key, "--service-account-signing-key-file", key, "--disable-admission-plugins", "ServiceAccount")
	s := &Server{t: t, Config: &rest.Config{
		Host: "https://127.0.0.1:" + secure, BearerToken: adminToken, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // it has made its certificate itself
	}}
	s.await()
	return s
}

// Kubernetes is a client of an administrator's.
func (s *Server) Kubernetes() kubernetes.Interface {
	s.t.Helper()
	c, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// As is the configuration of a service account's pod.
func (s *Server) As(namespace, account, pod string) *rest.Config {
	s.t.Helper()
	ask := &authenticationv1.TokenRequest{}
	if pod != "" {
		p, err := s.Kubernetes().CoreV1().Pods(namespace).Get(s.t.Context(), pod, metav1.GetOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		ask.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod, UID: p.UID}
	}
	got, err := s.Kubernetes().CoreV1().ServiceAccounts(namespace).CreateToken(s.t.Context(), account, ask, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := rest.CopyConfig(s.Config)
	cfg.BearerToken = got.Status.Token
	return cfg
}

func (s *Server) await() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	client := s.Kubernetes()
	for {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			_, err = client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("the API server does not get ready: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// binary is the newest program of that name that the node image was built of.
func binary(t *testing.T, pattern string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "wirelab", "node-image", pattern))
	if err != nil {
		t.Fatal(err)
	}
	var newest string
	var at time.Time
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(at) {
			newest, at = path, info.ModTime()
		}
	}
	switch {
	case newest != "":
	case os.Getenv("WIRELAB_TEST_STRICT") != "":
		t.Fatalf("no %s in %s/wirelab/node-image: make node-image builds it", pattern, cache)
	default:
		t.Skipf("no %s in %s/wirelab/node-image: make node-image builds it", pattern, cache)
	}
	return newest
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// writeKey writes a new key to sign tokens with.
func writeKey(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a program until the test ends, or this process does.
func run(t *testing.T, path string, args ...string) {
	t.Helper()
	log := &logtest.Buffer{}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() { // on one thread for all its life: the signal comes when that ends
		defer close(ended)
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("%s: %s", filepath.Base(path), tail(log))
		}
	})
}

// tail is the end of what a program has printed.
func tail(log *logtest.Buffer) string {
	const most = 1500
	text := log.String()
	return text[max(0, len(text)-most):]
}
