package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// world is a small model of a lab whose network is as it should be. Its
// probers answer from the model; a test spoils one kind of answer and sees
// which checks notice.
type world struct {
	network
	env   *field.Env
	mu    sync.Mutex
	picks int // backends chosen so far, in turn

	places   map[string]*place
	captures []*watch
	stacks   stacks

	// spoil edits each final reply before it is handed out.
	spoil func(at *place, request probe.Request, reply *probe.Reply)
	// forward lets packets with a forged source through.
	forward bool
	// immortal keeps a deleted pod among the backends.
	immortal bool
	// hop edits each packet seen by a watch.
	hop func(at string, p *probe.Packet)
}

// place is a host of the model.
type place struct {
	w      *world
	name   string // as Peer.Name
	self   string // as Peer.Self
	addr   netip.Addr
	node   *field.Node // nil outside
	isNode bool
	eth0   string // MAC of eth0
	veth   string // name of the host-side veth of a pod
	index  int    // of that veth on the node
	mac    string // of that veth
}

const (
	nicMAC = "02:00:00:00:00:%02x"
)

// network is what labs differ in: a mode, and the protocol of a tunnel, if there is one.
type network struct{ mode, tunnel string }

func (n network) String() string {
	if n.tunnel == "" {
		return n.mode
	}
	return n.mode + " with " + n.tunnel
}

// newWorld models nodes called control-plane, worker and worker2, in a network.
func newWorld(t *testing.T, n network) *world {
	t.Helper()
	w := &world{network: n, places: map[string]*place{}, stacks: newStacks(), env: &field.Env{
		Config: field.Config{Config: verify.Config{
			Lab: "test", Kind: verify.Kind{Mode: n.mode, Settings: settingsIn(n)},
		},
			NativeCIDR: netip.MustParsePrefix("10.0.0.0/8"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
			Pool: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
			Demo: &field.Demo{Namespace: "default", Service: "demo", Headless: "demo-headless", Port: 8080, NodePort: 32000},
		}.WithDefaults(),
		Native: netip.MustParseAddr("10.255.255.254"),
	}}
	if n.tunnel != "" {
		w.env.Tunnel = &field.Tunnel{Tunnel: probe.Tunnel{Protocol: n.tunnel, Port: 8472}, Device: "lab_" + n.tunnel}
	}
	for i, name := range []string{"control-plane", "worker", "worker2"} {
		w.addNode(i, name)
	}
	w.env.Outside = field.Peer{Name: "outside host", Addr: netip.MustParseAddr("172.18.0.99"), Port: field.OutsidePort}
	w.env.Outside.Prober = w.place(w.env.Outside, nil)
	w.env.LabNodes = w.labNodes
	w.addServices()
	w.env.DemoPods = w.demo().Backends
	return w
}

// settingsIn are those of a shipped profile that checks ask for.
func settingsIn(n network) map[string]string {
	routing := "native"
	if n.tunnel != "" {
		routing = "tunnel"
	}
	return map[string]string{
		"demo.enabled": "true", "network.routingMode": routing, "network.enableIPv4Masquerade": "true", "network.ipv4NativeRoutingCIDR": "10.0.0.0/8",
		"network.bpf.masquerade": fmt.Sprint(n.mode == verify.ModeEBPF),
	}
}

func (w *world) addNode(i int, name string) {
	n := &field.Node{PodCIDR: netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i))}
	n.Peer = field.Peer{Name: field.NodePrefix + name, Self: name, Node: name, Addr: netip.MustParseAddr(fmt.Sprintf("172.18.0.%d", i+2)), Port: 40000}
	node := w.place(n.Peer, n)
	node.isNode, n.Prober = true, node
	for j, role := range []string{field.RoleClient, field.RoleServer} {
		pod := field.Peer{Name: field.PodPrefix + role + "-" + name, Self: field.PodName(role, name), Node: name, Port: field.PodPort, Addr: netip.MustParseAddr(fmt.Sprintf("10.244.%d.%d", i, 10+j))}
		p := w.place(pod, n)
		p.index = 20 + j
		p.veth, p.mac, p.eth0 = fmt.Sprintf("lxc%08x", 16*i+j), fmt.Sprintf("0a:00:00:00:%02x:%02x", i, j), fmt.Sprintf("0e:00:00:00:%02x:%02x", i, j)
		pod.Prober = p
		if role == field.RoleClient {
			n.Client = pod
		} else {
			n.Server = pod
		}
	}
	w.env.Nodes = append(w.env.Nodes, n)
}

func (w *world) place(h field.Peer, n *field.Node) *place {
	p := &place{w: w, name: h.Name, self: h.Self, addr: h.Addr, node: n, eth0: fmt.Sprintf(nicMAC, h.Addr.As4()[3])}
	w.places[h.Name] = p
	return p
}

// addServices models the run's Services as field.RunServices lists them.
func (w *world) addServices() {
	only := w.env.Nodes[len(w.env.Nodes)-1].Node
	if w.env.KubeProxyReplacement() {
		first := w.env.Nodes[0]
		w.env.Leaver = field.Peer{Name: field.PodPrefix + field.RoleLeaver + "-" + first.Node, Self: field.PodName(field.RoleLeaver, first.Node), Node: first.Node, Port: field.PodPort, Addr: netip.MustParseAddr("10.244.0.30")}
		w.env.Leaver.Prober = w.place(w.env.Leaver, first)
	}
	for i, l := range field.RunServices(w.env.Config) {
		s := field.Service{Namespace: field.Namespace, Name: l.Name, Port: field.ServicePort, Backends: l.Backends(w.env, only)}
		if l.Name != field.HeadlessService {
			s.Addr = netip.AddrFrom4([4]byte{10, 96, 0, byte(100 + i)})
			s.NodePortTCP, s.NodePortUDP = uint16(31000+2*i), uint16(31001+2*i)
		}
		if l.Name == field.LocalService {
			s.HealthPort = 32123
		}
		*l.Into(w.env) = s
	}
	w.env.Kube = w.apiServer()
}

// demo is the demo's Service; the run's servers stand in for its pods.
func (w *world) demo() field.Service {
	return field.Service{Namespace: "default", Name: "demo", Addr: netip.MustParseAddr("10.96.0.200"), Port: 8080, NodePortTCP: 32000, Backends: w.env.Every.Backends}
}

// services are those with an address.
func (w *world) services() []field.Service {
	all := []field.Service{w.env.Every, w.env.One, w.env.Sticky, w.env.Local, w.env.Empty, w.demo()}
	if w.env.KubeProxyReplacement() {
		all = append(all, w.env.Changing)
	}
	return all
}

// at finds whoever has an address.
func (w *world) at(addr netip.Addr) *place {
	if addr == w.env.Native {
		return w.places["outside host"]
	}
	for _, p := range w.places {
		if p.addr == addr {
			return p
		}
	}
	return nil
}

// router is the address of lab_host on the place's node.
func (p *place) router() netip.Addr { return p.node.PodCIDR.Masked().Addr().Next() }

func (p *place) isPod() bool { return p.veth != "" }

// Probe implements [Prober].
func (p *place) Probe(_ context.Context, request probe.Request) (probe.Reply, error) {
	if err := request.Check(); err != nil {
		return probe.Reply{}, err // as a session does
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	reply := p.answer(request)
	if p.w.spoil != nil {
		p.w.spoil(p, request, &reply)
	}
	if reply.Error != "" {
		return reply, errors.New(reply.Error)
	}
	return reply, nil
}

func (p *place) answer(request probe.Request) probe.Reply {
	switch {
	case request.HTTP != nil:
		return p.answerHTTP(request.HTTP)
	case request.UDP != nil:
		id, why := p.serve(request.UDP.Address, true)
		local, lost := p.ask("udp", request.UDP.Address)
		return orFailure(why+lost, probe.Reply{UDP: &probe.UDPResult{Sent: 1, Received: 1, Local: local, Identity: id}})
	case request.TCP != nil:
		id, why := p.serve(request.TCP.Address, false)
		local, lost := p.ask("tcp", request.TCP.Address)
		return orFailure(why+lost, probe.Reply{TCP: &probe.TCPResult{Identity: id, Local: local, Up: request.TCP.Bytes, Down: request.TCP.Bytes}})
	case request.ICMP != nil:
		return p.answerICMP(request.ICMP)
	case request.ARP != nil:
		if request.ARP.Address == p.addr {
			return probe.Reply{Failure: "nobody answers"}
		}
		return probe.Reply{ARP: &probe.ARPResult{MAC: p.mac, FrameMAC: p.mac}}
	case request.DNS != nil:
		return probe.Reply{DNS: &probe.DNSResult{RCode: "NOERROR", Addresses: p.w.resolve(request.DNS.Name)}}
	case request.Send != nil:
		p.send(request.Send)
		return probe.Reply{Send: &probe.SendResult{Sent: 1}}
	case request.BPFMap != nil:
		return p.readMap(request.BPFMap)
	case request.Exec != nil:
		return probe.Reply{Exec: &probe.ExecResult{Stdout: p.run(request.Exec.Argv)}}
	}
	return probe.Reply{Error: "the model knows no such probe"}
}

func orFailure(why string, reply probe.Reply) probe.Reply {
	if why != "" {
		return probe.Reply{Failure: why}
	}
	return reply
}

func (p *place) answerHTTP(spec *probe.HTTP) probe.Reply {
	to, err := netip.ParseAddrPort(strings.Trim(strings.TrimPrefix(spec.URL, "http://"), "/"))
	if err != nil {
		return probe.Reply{Error: err.Error()}
	}
	if reply, ok := p.w.health(to); ok {
		return reply
	}
	if _, lost := p.ask("tcp", to); lost != "" {
		return probe.Reply{Failure: lost}
	}
	result := &probe.HTTPResult{AnsweredBy: map[string]int{}}
	for range max(spec.Count, 1) {
		id, why := p.serve(to, false)
		if why != "" {
			return probe.Reply{Failure: why, HTTP: result}
		}
		result.Identity = id
		result.AnsweredBy[id.Pod]++
		result.OK++
	}
	return probe.Reply{HTTP: result}
}

// serve finds who answers at an address and which client it sees, or says why
// nobody does.
func (p *place) serve(to netip.AddrPort, udp bool) (*probe.Identity, string) {
	backend, client := p.w.at(to.Addr()), p.addr
	service, entry := p.w.serviceAt(to, udp)
	only := p.w.places[p.w.env.One.Backends[0].Name]
	switch {
	case service != nil:
		var why string
		if backend, why = p.w.pick(p, *service, entry); why != "" {
			return nil, why
		}
		client = p.seenThrough(*service, entry, backend)
		if udp && p == backend && client == p.addr && p.w.env.KubeProxyReplacement() {
			client = hairpinClient(p.w.env)
		}
	case to.Port() == field.HostPort && backend != nil && backend.node == only.node:
		backend = only
		if p == only && !p.w.env.KubeProxyReplacement() {
			client = p.translated(only)
		} else if p == only && udp {
			client = hairpinClient(p.w.env)
		}
	case p.isPod() && backend == p.w.places["outside host"] && to.Addr() == backend.addr:
		client = p.node.Addr
	}
	if backend == nil {
		return nil, "nobody answers"
	}
	id := &probe.Identity{Pod: backend.self, Client: netip.AddrPortFrom(client, 50000)}
	if backend.node != nil {
		id.Node = backend.node.Node
	}
	return id, ""
}

// serviceAt is the Service at an address, and the node whose nodePort it is.
func (w *world) serviceAt(to netip.AddrPort, udp bool) (*field.Service, *place) {
	for _, s := range w.services() {
		nodePort := s.NodePortTCP
		if udp && s.NodePortUDP != 0 {
			nodePort = s.NodePortUDP
		}
		entry := w.at(to.Addr())
		switch {
		case to == s.At():
			return &s, nil
		case entry != nil && entry.isNode && to.Port() == nodePort:
			return &s, entry
		}
	}
	return nil, nil
}

// pick chooses a backend for p, or says how it is refused.
func (w *world) pick(p *place, s field.Service, entry *place) (*place, string) {
	if len(s.Backends) == 0 {
		return nil, "dial: connect: connection refused"
	}
	w.picks++
	if s.Name == field.StickyService {
		return w.places[s.Backends[int(p.addr.As4()[3])%len(s.Backends)].Name], ""
	}
	backend := w.places[s.Backends[w.picks%len(s.Backends)].Name]
	near := entry
	if near == nil {
		near = p
	}
	if s.Name == field.LocalService && backend.node != near.node {
		return nil, "no answer within 700ms"
	}
	return backend, ""
}

// seenThrough is the client address that a backend sees of p through a Service:
// its ClusterIP where entry is nil, otherwise the nodePort of entry.
func (p *place) seenThrough(s field.Service, entry, backend *place) netip.Addr {
	if p.w.env.KubeProxyReplacement() {
		if entry == nil || entry.node == p.node || entry.node == backend.node {
			return p.addr
		}
		return entry.addr
	}
	switch {
	case s.Name == field.LocalService && entry != nil:
		return p.addr
	case entry != nil:
		return entry.translated(backend)
	case p.isNode || p == backend:
		return p.translated(backend)
	default:
		return p.addr
	}
}

// translated is the address p's node gives a packet that goes to backend.
func (p *place) translated(backend *place) netip.Addr {
	if backend.node == p.node || p.w.env.Tunnel != nil {
		return p.router()
	}
	return p.node.Addr
}

func (w *world) resolve(name string) []netip.Addr {
	for _, s := range w.services() {
		if name == serviceName(s) {
			return []netip.Addr{s.Addr}
		}
	}
	var all []netip.Addr
	for _, b := range w.env.Every.Backends {
		all = append(all, b.Addr)
	}
	return all
}
