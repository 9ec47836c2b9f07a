package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/settings"
)

// injection is a packet that is not delivered.
type injection struct {
	at    stage
	dir   bpf.Direction
	frame []byte
	// before has what has to be seen before, on the same CPU.
	before func()
	// answered says that who sent it is told, passed that the stack gets it, which does.
	answered, passed bool
}

// Each packet that a program drops is counted once, by one reason and direction, with its bytes, and is one
// event; and so is, but as no drop, what the stack gets to answer. It is so for every reason there is.
func TestEveryDropIsCountedOnce(t *testing.T) {
	m := router(t)
	cases := m.injections()
	for reason, name := range dropReasons(t) {
		if len(cases[reason]) == 0 && !slices.Contains(ofTunnel, reason) {
			t.Errorf("no packet is dropped for %s: add one to injections()", name)
		}
		if reasons[reason] == "" {
			t.Errorf("%s has no name for people: add it to reasons", name)
		}
	}
	ring, err := ringbuf.NewReader(m.d.maps.events)
	m.must(err)
	defer ring.Close()
	m.must(m.d.announce(time.Hour))
	for reason, list := range cases {
		for what, inject := range list {
			t.Run(reasons[reason]+"/"+what, func(t *testing.T) {
				i := inject()
				onOneCPU(m, func() { m.checkInjection(t, ring, reason, i) })
			})
		}
	}
}

// ofTunnel are reasons that rest on what a tunnel's device says of a packet, which a test run has not got:
// TestTunnelTakesNoForgeries has each counted once.
var ofTunnel = []bpf.Reason{bpf.PodLabReasonREASON_NO_NODE, bpf.PodLabReasonREASON_FORGED_SOURCE}

func (m *model) checkInjection(t *testing.T, ring *ringbuf.Reader, reason bpf.Reason, i injection) {
	if i.before != nil {
		i.before()
	}
	eventsOf(t, ring)
	before := m.allCounters()
	verdict, out := m.runInside(i.at, i.frame)
	for key, now := range m.allCounters() {
		want := before[key]
		if key == (counter{i.dir, reason}) {
			want.Packets++
			want.Bytes += uint64(len(i.frame))
		}
		if now != want {
			t.Errorf("%s %s counts %+v, want %+v", reasons[key.reason], directions[key.dir], now, want)
		}
	}
	events := eventsOf(t, ring)
	if i.passed {
		if verdict != actNext || len(events) != 0 || isDrop(reason, i.dir) {
			t.Errorf("verdict %d, %d events; the stack is to get it, and it is no drop", int32(verdict), len(events))
		}
		return
	}
	if i.answered != (verdict == actRedirect) || !i.answered && verdict != actShot {
		t.Errorf("verdict %d; that its sender is told is to be %v", int32(verdict), i.answered)
	}
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	if i.answered {
		m.parse(out) // with right checksums
	}
	e := events[0]
	if e.Reason != reason || e.Direction != i.dir || int(e.Length) != len(i.frame) || string(e.SrcMac.B[:]) != string(i.frame[6:12]) {
		t.Errorf("the event is %+v", e)
	}
	if src := i.frame[ethernetHeader+12:]; binary.BigEndian.Uint16(i.frame[12:]) == unix.ETH_P_IP && reason != bpf.PodLabReasonREASON_MALFORMED && reason != bpf.PodLabReasonREASON_NO_WORK_AREA &&
		bpf.AddrOf(e.Src) != netip.AddrFrom4([4]byte(src)) {
		t.Errorf("the event is of a packet from %s", bpf.AddrOf(e.Src))
	}
	if reason == bpf.PodLabReasonREASON_REWRITE {
		return // as far as it was rewritten
	}
	// But for the destination's MAC, in whose place test runs put the device's.
	if want := i.frame[:min(len(i.frame), settings.Default().BPF.MonitorPayload)]; len(e.frame) != len(want) || !bytes.Equal(e.frame[6:], want[6:]) {
		t.Errorf("the event shows\n%x, want the packet as it came\n%x", e.frame, want)
	}
}

type counter struct {
	dir    bpf.Direction
	reason bpf.Reason
}

func (m *model) allCounters() map[counter]bpf.Metric {
	m.t.Helper()
	perCPU, err := m.d.metrics()
	m.must(err)
	all := map[counter]bpf.Metric{}
	for dir := range directions {
		for reason := range bpf.PodLabReasonREASON_MAX {
			all[counter{dir, reason}] = sum(perCPU, dir, reason)
		}
	}
	return all
}

// dropReasons are those of bpf/lib/drop.h, by number.
func dropReasons(t *testing.T) map[bpf.Reason]string {
	t.Helper()
	spec, err := bpf.LoadPod()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("lab_reason", &enum); err != nil {
		t.Fatal(err)
	}
	found := map[bpf.Reason]string{}
	for _, v := range enum.Values {
		reason := bpf.Reason(v.Value) //nolint:gosec // it is a byte
		if v.Name != "REASON_MAX" && isDrop(reason, bpf.PodLabDirectionDIR_TO_POD) {
			found[reason] = v.Name
		}
	}
	if len(found) < 17 {
		t.Fatalf("only %d reasons were found", len(found))
	}
	return found
}

// told is an event about a packet, with the frame's beginning.
type told struct {
	bpf.Event
	frame []byte
}

func eventsOf(t *testing.T, ring *ringbuf.Reader) (list []told) {
	t.Helper()
	ring.SetDeadline(time.Unix(1, 0))
	for {
		record, err := ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		var e told
		size, err := binary.Decode(record.RawSample, binary.NativeEndian, &e.Event)
		if err != nil {
			t.Fatal(err)
		}
		e.frame = record.RawSample[size:]
		list = append(list, e)
	}
}

// onOneCPU runs f where what one packet leaves behind for its CPU is found by the next.
func onOneCPU(m *model, f func()) { onCPU(m, cpus(m)[0], f) }

// cpus are those that this process may use.
func cpus(m *model) (list []int) {
	var set unix.CPUSet
	m.must(unix.SchedGetaffinity(0, &set))
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list
}

func onCPU(m *model, cpu int, f func()) {
	m.ns.Do(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var before, one unix.CPUSet
		m.must(unix.SchedGetaffinity(0, &before))
		one.Set(cpu)
		m.must(unix.SchedSetaffinity(0, &one))
		defer func() { m.must(unix.SchedSetaffinity(0, &before)) }()
		f()
	})
}

// runInside is runOn in the node's namespace, on the thread that it is called on.
func (m *model) runInside(at stage, frame []byte) (uint32, []byte) {
	m.t.Helper()
	opts := m.testRun(at.ifindex, frame)
	opts.DataOut = make([]byte, len(frame)+256)
	verdict, err := at.prog.Run(opts)
	m.must(err)
	return verdict, opts.DataOut
}

// injections are packets for each reason, made when their turn comes.
func (m *model) injections() map[bpf.Reason]map[string]func() injection {
	const fromPod, toPod, fromNetwork, leaving = bpf.PodLabDirectionDIR_FROM_POD, bpf.PodLabDirectionDIR_TO_POD, bpf.PodLabDirectionDIR_FROM_NETWORK, bpf.PodLabDirectionDIR_TO_NETWORK
	pod := netip.AddrPortFrom(m.local[0], 40000)
	client := netip.MustParseAddrPort("203.0.113.50:40000")
	progs := m.d.progs
	veth := stage{progs.fromPod, m.ifindex(m.local[0])}
	host := stage{progs.toPod, m.ifindex(m.local[0])}
	in, out := stage{progs.services.fromNetwork, m.nic()}, m.out()
	tcp := func(src, dst end) []byte { return packet(layers.IPProtocolTCP, src, dst, synFlag) }
	dead := func(addr string) end { return netip.AddrPortFrom(netip.MustParseAddr(addr), 8080) }
	for kind, addr := range map[string]string{"unreachable": "198.51.100.1", "prohibit": "198.51.100.2", "blackhole": "198.51.100.3"} {
		m.ns.Run("ip", "route", "add", kind, addr)
	}
	m.ns.Run("ip", "route", "add", "198.51.100.4", "via", "192.0.2.254", "mtu", "lock", "600")

	// Services, each with a NodePort from 31000 on.
	var services []lb.Service
	service := func(change func(*lb.Service), backends ...end) end {
		i := len(services)
		s := lb.Service{Namespace: "drops", Name: string(rune('a' + i)), Proto: "tcp", Frontends: []lb.Frontend{
			{Kind: lb.ClusterIP, Addr: netip.AddrFrom4([4]byte{10, 96, 9, byte(i)}), Port: 80},
			{Kind: lb.NodePort, Port: uint16(31000 + i)},
			{Kind: lb.LoadBalancer, Addr: netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i)}), Port: 80},
		}}
		for _, b := range backends {
			s.Backends = append(s.Backends, lb.Backend{Addr: b, Node: "b", Ready: true})
		}
		if change != nil {
			change(&s)
		}
		services = append(services, s)
		return netip.AddrPortFrom(m.ns.Addr, uint16(31000+i))
	}
	cluster := func(at end) end {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 9, byte(at.Port() - 31000)}), 80)
	}
	balancer := func(at end) end {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + at.Port() - 31000)}), 80)
	}
	empty := service(nil)
	external := service(func(s *lb.Service) { s.ExternalLocal, s.InternalLocal = true, true }, remotePod)
	ranges := service(func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.50/32")} }, remotePod)
	good := service(nil, remotePod)
	nowhere, unreachable, prohibited := service(nil, dead("198.51.100.9")), service(nil, dead("198.51.100.1")), service(nil, dead("198.51.100.2"))
	hole, narrow := service(nil, dead("198.51.100.3")), service(nil, dead("198.51.100.4"))
	m.services = services
	m.apply()

	// No checksum can be brought up to date, and no packet cut short; nothing can be sent; there is no memory to work in.
	broken := m.failing(-1, asm.FnL4CsumReplace, asm.FnSkbChangeTail)
	unsent := m.failing(actShot, asm.FnRedirect, asm.FnRedirectNeigh, asm.FnRedirectPeer)
	poor := m.withoutWorkArea()
	makes := func(i injection) func() injection { return func() injection { return i } }
	full := func(i injection, dst end) func() injection {
		return func() injection {
			for port := natMin; port <= natMax; port++ {
				key := bpf.Tuple{Src: bpf.IPOf(dst.Addr()), Dst: bpf.IPOf(m.ns.Addr), Sport: bpf.PortOf(dst.Port()), Dport: bpf.PortOf(uint16(port)), Proto: unix.IPPROTO_TCP, Direction: bpf.PodTupleDirectionTUPLE_BACK}
				other := bpf.FlowEntry{
					To:   bpf.Translation{Src: bpf.IPOf(dst.Addr()), Dst: bpf.IPOf(netip.MustParseAddr("192.0.2.66")), Sport: bpf.PortOf(dst.Port()), Dport: bpf.PortOf(uint16(port))},
					Flow: bpf.Flow{Answered: 1, Seen: monotonicSeconds()},
				}
				m.must(m.d.maps.services.nat.Put(key, other))
			}
			return i
		}
	}
	last := func(frame []byte) []byte { return edit(m.t, frame, func(ip *layers.IPv4) { ip.TTL = 1 }) }
	large := func(src, dst end) []byte {
		ip := &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), SYN: true}
		m.must(tcp.SetNetworkLayerForChecksum(ip))
		return serialized(macs(layers.EthernetTypeIPv4), ip, tcp, gopacket.Payload(make([]byte, 700)))
	}
	short := func(frame []byte) []byte { frame[ethernetHeader+3] += 100; return frame }
	return map[bpf.Reason]map[string]func() injection{
		bpf.PodLabReasonREASON_SOURCE_ADDR: {
			"of another pod": makes(injection{at: veth, dir: fromPod, frame: tcp(netip.AddrPortFrom(m.local[1], 1), far)}),
			"ARP":            makes(injection{at: veth, dir: fromPod, frame: arpRequest(m.local[1], m.local[0])}),
		},
		bpf.PodLabReasonREASON_NO_ENDPOINT: {"": makes(injection{at: host, dir: toPod, frame: tcp(far, netip.MustParseAddrPort("10.244.0.99:80"))})},
		bpf.PodLabReasonREASON_PROTOCOL: {
			"from a pod": makes(injection{at: veth, dir: fromPod, frame: ipv6Frame()}),
			"to a pod":   makes(injection{at: host, dir: toPod, frame: ipv6Frame()}),
		},
		bpf.PodLabReasonREASON_MALFORMED: {
			"from a pod": makes(injection{at: veth, dir: fromPod, frame: short(tcp(pod, far))}),
			"to a pod":   makes(injection{at: host, dir: toPod, frame: short(tcp(far, pod))}),
		},
		bpf.PodLabReasonREASON_NO_BACKEND: {
			"from a pod":          makes(injection{at: veth, dir: fromPod, frame: tcp(pod, cluster(empty)), answered: true}),
			"from outside":        makes(injection{at: in, dir: fromNetwork, frame: tcp(client, empty), answered: true}),
			"a reset":             makes(injection{at: veth, dir: fromPod, frame: packet(layers.IPProtocolTCP, pod, cluster(empty), rstFlag)}),
			"that nobody answers": makes(injection{at: stage{broken.fromPod, veth.ifindex}, dir: fromPod, frame: tcp(pod, cluster(empty))}),
			"outside, nobody":     makes(injection{at: stage{broken.fromNetwork, in.ifindex}, dir: fromNetwork, frame: tcp(client, empty)}),
		},
		bpf.PodLabReasonREASON_NO_LOCAL_BACKEND: {
			"from a pod":   makes(injection{at: veth, dir: fromPod, frame: tcp(pod, cluster(external))}),
			"from outside": makes(injection{at: in, dir: fromNetwork, frame: tcp(client, external)}),
		},
		bpf.PodLabReasonREASON_SOURCE_RANGE: {"": makes(injection{at: in, dir: fromNetwork, frame: tcp(client, balancer(ranges))})},
		bpf.PodLabReasonREASON_NAT_PORTS: {
			"to a backend": full(injection{at: in, dir: fromNetwork, frame: tcp(client, good)}, remotePod),
			"to outside":   full(injection{at: out, dir: leaving, frame: tcp(pod, netip.AddrPortFrom(far.Addr(), 81))}, netip.AddrPortFrom(far.Addr(), 81)),
		},
		bpf.PodLabReasonREASON_NO_ROUTE: {
			"from a pod":   makes(injection{at: veth, dir: fromPod, frame: tcp(pod, dead("198.51.100.9")), passed: true}),
			"from outside": makes(injection{at: in, dir: fromNetwork, frame: tcp(client, nowhere), answered: true}),
		},
		bpf.PodLabReasonREASON_UNREACHABLE: {
			"from a pod":   makes(injection{at: veth, dir: fromPod, frame: tcp(pod, dead("198.51.100.1")), passed: true}),
			"from outside": makes(injection{at: in, dir: fromNetwork, frame: tcp(client, unreachable), answered: true}),
		},
		bpf.PodLabReasonREASON_PROHIBITED: {
			"from a pod":   makes(injection{at: veth, dir: fromPod, frame: tcp(pod, dead("198.51.100.2")), passed: true}),
			"from outside": makes(injection{at: in, dir: fromNetwork, frame: tcp(client, prohibited), answered: true}),
		},
		bpf.PodLabReasonREASON_BLACKHOLE: {
			"from a pod":   makes(injection{at: veth, dir: fromPod, frame: tcp(pod, dead("198.51.100.3"))}),
			"from outside": makes(injection{at: in, dir: fromNetwork, frame: tcp(client, hole)}),
		},
		bpf.PodLabReasonREASON_TOO_BIG: {
			"from a pod":   makes(injection{at: veth, dir: fromPod, frame: large(pod, dead("198.51.100.4")), passed: true}),
			"from outside": makes(injection{at: in, dir: fromNetwork, frame: large(client, narrow), answered: true}),
		},
		bpf.PodLabReasonREASON_TTL: {
			"":                    makes(injection{at: in, dir: fromNetwork, frame: last(tcp(netip.AddrPortFrom(client.Addr(), 40001), narrow)), answered: true}),
			"that nobody answers": makes(injection{at: stage{broken.fromNetwork, in.ifindex}, dir: fromNetwork, frame: last(tcp(netip.AddrPortFrom(client.Addr(), 40002), narrow))}),
		},
		bpf.PodLabReasonREASON_REWRITE: {
			"from a pod": makes(injection{at: stage{broken.fromPod, veth.ifindex}, dir: fromPod, frame: tcp(pod, cluster(good))}),
			"of a known flow": makes(injection{at: stage{broken.fromPod, veth.ifindex}, dir: fromPod, frame: packet(layers.IPProtocolTCP, pod, cluster(good), ackFlag),
				before: func() {
					m.runInside(veth, tcp(pod, cluster(good)))
					m.runInside(veth, packet(layers.IPProtocolTCP, pod, cluster(good), ackFlag))
					m.copyFlowCache(veth.prog, broken.fromPod)
				}}),
			"not sent":          makes(injection{at: stage{unsent.fromPod, veth.ifindex}, dir: fromPod, frame: tcp(pod, remotePod)}),
			"not sent to a pod": makes(injection{at: stage{unsent.toPod, host.ifindex}, dir: toPod, frame: tcp(far, pod)}),
			"not sent by a NIC": makes(injection{at: stage{unsent.fromNetwork, in.ifindex}, dir: fromNetwork, frame: tcp(netip.AddrPortFrom(client.Addr(), 40003), narrow)}),
			"from outside":      makes(injection{at: stage{broken.fromNetwork, in.ifindex}, dir: fromNetwork, frame: tcp(client, narrow)}),
			"to outside":        makes(injection{at: stage{broken.toNetwork, out.ifindex}, dir: leaving, frame: tcp(pod, far)}),
			"to a pod": makes(injection{at: stage{broken.toPod, host.ifindex}, dir: toPod, frame: packet(layers.IPProtocolTCP, remotePod, pod, synFlag|ackFlag),
				before: func() { m.runInside(veth, tcp(pod, cluster(good))) }}),
		},
		bpf.PodLabReasonREASON_NO_WORK_AREA: {
			"from a pod":   makes(injection{at: stage{poor.fromPod, veth.ifindex}, dir: fromPod, frame: tcp(pod, far)}),
			"from outside": makes(injection{at: stage{poor.fromNetwork, in.ifindex}, dir: fromNetwork, frame: tcp(client, good)}),
			"to a pod":     makes(injection{at: stage{poor.toPod, host.ifindex}, dir: toPod, frame: tcp(far, pod)}),
			"to outside":   makes(injection{at: stage{poor.toNetwork, out.ifindex}, dir: leaving, frame: tcp(pod, far)}),
		},
		bpf.PodLabReasonREASON_NO_FLOW: {
			"to a port that flows get": makes(injection{at: in, dir: fromNetwork, frame: packet(layers.IPProtocolTCP, client, netip.AddrPortFrom(m.ns.Addr, natMin), ackFlag)}),
		},
		bpf.PodLabReasonREASON_MASQUERADE:    {"": makes(injection{at: out, dir: leaving, frame: edit(m.t, tcp(pod, far), func(ip *layers.IPv4) { ip.Protocol = layers.IPProtocolSCTP })})},
		bpf.PodLabReasonREASON_FRAGMENT:      {"": makes(injection{at: out, dir: leaving, frame: edit(m.t, tcp(pod, far), func(ip *layers.IPv4) { ip.FragOffset, ip.Id = 3, 99 })})},
		bpf.PodLabReasonREASON_LOOPBACK:      {"": makes(injection{at: veth, dir: fromPod, frame: tcp(pod, netip.MustParseAddrPort("127.0.0.1:9000"))})},
		bpf.PodLabReasonREASON_FOREIGN_ERROR: {"": makes(injection{at: veth, dir: fromPod, frame: icmpPacket(m.local[0], far.Addr(), 3, 0, quoted(tcp(far, remotePod)))})},
	}
}

// changed are programs in which something was changed.
type changed struct{ fromPod, toPod, fromNetwork, toNetwork *ebpf.Program }

// failing are programs whose calls of some helpers return that value.
func (m *model) failing(returns int32, helpers ...asm.BuiltinFunc) changed {
	return m.changedPrograms(func(insns asm.Instructions) {
		for i := range insns {
			if ins := &insns[i]; ins.IsBuiltinCall() && slices.Contains(helpers, asm.BuiltinFunc(ins.Constant)) {
				*ins = asm.Mov.Imm(asm.R0, returns).WithMetadata(ins.Metadata)
			}
		}
	})
}

// withoutWorkArea are programs that do not find it.
func (m *model) withoutWorkArea() changed {
	found := 0
	c := m.changedPrograms(func(insns asm.Instructions) {
		wanted := false
		for i := range insns {
			ins := &insns[i]
			wanted = wanted || ins.Reference() == bpf.PodMapLabWork
			if wanted && ins.IsBuiltinCall() && ins.Constant == int64(asm.FnMapLookupElem) {
				*ins = asm.Mov.Imm(asm.R0, 0).WithMetadata(ins.Metadata)
				wanted = false
				found++
			}
		}
	})
	if found < 4 {
		m.t.Fatalf("the programs look for their work area %d times", found)
	}
	return c
}

// loading loads programs of the node's, each changed before.
func (m *model) loading(change func(*ebpf.ProgramSpec)) (load func(object func() (*ebpf.CollectionSpec, error), into any)) {
	l := loader{m.d.cfg, m.d.maps, btf.NewCache()}
	return func(object func() (*ebpf.CollectionSpec, error), into any) {
		m.t.Helper()
		m.must(l.load(func() (*ebpf.CollectionSpec, error) {
			spec, err := object()
			m.must(err)
			for _, prog := range spec.Programs {
				change(prog)
			}
			return spec, nil
		}, into))
	}
}

func (m *model) changedPrograms(change func(asm.Instructions)) changed {
	m.t.Helper()
	load := m.loading(func(prog *ebpf.ProgramSpec) { change(prog.Instructions) })
	var pod bpf.PodPrograms
	var host bpf.HostPrograms
	var netdev bpf.NetdevPrograms
	load(bpf.LoadPod, &pod)
	load(bpf.LoadHost, &host)
	load(bpf.LoadNetdev, &netdev)
	m.t.Cleanup(func() { m.must(errors.Join(pod.Close(), host.Close(), netdev.Close())) })
	return changed{pod.LabFromPod, host.LabToPod, netdev.LabFromNetwork, netdev.LabToNetwork}
}

// copyFlowCache lets one program know the flows that another knows.
func (m *model) copyFlowCache(from, to *ebpf.Program) {
	m.t.Helper()
	find := func(prog *ebpf.Program) *ebpf.Map {
		info, err := prog.Info()
		m.must(err)
		ids, _ := info.MapIDs()
		for _, id := range ids {
			found, err := ebpf.NewMapFromID(id)
			m.must(err)
			if about, err := found.Info(); err == nil && about.Name == bpf.PodMapLabFlowCache {
				m.t.Cleanup(func() { found.Close() })
				return found
			}
			found.Close()
		}
		m.t.Fatalf("%s has no %s", prog, bpf.PodMapLabFlowCache)
		return nil
	}
	source, target := find(from), find(to)
	for i := range source.MaxEntries() {
		value, err := source.LookupBytes(i)
		m.must(err)
		m.must(target.Put(i, value))
	}
}

func macs(kind layers.EthernetType) *layers.Ethernet {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	return &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: kind}
}

func serialized(parts ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func ipv6Frame() []byte {
	return serialized(macs(layers.EthernetTypeIPv6), gopacket.Payload(make([]byte, 60)))
}

func arpRequest(sender, target netip.Addr) []byte {
	return serialized(macs(layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
		SourceHwAddress: make([]byte, 6), SourceProtAddress: sender.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
	})
}
