package relay

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/apiservertest"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/logtest"
	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/internal/serve"
)

// secretFiles writes a Secret's files as they are mounted.
func secretFiles(t *testing.T, s *corev1.Secret) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range s.Data {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// kubeconfig writes what reaches the server as cfg does.
func kubeconfig(t *testing.T, cfg *rest.Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:  map[string]*clientcmdapi.Cluster{"c": {Server: cfg.Host, InsecureSkipTLSVerify: true}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {Token: cfg.BearerToken}},
		Contexts:  map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}}, CurrentContext: "x",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRelayOfTheChart: a relay with the chart's rights and certificates finds a node by its LabNode, is answered by its agent,
// and answers a client with the chart's certificate and none without. It may read nothing else. An upgrade keeps the
// certificates, and makes those of a pair anew of which one is gone.
func TestRelayOfTheChart(t *testing.T) {
	server := apiservertest.Start(t)
	values := func(capacity int) map[string]any {
		return map[string]any{"flows": map[string]any{"capacity": capacity, "relay": map[string]any{"enabled": true, "tls": true}}}
	}
	server.Install(values(4096))
	kube := server.Kubernetes()
	secrets := kube.CoreV1().Secrets("kube-system")
	secret := func(name string) *corev1.Secret {
		t.Helper()
		s, err := secrets.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	account := server.As("kube-system", "wirelab-relay", "")
	may, err := kubernetes.NewForConfig(account)
	if err != nil {
		t.Fatal(err)
	}
	own, err := crd.NewClient(account)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := crd.NewClient(server.Config)
	if err != nil {
		t.Fatal(err)
	}

	agent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(api.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"version":"1","flows":{"kept":5,"capacity":9}}`)) //nolint:errcheck // the test sees it
	})
	ctx, cancel := context.WithCancel(t.Context())
	log := &logtest.Buffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	ended := make(chan error, 2)
	go func() {
		unchanged := func(err error) error { return err }
		ended <- serve.TLS(ctx, agent, mtls.InDir(secretFiles(t, secret("wirelab-relay-agent"))).Renewed(api.RelayCertName, nil), mux, logger, unchanged)
	}()
	o := Options{
		Kubeconfig: kubeconfig(t, account), Cluster: "lab", Listen: free(t), Probes: free(t), TLS: secretFiles(t, secret("wirelab-relay-server")),
		AgentTLS: secretFiles(t, secret("wirelab-relay")), AgentPort: agent.Addr().(*net.TCPAddr).AddrPort().Port(),
	}
	go func() { ended <- Run(ctx, o, logger) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	eventually(t, "the LabNode is made", func() error {
		_, err := admin.Nodes.Create(t.Context(), &crd.LabNode{
			ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: crd.LabNodeSpec{NodeUID: "u", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		}, metav1.CreateOptions{})
		return err
	})
	client, err := mtls.InDir(secretFiles(t, secret("wirelab-relay-client"))).Client(time.Now(), "wirelab-relay.kube-system.svc")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(o.Listen, grpc.WithTransportCredentials(credentials.NewTLS(client)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "the relay tells of the node", func() error {
		s, err := observerpb.NewObserverClient(conn).ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		if err == nil && (s.GetNumFlows() != 5 || s.GetNumConnectedNodes().GetValue() != 1) {
			return &unlike{s.String()}
		}
		return err
	})
	nobody := client.Clone()
	nobody.Certificates = nil
	without, err := grpc.NewClient(o.Listen, grpc.WithTransportCredentials(credentials.NewTLS(nobody)))
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	if _, err := observerpb.NewObserverClient(without).ServerStatus(t.Context(), &observerpb.ServerStatusRequest{}); err == nil {
		t.Error("a client without a certificate is answered")
	}
	eventually(t, "it is said why", func() error {
		if !strings.Contains(log.String(), "a client is not answered") || !strings.Contains(log.String(), "client didn't provide a certificate: ask with what the Secret wirelab-relay-client has now") {
			return &unlike{log.String()}
		}
		return nil
	})

	if _, err := own.Nodes.List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("it may not list LabNodes: %v", err)
	}
	_, onIdentities := own.Identities.List(t.Context(), metav1.ListOptions{})
	_, onPods := may.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	_, onNodes := may.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	_, onSecrets := may.CoreV1().Secrets("kube-system").Get(t.Context(), "wirelab-relay", metav1.GetOptions{})
	onDelete := own.Nodes.Delete(t.Context(), "n1", metav1.DeleteOptions{})
	for what, err := range map[string]error{"list identities": onIdentities, "list pods": onPods, "list nodes": onNodes, "read Secrets": onSecrets, "delete LabNodes": onDelete} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("it may %s: %v", what, err)
		}
	}

	all := []string{"wirelab-relay-agent", "wirelab-relay", "wirelab-relay-server", "wirelab-relay-client"}
	keys := func() (found []string) {
		for _, name := range all {
			found = append(found, string(secret(name).Data["ca.crt"])+string(secret(name).Data["tls.key"]))
		}
		return found
	}
	before := keys()
	revisions := func() int {
		t.Helper()
		all, err := secrets.List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
		if err != nil {
			t.Fatal(err)
		}
		return len(all.Items)
	}
	server.Install(values(8192))
	if n := revisions(); n != 2 {
		t.Errorf("%d revisions after an upgrade", n)
	}
	server.Install(values(8192))
	if n := revisions(); n != 2 {
		t.Errorf("%d revisions after an installation that changes nothing", n)
	}
	for i, now := range keys() {
		if now != before[i] {
			t.Errorf("an upgrade makes %s anew", all[i])
		}
	}
	if err := secrets.Delete(t.Context(), "wirelab-relay", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Install(values(8192))
	for i, now := range keys() {
		if anew := i < 2; (now != before[i]) != anew {
			t.Errorf("with the relay's gone, %s is made anew: %v", all[i], !anew)
		}
	}
	if string(secret(all[0]).Data["ca.crt"]) != string(secret(all[1]).Data["ca.crt"]) {
		t.Error("those of a pair are of two CAs")
	}
}

// unlike is what was found instead.
type unlike struct{ found string }

func (u *unlike) Error() string { return "it is " + u.found }

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to be that %s: %v", what, err)
		}
	}
}
