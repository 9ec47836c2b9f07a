package datapath

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// edit changes fields of a packet's IPv4 header and mends its checksum.
func edit(t testing.TB, frame []byte, change func(*layers.IPv4)) []byte {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	change(ip)
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if err := gopacket.SerializeLayers(buf, opts, eth, ip, gopacket.Payload(ip.Payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// one is a model with one Service that has the backends.
func one(t *testing.T, backends ...lb.Backend) *model {
	t.Helper()
	m := newModel(t)
	m.services = m.services[:1]
	m.services[0].Backends = backends
	m.apply()
	return m
}

func remote() lb.Backend {
	return lb.Backend{Addr: netip.MustParseAddrPort("10.244.1.2:8080"), Node: "b", Ready: true}
}

func here() lb.Backend {
	return lb.Backend{Addr: netip.MustParseAddrPort("10.244.0.2:8080"), Node: "a", Ready: true}
}

// What the NIC's program does with packets that are not the model's: it lets pass what is not for a
// Service, and counts what it takes or drops.
func TestPacketsAtTheNIC(t *testing.T) {
	m := one(t, remote())
	client, nodePort := netip.MustParseAddrPort("192.0.2.50:40000"), netip.AddrPortFrom(m.ns.Addr, 30000)
	toService := func() []byte { return packet(layers.IPProtocolTCP, client, nodePort, synFlag) }
	const pass = bpf.PodLabReasonREASON_NONE
	for name, test := range map[string]struct {
		frame   []byte
		verdict uint32
		reason  bpf.Reason // counted once; pass: none is
	}{
		"to the Service":       {toService(), actRedirect, bpf.PodLabReasonREASON_FORWARDED},
		"the last hop":         {edit(t, toService(), func(ip *layers.IPv4) { ip.TTL = 1 }), actRedirect, bpf.PodLabReasonREASON_TTL}, // which its sender is told
		"another port":         {packet(layers.IPProtocolTCP, client, netip.AddrPortFrom(m.ns.Addr, 22), synFlag), actNext, pass},
		"another protocol":     {packet(layers.IPProtocolUDP, client, nodePort, 0), actNext, pass},
		"another address":      {packet(layers.IPProtocolTCP, client, netip.MustParseAddrPort("192.0.2.77:30000"), synFlag), actNext, pass},
		"a pod":                {packet(layers.IPProtocolTCP, client, netip.MustParseAddrPort("10.244.0.2:30000"), synFlag), actNext, pass},
		"a ClusterIP":          {packet(layers.IPProtocolTCP, client, netip.MustParseAddrPort("10.96.0.1:80"), synFlag), actNext, pass},
		"the node's loopback":  {packet(layers.IPProtocolTCP, client, netip.MustParseAddrPort("127.0.0.1:30000"), synFlag), actNext, pass},
		"a port of the range":  {packet(layers.IPProtocolTCP, client, netip.AddrPortFrom(m.ns.Addr, natMin), ackFlag), actShot, bpf.PodLabReasonREASON_NO_FLOW},
		"SCTP":                 {edit(t, toService(), func(ip *layers.IPv4) { ip.Protocol = layers.IPProtocolSCTP }), actNext, pass},
		"IP options":           {edit(t, toService(), func(ip *layers.IPv4) { ip.Options = []layers.IPv4Option{{OptionType: 1}} }), actNext, pass},
		"a fragment of others": {edit(t, toService(), func(ip *layers.IPv4) { ip.FragOffset = 3 }), actNext, pass},
	} {
		t.Run(name, func(t *testing.T) {
			before := m.counters(bpf.PodLabDirectionDIR_FROM_NETWORK)
			verdict, out := m.run(client, test.frame)
			if verdict != test.verdict {
				t.Errorf("verdict %d, want %d", int32(verdict), int32(test.verdict))
			}
			if test.reason == pass && string(out[ethernetHeader:]) != string(test.frame[ethernetHeader:]) {
				t.Error("the packet was changed")
			}
			for reason, n := range m.counters(bpf.PodLabDirectionDIR_FROM_NETWORK) {
				want := before[reason]
				if reason == test.reason {
					want++
				}
				if n != want {
					t.Errorf("%s counts %d, want %d", reasons[reason], n, want)
				}
			}
		})
	}
	t.Run("for another host", func(t *testing.T) {
		frame := toService()
		opts := m.testRun(m.nic(), frame)
		opts.Data[5]++ // of the destination's MAC
		m.ns.Do(func() {
			if verdict, err := m.d.progs.services.fromNetwork.Run(opts); err != nil || verdict != actNext {
				t.Errorf("verdict %d, %v", int32(verdict), err)
			}
		})
	})
}

func (m *model) counters(dir bpf.Direction) map[bpf.Reason]uint64 {
	m.t.Helper()
	perCPU, err := m.d.metrics()
	m.must(err)
	counters := map[bpf.Reason]uint64{}
	for reason := range reasons {
		counters[reason] = sum(perCPU, dir, reason).Packets
	}
	return counters
}

func TestNoRouteToABackend(t *testing.T) {
	nowhere := remote()
	nowhere.Addr = netip.MustParseAddrPort("10.99.99.99:8080")
	m := one(t, nowhere)
	m.ns.Run("ip", "route", "add", "blackhole", "10.99.0.0/16")
	verdict, _ := m.run(netip.MustParseAddrPort("192.0.2.50:40000"),
		packet(layers.IPProtocolTCP, netip.MustParseAddrPort("192.0.2.50:40000"), netip.AddrPortFrom(m.ns.Addr, 30000), synFlag))
	if n := m.counters(bpf.PodLabDirectionDIR_FROM_NETWORK)[bpf.PodLabReasonREASON_BLACKHOLE]; verdict != actShot || n != 1 {
		t.Errorf("verdict %d, %d counted", int32(verdict), n)
	}
}

// All ports towards a backend are taken by flows that live: the next one is dropped and counted. When
// they end, their ports are free again, without anybody collecting.
func TestPortsRunOut(t *testing.T) {
	m := one(t, remote())
	client := netip.MustParseAddrPort("192.0.2.50:40000")
	syn := packet(layers.IPProtocolTCP, client, netip.AddrPortFrom(m.ns.Addr, 30000), synFlag)
	fill := func(live bool) {
		for port := natMin; port <= natMax; port++ {
			key := bpf.Tuple{Src: bpf.IPOf(remote().Addr.Addr()), Dst: bpf.IPOf(m.ns.Addr), Sport: bpf.PortOf(8080), Dport: bpf.PortOf(uint16(port)), Proto: unix.IPPROTO_TCP, Direction: bpf.PodTupleDirectionTUPLE_BACK}
			other := bpf.FlowEntry{
				To:   bpf.Translation{Src: bpf.IPOf(m.ns.Addr), Dst: bpf.IPOf(netip.MustParseAddr("192.0.2.66")), Sport: bpf.PortOf(30000), Dport: bpf.PortOf(uint16(port))},
				Flow: bpf.Flow{Answered: 1, Seen: monotonicSeconds()},
			}
			if !live {
				other.Flow.Fin, other.Flow.FinBack = 1, 1
			}
			m.must(m.d.maps.services.nat.Put(key, other))
		}
	}
	fill(true)
	if verdict, _ := m.run(client, syn); verdict != actShot {
		t.Errorf("verdict %d although no port is free", int32(verdict))
	}
	if n := m.counters(bpf.PodLabDirectionDIR_FROM_NETWORK)[bpf.PodLabReasonREASON_NAT_PORTS]; n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
	fill(false)
	if verdict, _ := m.run(client, syn); verdict != actRedirect {
		t.Errorf("verdict %d although the ports' flows are over", int32(verdict))
	}
}

// The states of a TCP flow, and how long each lasts.
func TestFlowStates(t *testing.T) {
	m := one(t, here())
	client := netip.AddrPortFrom(m.local[1], 40000)
	service := netip.AddrPortFrom(m.services[0].Frontends[0].Addr, 80)
	send := func(flags uint8) { m.run(client, packet(layers.IPProtocolTCP, client, service, flags)) }
	back := func(flags uint8) {
		m.runOn(m.d.progs.fromPod, m.ifindex(m.local[0]), packet(layers.IPProtocolTCP, here().Addr, client, flags))
	}
	for _, step := range []struct {
		name    string
		do      func()
		state   string
		expires time.Duration
	}{
		{"SYN", func() { send(synFlag) }, "opening", 60 * time.Second},
		{"SYN, ACK", func() { back(synFlag | ackFlag) }, "answered", 60 * time.Second},
		{"SYN, ACK again", func() { back(synFlag | ackFlag) }, "answered", 60 * time.Second},
		{"ACK", func() { send(ackFlag) }, "answered", 6 * time.Hour},
		{"FIN", func() { send(finFlag | ackFlag) }, "answered", 6 * time.Hour},
		{"FIN back", func() { back(finFlag | ackFlag) }, "closing", 75 * time.Second},
		{"the same port again", func() { send(synFlag) }, "opening", 60 * time.Second},
		{"RST back", func() { back(rstFlag) }, "reset", 75 * time.Second},
	} {
		step.do()
		for name, list := range map[string]func() ([]api.Flow, error){
			"lab_ct":  func() ([]api.Flow, error) { return m.d.Services().Flows(t.Context()) },
			"lab_nat": func() ([]api.Flow, error) { return m.d.Services().Translations(t.Context()) },
		} {
			flows, err := list()
			m.must(err)
			if len(flows) != 1 {
				t.Fatalf("%s: %s has %+v", step.name, name, flows)
			}
			if f := flows[0]; f.State != step.state || f.Expires > step.expires || f.Expires < step.expires-2*time.Second {
				t.Errorf("%s: %s has %+v, want state %s for %s", step.name, name, f, step.state, step.expires)
			}
		}
	}
}

// Datagrams without a checksum stay so.
func TestDatagramsWithoutChecksum(t *testing.T) {
	m := newModel(t)
	client := netip.AddrPortFrom(m.local[1], 40000)
	m.services = []lb.Service{m.service(1)}
	m.services[0].Backends = []lb.Backend{here()}
	m.apply()
	frame := packet(layers.IPProtocolUDP, client, netip.AddrPortFrom(m.services[0].Frontends[0].Addr, 80), 0)
	const check = ethernetHeader + 20 + 6
	frame[check], frame[check+1] = 0, 0
	_, out := m.run(client, frame)
	if out[check] != 0 || out[check+1] != 0 {
		t.Errorf("a datagram without a checksum got %x", out[check:check+2])
	}
	if got := m.parse(out); got.dst != here().Addr {
		t.Errorf("it went to %s", got.dst)
	}
}
