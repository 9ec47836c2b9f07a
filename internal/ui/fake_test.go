package ui

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// fake is a lab whose flows a test makes.
type fake struct {
	lines  chan api.FlowLine
	heard  func(node string, err error)
	told   chan struct{} // closed once somebody follows
	arrive chan struct{} // nil, or what a packet waits for
}

func newFake() *fake {
	return &fake{lines: make(chan api.FlowLine, 1000), told: make(chan struct{})}
}

func (f *fake) flows(ctx context.Context, each func(api.FlowLine) error, heard func(string, error)) error {
	f.heard = heard
	close(f.told)
	for {
		select {
		case line := <-f.lines:
			if err := each(line); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *fake) explain(ctx context.Context, from, to, protocol string) ([]byte, error) {
	if from == "" {
		return nil, errors.New("there is no such pod")
	}
	if f.arrive != nil {
		select {
		case <-f.arrive:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="100" height="50"><desc>%s from %s to %s</desc><style>rect { fill: green; }</style><rect width="100" height="50"/></svg>`, protocol, from, to), nil
}

// services is one, whose address is 10.96.0.10.
func (f *fake) services(context.Context) (map[netip.Addr]Service, error) {
	return map[netip.Addr]Service{netip.MustParseAddr("10.96.0.10"): {"kube-system", "kube-dns"}}, nil
}

// datapaths are of a node whose datapath is BPF's, and one whose agent is away.
func (f *fake) datapaths(context.Context) ([]NodeDatapath, error) {
	return []NodeDatapath{{Node: "l-worker", Status: nodeStatus()}, {Node: "l-worker2", Away: "no agent pod on this node"}}, nil
}

// nodeStatus is what the agent of a node in mode ebpf says.
func nodeStatus() *api.Status {
	at := func(a string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(a)} }
	return &api.Status{Endpoints: 2, Datapath: &api.Datapath{
		Mode: "ebpf",
		Devices: []api.Device{
			{Name: "eth0", Up: true, Addrs: at("172.18.0.2/16")}, {Name: "lab_host", Up: true, Addrs: at("10.0.1.1/32")}, {Name: "lab_net", Up: true},
		},
		Routing:      api.Routing{Network: "native", Host: "BPF"},
		Masquerading: api.Masquerading{Enabled: true, Kind: "BPF", Devices: []string{"eth0"}, NativeCIDR: netip.MustParsePrefix("10.0.0.0/8")},
		Services:     &api.Services{Sockets: []string{"connect4", "sendmsg4"}, Devices: []string{"eth0"}},
		Programs: []api.Program{
			{Name: "lab_from_pod", Hook: "tcx ingress", AttachedTo: []string{"lxc1", "lxc2"}},
			{Name: "lab_to_pod", Hook: "tcx egress", AttachedTo: []string{"lab_host"}},
			{Name: "lab_from_network", Hook: "tcx ingress", AttachedTo: []string{"eth0"}},
			{Name: "lab_to_network", Hook: "tcx egress", AttachedTo: []string{"eth0"}},
		},
	}}
}

// podEnd is a pod's end of a flow, as namespace/name; its address follows from the name.
func podEnd(pod string, port uint16) api.FlowEnd {
	namespace, name, _ := strings.Cut(pod, "/")
	var sum uint16
	for _, c := range pod {
		sum = sum*31 + uint16(c)
	}
	return api.FlowEnd{Addr: netip.AddrFrom4([4]byte{10, 0, byte(sum >> 8), byte(sum)}), Port: port, Identity: 300, Namespace: namespace, Pod: name}
}

// passes is a record of a packet that passed.
func passes(protocol string, from, to api.FlowEnd) *api.FlowRecord {
	no := false
	return &api.FlowRecord{
		Time: time.Now(), Node: "l-worker", Verdict: api.FlowForwarded, Reason: "delivered", Protocol: protocol, Reply: &no,
		Source: from, Destination: to, Length: 98,
	}
}

// answer is a record of the packet that answers r.
func answer(r *api.FlowRecord) *api.FlowRecord {
	yes := true
	back := *r
	back.Source, back.Destination, back.Reply = r.Destination, r.Source, &yes
	return &back
}

// dropped is r, dropped for a reason.
func dropped(r *api.FlowRecord, reason string) *api.FlowRecord {
	r.Verdict, r.Reason = api.FlowDropped, reason
	return r
}

func (f *fake) tell(records ...*api.FlowRecord) {
	for _, r := range records {
		f.lines <- api.FlowLine{Flow: r}
	}
}

// serving is a server of a fake lab, until the test ends.
func serving(t *testing.T, nodes ...string) (*Server, *fake) {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFake()
	s := New(listener, Lab{Name: "l", Nodes: nodes, Flows: f.flows, Services: f.services, Explain: f.explain, Datapaths: f.datapaths})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	<-f.told
	return s, f
}

// randomPart is what a controller may append to a pod's name.
func randomPart(n, length int) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	var b strings.Builder
	for range length {
		n = (n*7919 + 104729) % 1000003
		b.WriteByte(letters[n%len(letters)])
	}
	return b.String()
}

// shop is a lab with traffic between so many pods of some workloads.
type shop struct{ pods []string }

func newShop(pods int) (s shop) {
	names := []string{"web", "api", "cart", "payment", "stock", "mail", "search", "cache"}
	for i := range pods {
		workload := names[i%len(names)]
		if more := i / (len(names) * 12); more > 0 {
			workload += fmt.Sprintf("-%c", 'a'+rune(more))
		}
		s.pods = append(s.pods, fmt.Sprintf("shop/%s-%s-%s", workload, randomPart(i%len(names)+97*(i/96), 9), randomPart(i*31+7, 5)))
	}
	return s
}

// flow is the nth one of those that come and come again.
func (s shop) flow(n int) *api.FlowRecord {
	i := n % len(s.pods)
	from := s.pods[i]
	to := s.pods[min(i/96*96+(i%8+1+n/len(s.pods)%2)%8+8*(n%12), len(s.pods)-1)] // of one of the two workloads that come next
	switch {
	case n%29 == 0:
		return dropped(passes("tcp", podEnd(from, 40000), podEnd(to, 5432)), "policy-denied")
	case n%7 == 0:
		return passes("udp", podEnd(from, 40000), podEnd("kube-system/coredns-7db6d8ff4d-x2x4k", 53))
	case n%11 == 0:
		return passes("tcp", podEnd(from, 40000), api.FlowEnd{Addr: netip.AddrFrom4([4]byte{203, 0, 113, byte(n % 7)}), Port: 443, Identity: 2, Name: "world"})
	}
	return passes("tcp", podEnd(from, 40000), podEnd(to, 8080))
}
