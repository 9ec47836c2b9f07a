package cluster

import (
	"net/netip"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"wirelab.dev/wirelab/internal/docker"
)

const admin = `apiVersion: v1
kind: Config
clusters:
- cluster: {server: "https://x-control-plane:6443", certificate-authority-data: Y2E=}
  name: x
contexts:
- context: {cluster: x, user: kubernetes-admin}
  name: kubernetes-admin@x
current-context: kubernetes-admin@x
users:
- name: kubernetes-admin
  user: {client-key-data: a2V5}
`

func TestRename(t *testing.T) {
	b, err := rename([]byte(admin), "kind-x", "https://127.0.0.1:5")
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientcmd.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	if c.CurrentContext != "kind-x" || c.Contexts["kind-x"].AuthInfo != "kind-x" || c.Clusters["kind-x"].Server != "https://127.0.0.1:5" ||
		string(c.AuthInfos["kind-x"].ClientKeyData) != "key" || len(c.Contexts)+len(c.Clusters)+len(c.AuthInfos) != 3 {
		t.Errorf("%s", b)
	}
}

func TestEndpoint(t *testing.T) {
	at := func(s string) map[uint16]netip.AddrPort {
		return map[uint16]netip.AddrPort{apiPort: netip.MustParseAddrPort(s)}
	}
	cl := &Cluster{Name: "x"}
	if _, err := cl.endpoint(); err == nil {
		t.Error("a cluster without nodes is reached somewhere")
	}
	cl.add(docker.Found{Name: "x-control-plane", Published: at("0.0.0.0:1")}, nil)
	if got, err := cl.endpoint(); err != nil || got.String() != "127.0.0.1:1" {
		t.Errorf("%v, %v", got, err)
	}
	cl.add(docker.Found{Name: "x-lb", Labels: map[string]string{labelKindRole: RoleLoadBalancer}, Published: at("127.0.0.1:2")}, nil)
	if got, err := cl.endpoint(); err != nil || got.String() != "127.0.0.1:2" {
		t.Errorf("with a load balancer: %v, %v", got, err)
	}
}
