package operator

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"wirelab.dev/wirelab/internal/settings"
)

func clusterPool(cidrs ...string) settings.IPAM {
	return settings.IPAM{Mode: settings.IPAMClusterPool, Operator: settings.IPAMOperator{ClusterPoolIPv4PodCIDRList: cidrs, ClusterPoolIPv4MaskSize: 24}}
}

// TestProcess runs an operator as its command does, in a cluster that has many nodes already. By client-go's own bound of
// five requests a second the last ones would wait for most of a minute.
func TestProcess(t *testing.T) {
	b := newBed(t)
	const nodes = 100
	for i := range nodes {
		b.join(fmt.Sprintf("n%03d", i))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	o := Options{Kubeconfig: kubeconfig(t, b.account), Namespace: "kube-system", Listen: addr, IPAM: clusterPool("10.0.0.0/16")}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- Run(ctx, o, slog.New(slog.DiscardHandler)) }()
	b.eventually("all nodes have podCIDRs", func() error {
		if got := len(b.given()); got != nodes {
			return fmt.Errorf("%d have", got)
		}
		return nil
	})
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("that took %s", took)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		answer, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		says, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %q, %v", path, answer.Status, says, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// kubeconfig is a file that says what cfg does.
func kubeconfig(t *testing.T, cfg *rest.Config) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: cfg.Host, InsecureSkipTLSVerify: true}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: cfg.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOptionsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		ipam settings.IPAM
		want string
	}{
		{"no such mode", settings.IPAM{Mode: "clusterpool"}, "ipam.mode: "},
		{"no pool", clusterPool(), "ipam.operator.clusterPoolIPv4PodCIDRList: is empty, and ipam.mode is cluster-pool"},
		{"no CIDR", clusterPool("10.0.0.0"), "ipam.operator.clusterPoolIPv4PodCIDRList[0]: "},
		{"a small one", clusterPool("10.0.0.0/25"), "(ipam.operator.clusterPoolIPv4MaskSize)"},
		{"twice", clusterPool("10.0.0.0/8", "10.9.0.0/16"), "ipam.operator.clusterPoolIPv4PodCIDRList[1]: 10.9.0.0/16 overlaps"},
		{"no room for a pod", settings.IPAM{Mode: settings.IPAMKubernetes, Operator: settings.IPAMOperator{ClusterPoolIPv4MaskSize: 31}}, "ipam.operator.clusterPoolIPv4MaskSize: "},
	} {
		err := Run(t.Context(), Options{Namespace: "kube-system", IPAM: tc.ipam}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if err := Run(t.Context(), Options{IPAM: clusterPool("10.0.0.0/8")}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--namespace") {
		t.Errorf("without a namespace: %v", err)
	}
}
