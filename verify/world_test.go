package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/verify/probe"
)

// world is a small model of a lab whose network is as it should be. Its
// probers answer from the model; a test spoils one kind of answer and sees
// which checks notice.
type world struct {
	env   *Env
	mu    sync.Mutex
	picks int // backends chosen so far, in turn

	places   map[string]*place
	captures []*watch

	// spoil edits each final reply before it is handed out.
	spoil func(at *place, request probe.Request, reply *probe.Reply)
	// forward lets packets with a forged source through.
	forward bool
	// hop edits each packet seen by a watch.
	hop func(at string, p *probe.Packet)
}

// place is a host of the model.
type place struct {
	w      *world
	name   string // as Host.Name
	self   string // as Host.Self
	addr   netip.Addr
	node   *Node // nil outside
	isNode bool
	eth0   string // MAC of eth0
	veth   string // name of the host-side veth of a pod
	index  int    // of that veth on the node
	mac    string // of that veth
}

const (
	nicMAC = "02:00:00:00:00:%02x"
)

// newWorld models nodes called control-plane, worker and worker2.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{places: map[string]*place{}, env: &Env{
		Config: Config{
			Lab: "test", Mode: modeKubeProxy, NativeCIDR: netip.MustParsePrefix("10.0.0.0/8"),
			ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
			Demo:        &Demo{Namespace: "default", Service: "demo", Headless: "demo-headless", Port: 8080, NodePort: 32000},
		}.withDefaults(),
		Native: netip.MustParseAddr("10.255.255.254"),
		settle: func(context.Context) error { return nil },
	}}
	for i, name := range []string{"control-plane", "worker", "worker2"} {
		w.addNode(i, name)
	}
	w.env.Outside = Host{Name: "outside host", Addr: netip.MustParseAddr("172.18.0.99"), Port: outsidePort}
	w.env.Outside.Prober = w.place(w.env.Outside, nil)
	w.addServices()
	return w
}

func (w *world) addNode(i int, name string) {
	n := &Node{PodCIDR: netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i))}
	n.Host = Host{Name: nodePrefix + name, Self: name, Node: name, Addr: netip.MustParseAddr(fmt.Sprintf("172.18.0.%d", i+2)), Port: 40000}
	node := w.place(n.Host, n)
	node.isNode, n.Prober = true, node
	for j, role := range []string{roleClient, roleServer} {
		pod := Host{Name: podPrefix + role + "-" + name, Self: podName(role, name), Node: name, Port: podPort, Addr: netip.MustParseAddr(fmt.Sprintf("10.244.%d.%d", i, 10+j))}
		p := w.place(pod, n)
		p.index = 20 + j
		p.veth, p.mac, p.eth0 = fmt.Sprintf("lxc%08x", 16*i+j), fmt.Sprintf("0a:00:00:00:%02x:%02x", i, j), fmt.Sprintf("0e:00:00:00:%02x:%02x", i, j)
		pod.Prober = p
		if role == roleClient {
			n.Client = pod
		} else {
			n.Server = pod
		}
	}
	w.env.Nodes = append(w.env.Nodes, n)
}

func (w *world) place(h Host, n *Node) *place {
	p := &place{w: w, name: h.Name, self: h.Self, addr: h.Addr, node: n, eth0: fmt.Sprintf(nicMAC, h.Addr.As4()[3])}
	w.places[h.Name] = p
	return p
}

func (w *world) addServices() {
	var servers []Host
	for _, n := range w.env.Nodes {
		servers = append(servers, n.Server)
	}
	only := w.env.Nodes[len(w.env.Nodes)-1].Client
	w.env.Every = Service{Namespace, everyService, netip.MustParseAddr("10.96.0.100"), servicePort, 31000, 31001, servers}
	w.env.One = Service{Namespace, oneService, netip.MustParseAddr("10.96.0.101"), servicePort, 31002, 31003, []Host{only}}
	w.env.Headless = Service{Namespace: Namespace, Name: headlessService, Port: servicePort, Backends: servers}
	w.env.Kube = fake.NewClientset(demoObjects(w.env)...)
}

// demoServiceOf is the demo's Service; the run's servers stand in for its pods.
func (w *world) demo() Service {
	return Service{"default", "demo", netip.MustParseAddr("10.96.0.200"), 8080, 32000, 0, w.env.Every.Backends}
}

func (w *world) services() []Service { return []Service{w.env.Every, w.env.One, w.demo()} }

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
		id := p.serve(request.UDP.Address, true)
		return orFailure(id, probe.Reply{UDP: &probe.UDPResult{Sent: 1, Received: 1, Identity: id}})
	case request.TCP != nil:
		id := p.serve(request.TCP.Address, false)
		return orFailure(id, probe.Reply{TCP: &probe.TCPResult{Identity: id, Up: request.TCP.Bytes, Down: request.TCP.Bytes}})
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
	case request.Exec != nil:
		return probe.Reply{Exec: &probe.ExecResult{Stdout: p.run(request.Exec.Argv)}}
	}
	return probe.Reply{Error: "the model knows no such probe"}
}

func orFailure(id *probe.Identity, reply probe.Reply) probe.Reply {
	if id == nil {
		return probe.Reply{Failure: "nobody answers"}
	}
	return reply
}

func (p *place) answerHTTP(spec *probe.HTTP) probe.Reply {
	to, err := netip.ParseAddrPort(strings.Trim(strings.TrimPrefix(spec.URL, "http://"), "/"))
	if err != nil {
		return probe.Reply{Error: err.Error()}
	}
	result := &probe.HTTPResult{AnsweredBy: map[string]int{}}
	for range max(spec.Count, 1) {
		id := p.serve(to, false)
		if id == nil {
			return probe.Reply{Failure: "nobody answers", HTTP: result}
		}
		result.Identity = id
		result.AnsweredBy[id.Pod]++
		result.OK++
	}
	return probe.Reply{HTTP: result}
}

// serve finds who answers at an address and which client it sees.
func (p *place) serve(to netip.AddrPort, udp bool) *probe.Identity {
	backend, client := p.w.at(to.Addr()), p.addr
	viaService := false
	for _, s := range p.w.services() {
		nodePort := s.NodePortTCP
		if udp && s.NodePortUDP != 0 {
			nodePort = s.NodePortUDP
		}
		switch {
		case to == s.At():
			viaService = true
			backend = p.w.pick(s)
			if p.isNode || backend == p {
				client = p.translated(backend)
			}
		case backend != nil && backend.isNode && to.Port() == nodePort:
			viaService = true
			entry := backend
			backend = p.w.pick(s)
			client = entry.translated(backend)
		}
	}
	only := p.w.places[p.w.env.One.Backends[0].Name]
	switch {
	case viaService:
	case to.Port() == hostPort && backend != nil && backend.node == only.node:
		backend = only
		if p == only {
			client = p.translated(only)
		}
	case p.isPod() && backend == p.w.places["outside host"] && to.Addr() == backend.addr:
		client = p.node.Addr
	}
	if backend == nil {
		return nil
	}
	id := &probe.Identity{Pod: backend.self, Client: netip.AddrPortFrom(client, 50000)}
	if backend.node != nil {
		id.Node = backend.node.Node
	}
	return id
}

// translated is the address p's node gives a packet that goes to backend.
func (p *place) translated(backend *place) netip.Addr {
	if backend.node == p.node {
		return p.router()
	}
	return p.node.Addr
}

func (w *world) pick(s Service) *place {
	w.picks++
	return w.places[s.Backends[w.picks%len(s.Backends)].Name]
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

// demoObjects are the demo's Service and endpoints as the API server has them.
func demoObjects(env *Env) (objects []runtimeObject) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}}
	service.Spec.ClusterIP = "10.96.0.200"
	service.Spec.Ports = []corev1.ServicePort{{Port: 8080, NodePort: 32000, Protocol: corev1.ProtocolTCP}}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "demo-1", Labels: map[string]string{discoveryv1.LabelServiceName: "demo"},
	}}
	ready := true
	for _, n := range env.Nodes {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{n.Server.Addr.String()}, NodeName: &n.Node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef:  &corev1.ObjectReference{Name: n.Server.Self},
		})
	}
	return []runtimeObject{service, slice}
}
