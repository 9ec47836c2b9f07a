package crd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/cli"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/apiservertest"
	"wirelab.dev/wirelab/internal/crd"
)

// TestObjects takes the objects through their life on a real API server: before there are any such objects, what is
// taken and refused, who may write what, what kubectl prints, and that uninstalling leaves none.
func TestObjects(t *testing.T) {
	server := apiservertest.Start(t)
	admin := client(t, server.Config)
	ctx := t.Context()

	_, err := admin.Nodes.List(ctx, metav1.ListOptions{})
	if err = crd.Explain(crd.LabNodes, err); err == nil || !strings.Contains(err.Error(), "labnodes.wirelab.dev of version v1alpha1") || !strings.Contains(err.Error(), "helm upgrade") {
		t.Errorf("without the definitions: %v", err)
	}
	server.Install(nil)
	eventually(t, "the objects are served", func() error {
		_, err := admin.Nodes.List(ctx, metav1.ListOptions{})
		if err == nil {
			_, err = admin.Identities.List(ctx, metav1.ListOptions{})
		}
		return err
	})
	_, err = admin.Nodes.Get(ctx, "n1", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) || crd.Explain(crd.LabNodes, err) != err {
		t.Errorf("an object that is not there: %v", err)
	}

	t.Run("taken as written", func(t *testing.T) { testRoundTrip(t, admin) })
	t.Run("refused", func(t *testing.T) { testRefused(t, admin) })
	t.Run("rights", func(t *testing.T) { testRights(t, server, admin) })
	t.Run("columns", func(t *testing.T) { testColumns(t, server) })
	t.Run("informer", func(t *testing.T) {
		testInformer(t, admin, client(t, server.As("kube-system", "wirelab-operator", "")))
	})
	testUninstall(t, server, admin)
}

func client(t *testing.T, cfg *rest.Config) *crd.Client {
	t.Helper()
	c, err := crd.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func labNode(name string) *crd.LabNode {
	return &crd.LabNode{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: crd.LabNodeSpec{
			NodeUID: "uid-1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")},
		},
	}
}

func identity(number string) *crd.LabIdentity {
	return &crd.LabIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: number},
		Spec:       crd.LabIdentitySpec{Namespace: "default", ServiceAccount: "default", Labels: map[string]string{"app": "web"}},
	}
}

func testRoundTrip(t *testing.T, admin *crd.Client) {
	ctx := t.Context()
	made, err := admin.Nodes.Create(ctx, labNode("n1"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status = crd.LabNodeStatus{EndpointCount: 1, Endpoints: []crd.Endpoint{{Address: netip.MustParseAddr("10.0.1.7"), Identity: 256, Pod: "default/web-1"}}}
	if _, err = admin.Nodes.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := admin.Nodes.Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := labNode("n1"); fmt.Sprint(got.Spec) != fmt.Sprint(want.Spec) || fmt.Sprint(got.Status) != fmt.Sprint(made.Status) {
		t.Errorf("written %+v %+v, read %+v %+v", want.Spec, made.Status, got.Spec, got.Status)
	}
	if _, err = admin.Nodes.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an old version was taken for the newest: %v", err)
	}
	if _, err := admin.Identities.Create(ctx, identity("256"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Identities.Create(ctx, identity("256"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a number was given out twice: %v", err)
	}
	if _, err := admin.Identities.Create(ctx, identity("65535"), metav1.CreateOptions{}); err != nil {
		t.Errorf("the last number: %v", err)
	}
}

func testRefused(t *testing.T, admin *crd.Client) {
	ctx := t.Context()
	for _, number := range []string{"255", "65536", "0256", "web", "1"} {
		if _, err := admin.Identities.Create(ctx, identity(number), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "256 to 65535") {
			t.Errorf("identity %s: %v", number, err)
		}
	}
	have, err := admin.Identities.Get(ctx, "256", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	have.Spec.Labels["app"] = "other"
	if _, err := admin.Identities.Update(ctx, have, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "never change") {
		t.Errorf("other labels: %v", err)
	}
	ipv6 := labNode("n6")
	ipv6.Spec.Addresses = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	if _, err := admin.Nodes.Create(ctx, ipv6, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.addresses[0]") {
		t.Errorf("an address that is not IPv4: %v", err)
	}
}

// testRights holds an agent's own token against what it must not write. That it may write its own node's object is the
// control.
func testRights(t *testing.T, server *apiservertest.Server, admin *crd.Client) {
	ctx := t.Context()
	k := server.Kubernetes()
	for _, node := range []string{"own", "other"} {
		if _, err := k.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := k.CoreV1().Pods("kube-system").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       corev1.PodSpec{NodeName: "own", ServiceAccountName: "wirelab-agent", Containers: []corev1.Container{{Name: "agent", Image: "none"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bound, unbound := client(t, server.As("kube-system", "wirelab-agent", "agent")), client(t, server.As("kube-system", "wirelab-agent", ""))
	const foreign = "own node's LabNode only"
	// Policies take effect a moment after they are made.
	eventually(t, "the policy is in force", func() error {
		if _, err := bound.Nodes.Create(ctx, labNode("other"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); !refused(err, foreign) {
			return fmt.Errorf("another node's: %w", err)
		}
		return nil
	})
	if _, err := unbound.Nodes.Create(ctx, labNode("own"), metav1.CreateOptions{}); !refused(err, foreign) {
		t.Errorf("with a token of no pod: %v", err)
	}
	own, err := bound.Nodes.Create(ctx, labNode("own"), metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("its own node's: %v", err)
	}
	own.Spec.NodeUID = "uid-2"
	if _, err = bound.Nodes.Update(ctx, own, metav1.UpdateOptions{}); err != nil {
		t.Errorf("its own node's again: %v", err)
	}
	other, err := admin.Nodes.Create(ctx, labNode("other"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other.Spec.NodeUID = "uid-2"
	if _, err := bound.Nodes.Update(ctx, other, metav1.UpdateOptions{}); !refused(err, foreign) {
		t.Errorf("another node's: %v", err)
	}
	if err := bound.Nodes.Delete(ctx, "own", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("to delete its own: %v", err)
	}
	endpoints := []byte(`{"status":{"endpoints":[{"address":"10.0.1.5","identity":300,"pod":"default/web"}],"endpointCount":1}}`)
	if got, err := bound.Nodes.Patch(ctx, "own", types.MergePatchType, endpoints, metav1.PatchOptions{}, "status"); err != nil || len(got.Status.Endpoints) != 1 {
		t.Errorf("its own node's endpoints: %v, %v", got, err)
	}
	if _, err := bound.Nodes.Patch(ctx, "other", types.MergePatchType, endpoints, metav1.PatchOptions{}, "status"); !refused(err, foreign) {
		t.Errorf("another node's endpoints: %v", err)
	}
	made, err := bound.Identities.Create(ctx, identity("300"), metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("to make an identity: %v", err)
	}
	made.Annotations = map[string]string{crd.Unused: "2030-01-02T03:04:05Z"}
	if _, err := bound.Identities.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("to change one: %v", err)
	}
	if err := bound.Identities.Delete(ctx, "300", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("to delete one: %v", err)
	}
}

func refused(err error, why string) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), why)
}

// testColumns asks as kubectl does.
func testColumns(t *testing.T, server *apiservertest.Server) {
	for path, want := range map[string][]string{
		"labnodes/n1":       {"Name Address Pod CIDR Endpoints Age Problem", "n1 192.0.2.1 10.0.1.0/24 1 "},
		"labidentities/256": {"Name Namespace Service Account Labels Age", `256 default default {"app":"web"} `},
	} {
		var table metav1.Table
		raw, err := server.Kubernetes().Discovery().RESTClient().Get().AbsPath("/apis/wirelab.dev/v1alpha1/"+path).
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
		if err == nil {
			err = json.Unmarshal(raw, &table)
		}
		if err != nil {
			t.Fatal(err)
		}
		var head, row []string
		for i, c := range table.ColumnDefinitions {
			head, row = append(head, c.Name), append(row, fmt.Sprint(table.Rows[0].Cells[i]))
		}
		if strings.Join(head, " ") != want[0] || !strings.HasPrefix(strings.Join(row, " "), want[1]) {
			t.Errorf("kubectl get %s prints %q, %q; want %q", path, head, row, want)
		}
	}
}

func testInformer(t *testing.T, admin, operator *crd.Client) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	nodes := crd.NewInformer(admin.Nodes)
	done := make(chan struct{})
	go func() { defer close(done); nodes.RunWithContext(ctx) }()
	eventually(t, "the list is there", func() error {
		if n := nodes.Find("n1"); n == nil || n.Spec.PodCIDRs[0].String() != "10.0.1.0/24" || nodes.Find("n9") != nil || len(nodes.All()) != 3 {
			return fmt.Errorf("there is %v", nodes.All())
		}
		return nil
	})
	if err := admin.Nodes.Delete(ctx, "n1", metav1.DeleteOptions{}); !refused(err, "some minutes after the node") {
		t.Errorf("an administrator deletes a LabNode: %v", err)
	}
	if err := operator.Nodes.Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is gone", func() error {
		if n := nodes.Find("n1"); n != nil {
			return fmt.Errorf("there is %v", n)
		}
		return nil
	})
	cancel()
	<-done
}

// testUninstall removes the release as `helm uninstall` does, while there are objects.
func testUninstall(t *testing.T, server *apiservertest.Server, admin *crd.Client) {
	if list, err := admin.Nodes.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) == 0 {
		t.Fatalf("there is nothing to go: %v, %v", list, err)
	}
	settings := cli.New()
	settings.KubeAPIServer, settings.KubeToken, settings.KubeInsecureSkipTLSVerify = server.Config.Host, server.Config.BearerToken, true
	settings.SetNamespace("kube-system")
	var cfg action.Configuration
	if err := cfg.Init(settings.RESTClientGetter(), "kube-system", "secret", t.Logf); err != nil {
		t.Fatal(err)
	}
	if _, err := action.NewUninstall(&cfg).Run("wirelab"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the objects are gone, and all that defines them", func() error {
		_, err := admin.Nodes.List(t.Context(), metav1.ListOptions{})
		if crd.Explain(crd.LabNodes, err) == err {
			return fmt.Errorf("they are still served: %w", err)
		}
		return nil
	})
}

// eventually polls until ok has no more to complain of, for at most half a minute.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to be that %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
