package datapath

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
)

// known sends a packet of a flow from the model's first pod, so that what follows is remembered.
func known(t *testing.T, m *model, frame []byte, reason bpf.Reason) {
	t.Helper()
	m.check(t, bpf.PodLabDirectionDIR_FROM_POD, stage{m.d.progs.fromPod, m.ifindex(m.local[0])}, branch{
		frame: frame, verdict: actRedirect, reason: reason, outMark: map[bpf.Reason]uint32{bpf.PodLabReasonREASON_FORWARDED: done}[reason], hop: true,
	})
}

// mac returns the address of a pod's device that ends in last.
func mac(last byte) bpf.MAC { return bpf.MAC{B: [6]uint8{2, 0, 0, 0, 0, last}} }

// goesTo returns whom a frame is for after the program: for the device it came by, whose address is random, if it goes nowhere.
func (m *model) goesTo(at stage, frame []byte) bpf.MAC {
	m.t.Helper()
	_, out := m.runOn(at.prog, at.ifindex, frame)
	return bpf.MAC{B: [6]uint8(out)}
}

// What was decided about a flow is remembered, which shows by an entry that is changed behind the
// programs' back; and it counts for no packet after the datapath has changed an endpoint.
func TestDecisionsAreRemembered(t *testing.T) {
	m := router(t)
	at := stage{m.d.progs.fromPod, m.ifindex(m.local[0])}
	frame := packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.local[0], 40000), netip.AddrPortFrom(m.local[1], 80), ackFlag)
	entry := func(last byte) bpf.Endpoint {
		return bpf.Endpoint{Ifindex: uint32(m.ifindex(m.local[1])), Id: 3, Veth: 1, Mac: mac(last)}
	}
	goesTo := func() bpf.MAC { return m.goesTo(at, frame) }
	m.must(m.d.maps.enter(m.local[1], entry(1), ebpf.UpdateAny))
	if got := goesTo(); got != mac(1) {
		t.Fatalf("a packet goes to %v, want %v", got, mac(1))
	}
	// A decision holds for a part of a second: one of these three has another one that is younger.
	remembered := false
	for last := byte(2); last <= 4; last++ {
		goesTo()
		m.must(m.d.maps.endpoints.Put(bpf.IPOf(m.local[1]), entry(last)))
		remembered = remembered || goesTo() == mac(last-1)
	}
	if !remembered {
		t.Error("nothing is remembered")
	}
	m.must(m.d.maps.enter(m.local[1], entry(9), ebpf.UpdateAny))
	if got := goesTo(); got != mac(9) {
		t.Errorf("after the endpoint has changed a packet goes to %v, want %v", got, mac(9))
	}
	m.must(m.d.maps.remove(m.local[1], entry(9)))
	if got := goesTo(); got == mac(9) {
		t.Error("after the endpoint is gone packets go to it")
	}
}

// A change of one endpoint, or of the node's routes, has only those packets decided about anew whose decisions rest on it:
// the others follow what was decided before, although their endpoints' entries are others by now, behind the programs' back.
func TestDecisionsRestOnTheirOwn(t *testing.T) {
	m := router(t)
	sender, receiver, added := m.local[0], m.local[1], netip.MustParseAddr("10.244.0.9")
	at := stage{m.d.progs.fromPod, m.ifindex(sender)}
	entry := func(pod netip.Addr, last byte) bpf.Endpoint {
		return bpf.Endpoint{Ifindex: uint32(m.ifindex(pod)), Mac: mac(last)}
	}
	change := func(addr netip.Addr, e bpf.Endpoint) { m.must(m.d.maps.enter(addr, e, ebpf.UpdateAny)) }
	route := func(to string) {
		m.ns.Run("ip", "route", "add", to, "via", "192.0.2.254")
		m.ns.Run("ip", "route", "del", to)
	}
	for name, c := range map[string]struct {
		to      netip.AddrPort
		others  func() // what it does not rest on
		own     func() // what it rests on
		forget  func() // the entry that it was decided by
		restore func()
	}{
		"to a pod beside it": {
			to:      netip.AddrPortFrom(receiver, 80),
			others:  func() { change(added, entry(receiver, 3)); m.must(m.d.maps.removeAt(added)); route("198.51.100.0/24") },
			own:     func() { m.must(m.d.maps.remove(receiver, entry(receiver, 2))) },
			forget:  func() { m.must(m.d.maps.endpoints.Put(bpf.IPOf(receiver), entry(receiver, 2))) },
			restore: func() { change(receiver, entry(receiver, 1)) },
		},
		"to a pod elsewhere": {
			to: remotePod,
			others: func() {
				change(added, entry(receiver, 3))
				m.must(m.d.maps.removeAt(added))
				change(receiver, entry(receiver, 1))
			},
			own:     func() { m.must(m.d.maps.remove(sender, entry(sender, 1))) },
			forget:  func() { m.must(m.d.maps.endpoints.Delete(bpf.IPOf(sender))) },
			restore: func() { change(sender, entry(sender, 1)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			frame := packet(layers.IPProtocolTCP, netip.AddrPortFrom(sender, 40000), c.to, ackFlag)
			result := func() string {
				verdict, out := m.runOn(at.prog, at.ifindex, frame)
				return fmt.Sprintf("verdict %d to % x", int32(verdict), out[:6])
			}
			all, kept := m.generation(), false
			// A decision holds for a part of a second: one of these has all of its time.
			for range 5 {
				c.restore()
				result() // is decided about
				before := result()
				c.forget()
				c.others()
				after := result()
				kept = kept || after == before
				c.own()
				if got := result(); got == before {
					t.Fatalf("what the decision rests on has changed, and a packet still gets %s", got)
				}
			}
			if !kept {
				t.Error("what a decision does not rest on has changed, and each packet was decided about anew")
			}
			c.restore()
			if got := m.generation(); got != all {
				t.Errorf("all decisions were made anew %d times", got-all)
			}
		})
	}
}

// A packet to an address of the node's pods that no pod has is not known by the time a pod has it, although the node
// has a route there, and knows the MAC of the next hop.
func TestNewEndpointsGetTheirPackets(t *testing.T) {
	m := router(t)
	m.ns.Run("ip", "neigh", "replace", m.d.cfg.Router().String(), "lladdr", "02:00:00:00:00:01", "dev", hostDevice, "nud", "permanent")
	at, added := stage{m.d.progs.fromPod, m.ifindex(m.local[0])}, netip.MustParseAddr("10.244.0.9")
	frame := packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.local[0], 40000), netip.AddrPortFrom(added, 80), ackFlag)
	goesTo := func() bpf.MAC { return m.goesTo(at, frame) }
	for range 3 {
		goesTo()
		goesTo()
		m.must(m.d.maps.endpoints.Put(bpf.IPOf(added), bpf.Endpoint{Ifindex: uint32(m.ifindex(m.local[1])), Mac: mac(9)}))
		if got := goesTo(); got != mac(9) {
			t.Errorf("a packet goes to %v, want %v", got, mac(9))
		}
		m.must(m.d.maps.removeAt(added))
	}
}

// The node's routes, rules, devices and sysctls count from the next packet of a known flow on.
func TestRoutesDecideAboutKnownFlows(t *testing.T) {
	m := router(t)
	client := netip.AddrPortFrom(m.local[0], 40000)
	const sent = bpf.PodLabReasonREASON_FORWARDED
	for name, c := range map[string]struct {
		change, undo []string
		size         int
		reason       bpf.Reason
	}{
		"a route": {
			change: []string{"ip", "route", "add", "unreachable", remotePod.Addr().String()},
			undo:   []string{"ip", "route", "del", "unreachable", remotePod.Addr().String()},
			reason: bpf.PodLabReasonREASON_UNREACHABLE,
		},
		"a rule": {
			change: []string{"ip", "rule", "add", "from", client.Addr().String(), "prohibit"},
			undo:   []string{"ip", "rule", "del", "from", client.Addr().String(), "prohibit"},
			reason: bpf.PodLabReasonREASON_PROHIBITED,
		},
		"the MTU of a device": {
			change: []string{"ip", "link", "set", "eth0", "mtu", "1400"},
			undo:   []string{"ip", "link", "set", "eth0", "mtu", "1500"},
			size:   1401, reason: bpf.PodLabReasonREASON_TOO_BIG,
		},
		"the MTU of a route": {
			change: []string{"ip", "route", "add", remotePod.Addr().String(), "via", "192.0.2.2", "mtu", "lock", "1300"},
			undo:   []string{"ip", "route", "del", remotePod.Addr().String()},
			size:   1301, reason: bpf.PodLabReasonREASON_TOO_BIG,
		},
		"forwarding": {
			change: []string{"sysctl", "-qw", "net.ipv4.ip_forward=0"},
			undo:   []string{"sysctl", "-qw", "net.ipv4.ip_forward=1"},
			reason: bpf.PodLabReasonREASON_TO_KERNEL,
		},
	} {
		t.Run(name, func(t *testing.T) {
			frame := sized(t, client, remotePod, max(c.size, 100), layers.IPv4DontFragment)
			at := stage{m.d.progs.fromPod, m.ifindex(m.local[0])}
			for range 3 {
				known(t, m, frame, sent)
				m.ns.Run(c.change...)
				m.check(t, bpf.PodLabDirectionDIR_FROM_POD, at, branch{frame: frame, verdict: actNext, reason: c.reason})
				m.ns.Run(c.undo...)
			}
			known(t, m, frame, sent)
		})
	}
}

// The neighbour table's MACs are written on the short way, those that it has by now. What is decided about
// gets them from the table itself, later.
func TestNeighboursDecideAboutKnownFlows(t *testing.T) {
	m := router(t)
	at := stage{m.d.progs.fromPod, m.ifindex(m.local[0])}
	frame := packet(layers.IPProtocolTCP, netip.AddrPortFrom(m.local[0], 40000), remotePod, ackFlag)
	own := string(m.testRun(at.ifindex, frame).Data[:12])
	nic, err := m.ns.Netlink().LinkByName("eth0")
	m.must(err)
	macs := func() string {
		_, out := m.runOn(at.prog, at.ifindex, frame)
		return string(out[:12])
	}
	generation := m.generation
	await := func(what string, before uint32) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		for generation() == before {
			if ctx.Err() != nil {
				t.Fatalf("%s is not noticed", what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	before, done := generation(), make(chan error)
	go m.ns.Do(func() { done <- m.d.FollowNeighbours(ctx) })
	defer func() {
		stop()
		m.must(<-done)
	}()
	await("the start", before)
	for i := range byte(3) {
		mac := net.HardwareAddr{2, 0, 0, 0, 0, i}
		before = generation()
		m.ns.Run("ip", "neigh", "replace", otherNode.String(), "lladdr", mac.String(), "dev", "eth0", "nud", "permanent")
		await("the neighbour's MAC", before)
		if got := macs(); got != own {
			t.Errorf("a packet that has to be decided about goes to % x", got)
		}
		want, got := string(mac)+string(nic.Attrs().HardwareAddr), macs()
		for range 2 { // a decision holds for a moment only
			if got == own {
				got = macs()
			}
		}
		if got != want {
			t.Errorf("the next ones go to % x, want % x", got, want)
		}
	}
	before = generation()
	m.ns.Run("ip", "neigh", "del", otherNode.String(), "dev", "eth0")
	await("the neighbour's end", before)
	for range 3 {
		if got := macs(); got != own {
			t.Errorf("without a neighbour packets go to % x", got)
		}
	}
}

// A Service's datagrams find another backend as soon as theirs is none any more.
func TestServicesDecideAboutKnownFlows(t *testing.T) {
	m := router(t)
	m.services = m.services[1:2] // UDP
	client, service := netip.AddrPortFrom(m.local[1], 40000), netip.AddrPortFrom(m.services[0].Frontends[0].Addr, 80)
	frame := packet(layers.IPProtocolUDP, client, service, 0)
	backend := func() end {
		_, out := m.run(client, frame)
		return m.parse(out).dst
	}
	for _, only := range []lb.Backend{remote(), here(), remote()} {
		m.services[0].Backends = []lb.Backend{only}
		m.apply()
		for range 3 {
			if got := backend(); got != only.Addr {
				t.Errorf("a datagram goes to %s, want %s", got, only.Addr)
			}
		}
	}
}

// Packets of known flows keep these alive, and put back what was evicted, in a moment.
func TestKnownFlowsStayAlive(t *testing.T) {
	m := router(t)
	client, service := netip.AddrPortFrom(m.local[1], 40000), netip.AddrPortFrom(m.services[0].Frontends[0].Addr, 80)
	m.run(client, packet(layers.IPProtocolTCP, client, service, synFlag))
	seen := func() (latest uint32) {
		m.must(eachEntry(m.d.maps.services.ct, func(_ bpf.Tuple, e bpf.FlowEntry) { latest = max(latest, e.Flow.Seen) }))
		return latest
	}
	first := seen()
	await := func(what string, is func() bool) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		for !is() {
			if ctx.Err() != nil {
				t.Fatalf("%s while packets came", what)
			}
			m.run(client, packet(layers.IPProtocolTCP, client, service, ackFlag))
			time.Sleep(50 * time.Millisecond)
		}
	}
	await("the flow's end did not move", func() bool { return seen() >= first+3 })
	m.d.EvictFlows(t, true, true)
	await("the flow's entries were not put back", func() bool { return seen() > 0 })
}
