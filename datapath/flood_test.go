package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
)

// million is how many packets a flood has.
const million = 1_000_000

// flood gives a program so many packets, each from another client: the addresses of 10.192.0.0/10 or, for a
// pod's, ports and destinations outside. answer, if not nil, is run with each packet that came out.
func (m *model) flood(at stage, frame []byte, packets int, fromPod bool, answer func(out []byte)) {
	m.t.Helper()
	opts := m.testRun(at.ifindex, frame)
	if answer != nil {
		opts.DataOut = make([]byte, len(frame)+256)
	}
	ip := opts.Data[ethernetHeader:]
	m.ns.Do(func() {
		for i := range packets {
			if fromPod {
				binary.BigEndian.PutUint32(ip[16:], 203<<24|113<<8|uint32(i>>14)) // 203.0.113.0 and on
				binary.BigEndian.PutUint16(ip[20:], uint16(40000+i&0x3fff))
			} else {
				binary.BigEndian.PutUint32(ip[12:], 198<<24|18<<16|uint32(i>>3))
				binary.BigEndian.PutUint16(ip[20:], uint16(20000+i&7))
			}
			if _, err := at.prog.Run(opts); err != nil {
				m.t.Fatal(err)
			}
			if answer != nil {
				answer(opts.DataOut)
			}
		}
	})
}

// lasting are flows of every kind that have been answered and went on, with what becomes of their packets.
func (m *model) lasting(t *testing.T) (check func(after string)) {
	nic := stage{m.d.progs.services.fromNetwork, m.nic()}
	type conversation struct {
		name string
		at   stage
		// from the opener, and the answers to what came out
		send   func(flags uint8) []byte
		answer func(sent ends) (stage, []byte)
		seen   string
	}
	var all []*conversation
	for i := range uint16(200) {
		for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
			client, pod := netip.AddrPortFrom(m.outside[0], 50000+i), netip.AddrPortFrom(m.local[0], 50000+i)
			nodePort := netip.AddrPortFrom(m.ns.Addr, map[layers.IPProtocol]uint16{layers.IPProtocolTCP: 30000, layers.IPProtocolUDP: 30001}[proto])
			all = append(all,
				&conversation{
					name: fmt.Sprint("to a Service, ", proto, i), at: nic,
					send: func(flags uint8) []byte { return packet(proto, client, nodePort, flags) },
					answer: func(sent ends) (stage, []byte) {
						frame := packet(proto, sent.dst, sent.src, synFlag|ackFlag)
						if slices.Contains(m.local, sent.dst.Addr()) {
							return stage{m.d.progs.fromPod, m.ifindex(sent.dst.Addr())}, frame
						}
						return nic, frame
					},
				},
				&conversation{
					name: fmt.Sprint("masqueraded, ", proto, i), at: m.out(),
					send:   func(flags uint8) []byte { return packet(proto, pod, far, flags) },
					answer: func(sent ends) (stage, []byte) { return nic, packet(proto, far, sent.src, synFlag|ackFlag) },
				})
		}
	}
	for _, c := range all {
		_, out := m.runOn(c.at.prog, c.at.ifindex, c.send(synFlag))
		sent := m.parse(out)
		at, answer := c.answer(sent)
		m.runOn(at.prog, at.ifindex, answer)
		c.seen = fmt.Sprint(sent.src, sent.dst)
	}
	goOn := func(after string) {
		t.Helper()
		m.must(m.d.maps.newGeneration()) // a moment later: datagrams in between are not decided about
		for _, c := range all {
			_, out := m.runOn(c.at.prog, c.at.ifindex, c.send(ackFlag))
			if sent := m.parse(out); fmt.Sprint(sent.src, sent.dst) != c.seen {
				t.Errorf("after %s %s goes %s to %s, and went %s", after, c.name, sent.src, sent.dst, c.seen)
			}
		}
		m.must(m.d.maps.newGeneration())
	}
	goOn("its answer") // from now on all are idle
	entries := func() (n int) {
		for _, table := range []*ebpf.Map{m.d.maps.services.ct, m.d.maps.services.nat} {
			for _, e := range entriesOf(m.t, table) {
				if e.Flow.Lasting != 0 {
					n++
				}
			}
		}
		return n
	}
	before := entries()
	if before != 2*len(all) {
		t.Fatalf("of %d flows there are %d entries that last", len(all), before)
	}
	return func(after string) {
		t.Helper()
		if left := entries(); left != before {
			t.Errorf("after %s there are %d entries of flows that live, of %d", after, left, before)
		}
		goOn(after) // the floods together may take longer than a UDP flow lasts
	}
}

// A million packets that open flows, or look as if they were in the middle of one, from as many clients: flows
// that live go on though nothing is heard of them, and others can be opened.
func TestFloods(t *testing.T) {
	m := newModelWith(t, func(c *Config) {
		inBPF(c)
		c.recoveries = 0 // as on a node
	})
	m.ns.Run("ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.254")
	nic := stage{m.d.progs.services.fromNetwork, m.nic()}
	attacker := netip.MustParseAddrPort("198.18.0.1:20000")
	nodePort, udpPort := netip.AddrPortFrom(m.ns.Addr, 30000), netip.AddrPortFrom(m.ns.Addr, 30001)
	check := m.lasting(t)
	check("nothing")
	flows := func() int { return len(entriesOf(m.t, m.d.maps.services.ct)) }

	before, began := flows(), time.Now()
	m.flood(nic, packet(layers.IPProtocolTCP, attacker, nodePort, ackFlag), million, false, nil)
	took := time.Since(began)
	t.Logf("a million ACKs in %s: %d flows, were %d", took, flows(), before)
	cpus, err := ebpf.PossibleCPU()
	m.must(err)
	if most := before + recoveries*cpus*(int(took.Seconds())+2); flows() > most {
		t.Errorf("of segments of no connection there are %d flows more, not %d at most", flows()-before, most-before)
	}
	check("a million ACKs")
	if dropped := m.counters(bpf.PodLabDirectionDIR_FROM_NETWORK)[bpf.PodLabReasonREASON_NO_FLOW]; dropped < million/2 {
		t.Errorf("%d of them were dropped for having no flow", dropped)
	}

	pod := packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.local[1], 40000), far, synFlag)
	for _, f := range []struct {
		name    string
		at      stage
		frame   []byte
		packets int
		fromPod bool
		answer  func(out []byte)
	}{
		{"a million SYNs", nic, packet(layers.IPProtocolTCP, attacker, nodePort, synFlag), million, false, nil},
		{"SYNs that are answered", nic, packet(layers.IPProtocolTCP, attacker, nodePort, synFlag), million / 4, false, m.answerer(synFlag | ackFlag)},
		{"SYNs that are reset", nic, packet(layers.IPProtocolTCP, attacker, nodePort, synFlag), million / 4, false, m.answerer(rstFlag | ackFlag)},
		{"datagrams", nic, packet(layers.IPProtocolUDP, attacker, udpPort, 0), million / 4, false, nil},
		{"datagrams that are answered", nic, packet(layers.IPProtocolUDP, attacker, udpPort, 0), million / 4, false, m.answerer(0)},
		{"SYNs to a pod", nic, packet(layers.IPProtocolTCP, attacker, netip.AddrPortFrom(m.local[0], 80), synFlag), million / 4, false, nil},
		{"SYNs of a pod", m.out(), pod, million / 4, true, nil},
		{"a pod's segments of no connection", m.out(), packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.local[1], 40000), far, ackFlag), million / 4, true, nil},
	} {
		m.flood(f.at, f.frame, f.packets, f.fromPod, f.answer)
		t.Logf("%s: %d flows", f.name, flows())
		check(f.name)
		fresh := packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.outside[1], uint16(1024+len(f.name))), nodePort, synFlag)
		if _, out := m.runOn(nic.prog, nic.ifindex, fresh); !hasBackend(m.services[0], m.parse(out).dst) {
			t.Errorf("after %s no flow can be opened", f.name)
		}
	}
}

// answerer answers packets that have been translated as their backends would.
func (m *model) answerer(flags uint8) func([]byte) {
	m.t.Helper()
	nic := stage{m.d.progs.services.fromNetwork, m.nic()}
	frames := map[layers.IPProtocol]*ebpf.RunOptions{}
	indexes := map[netip.Addr]int{}
	for _, pod := range m.local {
		indexes[pod] = m.ifindex(pod)
	}
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		frames[proto] = m.testRun(nic.ifindex, packet(proto, far, far, flags))
	}
	return func(out []byte) {
		in := out[ethernetHeader:]
		opts := frames[layers.IPProtocol(in[9])]
		ip := opts.Data[ethernetHeader:]
		copy(ip[12:16], in[16:20])
		copy(ip[16:20], in[12:16])
		copy(ip[20:22], in[22:24])
		copy(ip[22:24], in[20:22])
		prog, index := nic.prog, nic.ifindex
		if i, ok := indexes[netip.AddrFrom4([4]byte(in[16:20]))]; ok {
			prog, index = m.d.progs.fromPod, i
		}
		binary.NativeEndian.PutUint32(opts.Context.([]byte)[40:], uint32(index))
		if _, err := prog.Run(opts); err != nil {
			m.t.Fatal(err)
		}
	}
}
