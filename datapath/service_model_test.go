package datapath

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	stdmaps "maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/progtest"
	"wirelab.dev/wirelab/internal/settings"
)

// The model: a node with two pods, another node with two, three Services and clients inside and outside.
// Whatever happens, in whatever order, a flow keeps its backend, no two flows are mixed up, and every
// answer comes back from exactly the address that was asked. The programs run on the real maps, filled
// by the real reconciler.

const (
	actNext     = 0xffffffff
	actShot     = 2
	actRedirect = 7

	ethernetHeader = 14

	finFlag, synFlag, rstFlag, ackFlag = 1, 2, 4, 16
)

// end is an address and port.
type end = netip.AddrPort

// model is what a person would expect.
type model struct {
	t  testing.TB
	d  *Datapath
	ns *netnstest.Host

	services []lb.Service
	local    []netip.Addr // the node's pods
	outside  []netip.Addr
	flows    map[flowName]*modelFlow
	sent     int
	refused  int
	most     int // flows at a time

	tunnel       *progtest.Recorder // nil: there is none
	tunnelDevice int
}

type flowName struct {
	proto       layers.IPProtocol
	client, dst end
}

// modelFlow is a flow that was opened and is not over.
type modelFlow struct {
	flowName
	service int // of model.services
	// newSrc and backend are what its packets are translated to.
	newSrc, backend end
	// orphan says that its backend was removed, if only for a moment: what may, opens anew.
	orphan bool
	// moved says that the Service's backends are not those any more that it was chosen from.
	moved bool
}

func (n flowName) String() string { return fmt.Sprintf("%s %s -> %s", n.proto, n.client, n.dst) }

// legacy leaves routing to the stack, inBPF does not.
func legacy(c *Config) { c.BPF.HostLegacyRouting = true }

func inBPF(c *Config) { c.EnableIPv4Masquerade, c.BPF.Masquerade = true, true }

// tunneled reaches the other node's pods by a tunnel.
func tunneled(with func(*Config)) func(*Config) {
	return func(c *Config) {
		with(c)
		c.RoutingMode, c.AutoDirectNodeRoutes = settings.RoutingTunnel, false
	}
}

func newModel(t testing.TB) *model { return newModelWith(t, legacy) }

func newModelWith(t testing.TB, with func(*Config)) *model {
	network := netnstest.NewNetwork(t)
	host := network.AddHost("node")
	m := &model{
		t: t, ns: host,
		local:   []netip.Addr{netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("10.244.0.3")},
		outside: []netip.Addr{netip.MustParseAddr("192.0.2.50"), netip.MustParseAddr("192.0.2.51"), netip.MustParseAddr("10.244.1.2")},
		flows:   map[flowName]*modelFlow{},
	}
	cfg := Config{
		NodeName: "a", NodeIP: host.Addr, PodCIDR: netip.MustParsePrefix("10.244.0.0/24"),
		Network: settings.Network{RoutingMode: settings.RoutingNative, KubeProxyReplacement: true, IPv4NativeRoutingCIDR: netip.MustParsePrefix("10.0.0.0/8"), AutoDirectNodeRoutes: true},
		BPFFS:   host.BPFFS, CgroupRoot: netnstest.NewCgroup(t).Path,
	}
	cfg.recoveries = 1 << 30 // no model knows how fast it is
	with(&cfg)
	host.Do(func() {
		var err error
		m.d, err = Open(context.Background(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
		m.must(err)
		_, err = m.d.Routes().Apply(context.Background(), []Node{{Name: "b", IP: netip.MustParseAddr("192.0.2.2"), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}})
		m.must(err)
		m.must(m.d.IPCache().Apply(context.Background(), m.whoHas()))
	})
	t.Cleanup(func() { m.must(m.d.Close()) })
	if m.d.cfg.tunnelDevice() != "" {
		m.record()
	}
	for i, addr := range m.local {
		m.must(m.d.maps.enter(addr, bpf.Endpoint{Ifindex: uint32(m.ifindex(addr)), Id: uint32(i + 2), Veth: uint32(i), Identity: m.whoIs(addr)}, ebpf.UpdateAny))
	}
	for i := range 3 {
		m.services = append(m.services, m.service(i))
	}
	m.apply()
	return m
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// ifindex is a device's that stands for the pod's veth.
func (m *model) ifindex(pod netip.Addr) int {
	name := []string{hostDevice, netDevice}[slices.Index(m.local, pod)]
	l, err := m.ns.Netlink().LinkByName(name)
	m.must(err)
	return l.Attrs().Index
}

// service i is TCP and UDP by turns, on a ClusterIP and a NodePort.
func (m *model) service(i int) lb.Service {
	return lb.Service{
		Namespace: "model", Name: fmt.Sprint("s", i), Proto: []string{"tcp", "udp", "tcp"}[i],
		Frontends: []lb.Frontend{
			{Kind: lb.ClusterIP, Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(i + 1)}), Port: 80},
			{Kind: lb.NodePort, Port: uint16(30000 + i)},
		},
		Backends: m.candidates(),
	}
}

// candidates are the same for all Services: their flows clash as often as they can.
func (m *model) candidates() []lb.Backend {
	b := func(addr, node string) lb.Backend {
		return lb.Backend{Addr: netip.MustParseAddrPort(addr), Node: node, Ready: true, Serving: true}
	}
	return []lb.Backend{b("10.244.0.2:8080", "a"), b("10.244.0.3:8080", "a"), b("10.244.1.2:8080", "b"), b("10.244.1.3:8080", "b")}
}

func (m *model) apply() {
	m.t.Helper()
	m.ns.Do(func() { m.must(m.d.Services().Apply(context.Background(), lb.State{Services: m.services})) })
}

// step does one thing, chosen by random.
func (m *model) step(random *rand.Rand) {
	switch n := random.IntN(100); {
	case n < 4:
		m.changeBackends(random)
	case n < 5:
		m.loseFlows()
	case n < 55:
		m.send(random)
	case n < 95:
		m.answer(random)
	default:
		m.sendDirectly(random)
	}
}

func (m *model) changeBackends(random *rand.Rand) {
	s := &m.services[random.IntN(len(m.services))]
	all := m.candidates()
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	s.Backends = all[:random.IntN(len(all)+1)]
	for _, f := range m.flows {
		f.moved = f.moved || &m.services[f.service] == s
		if !hasBackend(m.services[f.service], f.backend) {
			f.orphan = true
		}
	}
	m.apply()
}

// loseFlows evicts all entries. A flow finds its backend again where the backends are the same, and its
// port where no other flow has taken that meanwhile, so the next packet of each comes at once.
func (m *model) loseFlows() {
	m.t.Helper()
	m.d.EvictFlows(m.t, true, true)
	m.must(m.d.maps.newGeneration()) // as if a moment had passed: see TestKnownFlowsStayAlive
	before := m.flows
	m.flows = map[flowName]*modelFlow{}
	for _, name := range slices.SortedFunc(stdmaps.Keys(before), compareNames) {
		f := before[name]
		if f.moved {
			continue
		}
		m.deliver(f.service, name, ackFlag)
		if again := m.flows[name]; again != nil && again.backend != f.backend {
			m.t.Fatalf("%v went to %s, and after its entries were lost goes to %s", name, f.backend, again.backend)
		}
	}
}

// send lets a client send a packet to a Service: one of few, from one of few ports, so that flows meet.
func (m *model) send(random *rand.Rand) {
	i := random.IntN(len(m.services))
	s := m.services[i]
	inside := random.IntN(2) == 0
	var client netip.Addr
	var dst end
	if inside {
		client = m.local[random.IntN(len(m.local))]
		dst = netip.AddrPortFrom(s.Frontends[0].Addr, 80)
		if random.IntN(3) == 0 {
			dst = netip.AddrPortFrom(m.ns.Addr, s.Frontends[1].Port)
		}
	} else {
		client = m.outside[random.IntN(len(m.outside))]
		dst = netip.AddrPortFrom(m.ns.Addr, s.Frontends[1].Port)
	}
	name := flowName{protoOf(s), netip.AddrPortFrom(client, uint16(40000+random.IntN(4))), dst}
	flags := uint8(ackFlag)
	flow := m.flows[name]
	opens := flow == nil
	if random.IntN(12) == 0 { // a lost SYN comes again, or the port is used again
		opens = true
	}
	if opens {
		flags = synFlag
	}
	m.deliver(i, name, flags)
	// Rarely, it is reset: the next packet of the same tuple opens another flow.
	if m.flows[name] != nil && random.IntN(25) == 0 && name.proto == layers.IPProtocolTCP {
		m.deliver(i, name, rstFlag)
		delete(m.flows, name)
	}
}

func protoOf(s lb.Service) layers.IPProtocol {
	if s.Proto == "udp" {
		return layers.IPProtocolUDP
	}
	return layers.IPProtocolTCP
}

// deliver runs one packet from a client and compares what becomes of it with what is known of its flow.
func (m *model) deliver(service int, name flowName, flags uint8) {
	m.t.Helper()
	m.sent++
	s := m.services[service]
	known, uncertain := m.flows[name], false
	if known != nil && known.orphan && (name.proto == layers.IPProtocolUDP || flags&synFlag != 0) {
		known, uncertain = nil, true // its backend may have come back in time
		delete(m.flows, name)
	}
	verdict, out := m.run(name.client, packet(name.proto, name.client, name.dst, flags))
	if known == nil && len(s.Backends) == 0 {
		m.refused++
		m.checkRefusal(name, flags, verdict, out)
		if verdict == actRedirect {
			m.checkWay(name, name.client.Addr(), remoteNodeIdentity)
		}
		return
	}
	got := m.parse(out)
	m.checkWay(name, got.dst.Addr(), m.whoIs(name.client.Addr()))
	if verdict != actNext && verdict != actRedirect {
		m.t.Fatalf("packet %d, %v: verdict %d", m.sent, name, int32(verdict))
	}
	if known != nil {
		if got.src != known.newSrc || got.dst != known.backend {
			m.t.Fatalf("packet %d of %v went %v -> %v, its flow goes %v -> %v", m.sent, name, got.src, got.dst, known.newSrc, known.backend)
		}
		return
	}
	if !hasBackend(s, got.dst) {
		m.t.Fatalf("packet %d, %v: %v is not a backend of %s", m.sent, name, got.dst, s)
	}
	for _, other := range m.flows {
		if other.proto == name.proto && other.newSrc == got.src && other.backend == got.dst {
			m.t.Fatalf("packet %d, %v: it looks like a packet of %v", m.sent, name, other.flowName)
		}
	}
	m.checkSource(name, got)
	m.flows[name] = &modelFlow{flowName: name, service: service, newSrc: got.src, backend: got.dst, moved: uncertain}
	m.most = max(m.most, len(m.flows))
}

// checkSource holds the client's address as a backend sees it against the documentation.
func (m *model) checkSource(name flowName, got ends) {
	m.t.Helper()
	want := name.client.Addr()
	inside := slices.Contains(m.local, want)
	switch {
	case inside && got.dst.Addr() == want:
		want = netip.MustParseAddr("169.254.87.1")
	case !inside && !slices.Contains(m.local, got.dst.Addr()):
		want = m.ns.Addr
		if got.src.Port() < natMin {
			m.t.Fatalf("%v: port %d is not one of those reserved", name, got.src.Port())
		}
	}
	if got.src.Addr() != want {
		m.t.Fatalf("%v: the backend %v sees %v, want %v", name, got.dst, got.src.Addr(), want)
	}
}

// answer lets the backend of any flow answer.
func (m *model) answer(random *rand.Rand) {
	if len(m.flows) == 0 {
		return
	}
	names := slices.SortedFunc(stdmaps.Keys(m.flows), compareNames)
	m.checkAnswer(m.flows[names[random.IntN(len(names))]])
}

func (m *model) checkAnswer(f *modelFlow) {
	m.t.Helper()
	frame := packet(f.proto, f.backend, f.newSrc, ackFlag)
	var out []byte
	m.comeFrom(f.backend.Addr())
	for _, prog := range m.wayBack(f) {
		var verdict uint32
		verdict, out = m.runOn(prog.prog, prog.ifindex, frame)
		if verdict == actShot {
			m.t.Fatalf("the answer of %v to %v was dropped", f.backend, f.flowName)
		}
	}
	if got := m.parse(out); got.src != f.dst || got.dst != f.client {
		m.t.Fatalf("the answer in %v came as %v -> %v", f.flowName, got.src, got.dst)
	}
	m.checkWay(f.flowName, f.client.Addr(), m.whoIs(f.backend.Addr()))
}

func compareNames(a, b flowName) int {
	if c := a.client.Compare(b.client); c != 0 {
		return c
	}
	if c := a.dst.Compare(b.dst); c != 0 {
		return c
	}
	return int(a.proto) - int(b.proto)
}

type stage struct {
	prog    *ebpf.Program
	ifindex int
}

// wayBack is where an answer is translated: between local pods at the backend's veth, to a local pod from
// another node at lab_host, to the outside at the NIC. Where BPF routes, there is no lab_host in the way,
// and what leaves has been translated at the veth. A tunnel is entered at the veth, too, and left at its device.
func (m *model) wayBack(f *modelFlow) []stage {
	routed := m.d.cfg.Mode() == settings.ModeEBPF
	localBackend, localClient := slices.Contains(m.local, f.backend.Addr()), slices.Contains(m.local, f.client.Addr())
	switch {
	case localBackend && (localClient || m.isFar(f.client.Addr())):
		return []stage{{m.d.progs.fromPod, m.ifindex(f.backend.Addr())}}
	case m.isFar(f.backend.Addr()):
		return []stage{m.tunnelEnd()}
	case localClient && routed:
		return []stage{{m.d.progs.services.fromNetwork, m.nic()}}
	case localClient:
		return []stage{{m.d.progs.toPod, m.ifindex(m.local[0])}}
	case localBackend && routed:
		return []stage{{m.d.progs.fromPod, m.ifindex(f.backend.Addr())}}
	case localBackend:
		return []stage{{m.d.progs.services.toNetwork, m.nic()}}
	}
	return []stage{{m.d.progs.services.fromNetwork, m.nic()}}
}

// sendDirectly lets a pod open a flow to a backend around all Services, from a port from which it may
// speak to the same one through a Service.
func (m *model) sendDirectly(random *rand.Rand) {
	client := m.local[random.IntN(len(m.local))]
	proto := []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP}[random.IntN(2)]
	name := flowName{proto, netip.AddrPortFrom(client, uint16(40000+random.IntN(4))), m.candidates()[random.IntN(4)].Addr}
	if name.dst.Addr() == client {
		return
	}
	_, out := m.run(name.client, packet(proto, name.client, name.dst, synFlag))
	m.checkWay(name, name.dst.Addr(), m.whoIs(client))
	got := m.parse(out)
	if got.dst != name.dst || got.src.Addr() != client {
		m.t.Fatalf("around the Services: %v became %v -> %v", name, got.src, got.dst)
	}
	for _, other := range m.flows {
		if other.proto == proto && other.newSrc == got.src && other.backend == got.dst {
			m.t.Fatalf("around the Services: %v looks like a packet of %v", name, other.flowName)
		}
	}
	m.checkAnswer(&modelFlow{flowName: name, newSrc: got.src, backend: got.dst})
}

func hasBackend(s lb.Service, b end) bool {
	return slices.ContainsFunc(s.Backends, func(x lb.Backend) bool { return x.Addr == b })
}

func (m *model) nic() int {
	l, err := m.ns.Netlink().LinkByName(netnstest.NIC)
	m.must(err)
	return l.Attrs().Index
}

// modelSettings are what a model may have. With a tunnel it takes twice as long.
var modelSettings = []struct {
	name  string
	with  func(*Config)
	seeds uint64
}{
	{"legacy routing", legacy, 2},
	{"BPF routing", inBPF, 2},
	{"legacy routing, tunnel", tunneled(legacy), 1},
	{"BPF routing, tunnel", tunneled(inBPF), 1},
}

func TestModel(t *testing.T) {
	for _, s := range modelSettings {
		for seed := range s.seeds {
			t.Run(fmt.Sprint(s.name, ", seed ", seed), func(t *testing.T) {
				m := newModelWith(t, s.with)
				random := rand.New(rand.NewPCG(seed, 0))
				for range 3000 {
					m.step(random)
				}
				if m.sent < 1000 || m.refused == 0 || m.most < 20 {
					t.Errorf("too little happened: %d packets, %d refused, %d flows", m.sent, m.refused, m.most)
				}
			})
		}
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		m := newModelWith(t, modelSettings[a%uint64(len(modelSettings))].with)
		random := rand.New(rand.NewPCG(a, b))
		for range 1000 {
			m.step(random)
		}
	})
}
