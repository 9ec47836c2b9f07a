package lb

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/api"
)

func TestClaims(t *testing.T) {
	nodePort := web("10.0.0.2:80@a")
	nodePort.Name, nodePort.Frontends = "aaa", []Frontend{{Kind: NodePort, Port: 30000}}
	external := web("10.0.0.3:80@a")
	external.Frontends = []Frontend{{Kind: ExternalIP, Addr: nodeAddrs[1], Port: 30000}}
	p := lay(t, newTables(), nodePort, external)
	want := []string{
		"inside 127.0.0.1:30000/tcp NodePort 10.0.0.2:80*",
		"inside 192.0.2.1:30000/tcp ExternalIP 10.0.0.3:80*",
		"outside 192.0.2.1:30000/tcp ExternalIP 10.0.0.3:80*",
	}
	if got := p.want.show(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(p.leftOut) != 1 || p.leftOut[0].Name != "aaa" || !strings.Contains(p.leftOut[0].Message, "192.0.2.1:30000: Service default/web") {
		t.Errorf("left out: %v", p.leftOut)
	}
}

// A host port for one address comes before one for all, whoever comes first by name, and gives way to Services.
func TestHostPortClaims(t *testing.T) {
	hostPort := func(pod, hostIP string, port uint16) HostPort {
		p := HostPort{Proto: "tcp", Port: port, Backend: netip.MustParseAddrPort(pod), Namespace: "ns", Name: "pod-" + pod}
		if hostIP != "" {
			p.HostIP = netip.MustParseAddr(hostIP)
		}
		return p
	}
	service := web("10.0.0.9:80")
	service.Frontends = []Frontend{{Kind: NodePort, Port: 30000}}
	p, leftOut := planOf(newTables(), roomy, State{Services: []Service{service}, HostPorts: []HostPort{
		hostPort("10.0.0.2:80", "", 80), hostPort("10.0.0.3:80", "192.0.2.1", 80), hostPort("10.0.0.3:80", "0.0.0.0", 81),
		hostPort("10.0.0.3:80", "192.0.2.1", 81), hostPort("10.0.0.4:80", "192.0.2.1", 30000), hostPort("10.0.0.5:80", "127.0.0.2", 90),
		hostPort("10.0.0.5:80", "10.0.0.1", 91),
	}})
	want := []string{
		"inside 10.0.0.1:91/tcp HostPort 10.0.0.5:80*",
		"inside 127.0.0.1:30000/tcp NodePort 10.0.0.9:80*",
		"inside 127.0.0.1:80/tcp HostPort 10.0.0.2:80*",
		"inside 127.0.0.1:81/tcp HostPort 10.0.0.3:80*",
		"inside 127.0.0.2:90/tcp HostPort 10.0.0.5:80*",
		"inside 192.0.2.1:30000/tcp NodePort 10.0.0.9:80*",
		"inside 192.0.2.1:80/tcp HostPort 10.0.0.3:80*",
		"inside 192.0.2.1:81/tcp HostPort 10.0.0.3:80*",
		"outside 10.0.0.1:91/tcp HostPort 10.0.0.5:80*",
		"outside 192.0.2.1:30000/tcp NodePort 10.0.0.9:80*",
		"outside 192.0.2.1:80/tcp HostPort 10.0.0.3:80*",
		"outside 192.0.2.1:81/tcp HostPort 10.0.0.3:80*",
	}
	if got := p.want.show(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	slices.SortFunc(leftOut, api.LeftOut.Compare)
	wantSkipped := []string{
		"Pod ns/pod-10.0.0.2:80: host port 80/tcp is not reached at 192.0.2.1:80: host port 192.0.2.1:80/tcp of pod ns/pod-10.0.0.3:80 is there",
		"Pod ns/pod-10.0.0.4:80: host port 192.0.2.1:30000/tcp is not reached at 192.0.2.1:30000: Service default/web is there",
	}
	var got []string
	for _, s := range leftOut {
		got = append(got, s.String())
	}
	if !slices.Equal(got, wantSkipped) {
		t.Errorf("left out\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wantSkipped, "\n"))
	}
}

// What a Service that there is no room for claims goes to the next.
func TestClaimsOfWhoHasNoRoom(t *testing.T) {
	room := capacity{frontends: 8, slots: 8, backends: 1, sources: 1}
	large, small := web("10.0.0.1:80", "10.0.0.2:80"), web("10.0.0.3:80")
	small.Name = "zzz"
	p, leftOut := planOf(newTables(), room, State{Services: []Service{large, small}})
	if got := p.want.show(); len(got) != 1 || !strings.HasSuffix(got[0], "10.0.0.3:80*") {
		t.Errorf("got %q", got)
	}
	if len(leftOut) != 1 || leftOut[0].Name != "web" || leftOut[0].Reason != NoRoom {
		t.Errorf("left out: %v", leftOut)
	}
}
