package agent

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/netnstest"
)

// TestListsAreReadFromTheMaps compares what the agent lists with what it was
// told and with a connection that was made.
func TestListsAreReadFromTheMaps(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newServiceNode(t)
	n.tell("service %s", n.vip.Addr())
	n.tell("endpoints %s", strings.Join(n.backends, " "))
	eventually(t, "the Service answers", n.answers)
	c := client.New(n.cfg.Paths.AgentSocket())

	services, err := c.Services(t.Context())
	if err != nil || len(services) != 1 {
		t.Fatalf("services: %+v, %v", services, err)
	}
	s := services[0]
	if !strings.HasPrefix(s.Service, "ns/web") || s.Protocol != "tcp" || !slices.ContainsFunc(s.Frontends, func(f api.ServiceFrontend) bool {
		return f.Type == "ClusterIP" && f.Addr == n.vip && slices.Equal(f.Backends, s.Backends)
	}) {
		t.Errorf("the Service is %+v", s)
	}
	var backends []netip.AddrPort
	for _, addr := range n.backends {
		backends = append(backends, netip.AddrPortFrom(netip.MustParseAddr(addr), 8080))
	}
	for i, b := range s.Backends {
		if !slices.Contains(backends, b.Addr) || !b.OnNode || len(s.Backends) != 2 {
			t.Errorf("backend %d of %d is %+v", i, len(s.Backends), b)
		}
	}
	frontends, err := c.Frontends(t.Context())
	if i := slices.IndexFunc(frontends, func(f api.Frontend) bool { return f.Addr == n.vip }); err != nil || i < 0 || frontends[i].ID != s.ID || frontends[i].From != "inside" {
		t.Errorf("frontends: %+v, %v", frontends, err)
	}

	flows, err := c.Flows(t.Context())
	i := slices.IndexFunc(flows, func(f api.Flow) bool { return f.Dst == n.vip })
	if err != nil || i < 0 {
		t.Fatalf("flows: %+v, %v", flows, err)
	}
	f := flows[i]
	if !slices.Contains(backends, f.NewDst) || f.Src != f.NewSrc || f.Protocol != "tcp" || f.Service != s.Service || f.Expires <= 0 {
		t.Errorf("the flow of the connection is %+v", f)
	}
	answers, err := c.Translations(t.Context())
	if err != nil || !slices.ContainsFunc(answers, func(a api.Flow) bool { return a.Src == f.NewDst && a.Dst == f.Src && a.NewSrc == n.vip }) {
		t.Errorf("its answers: %+v, %v", answers, err)
	}

	d := n.status().Datapath.Services
	if d == nil || len(d.Sockets) != 7 || d.Cgroup == 0 || !slices.Equal(d.Devices, []string{netnstest.NIC}) || d.Services != 1 || d.Backends != 2 || d.Frontends["ClusterIP"] != 1 {
		t.Errorf("the status of Services is %+v", d)
	}
}

func TestWithKubeProxyThereIsNothingToList(t *testing.T) {
	netnstest.RequireRoot(t)
	n := newTestNode(t)
	n.start()
	c := client.New(n.cfg.Paths.AgentSocket())
	_, errServices := c.Services(t.Context())
	_, errFrontends := c.Frontends(t.Context())
	_, errFlows := c.Flows(t.Context())
	_, errTranslations := c.Translations(t.Context())
	for what, err := range map[string]error{"services": errServices, "frontends": errFrontends, "flows": errFlows, "translations": errTranslations} {
		if want := "mode kubeproxy has no Services in BPF: kube-proxy translates them"; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	if n.status().Datapath.Services != nil {
		t.Error("the status has Services")
	}
}
