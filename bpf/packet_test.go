package bpf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/netnstest"
)

// A node with two pods, and the addresses around them.
var (
	addrA    = netip.MustParseAddr("10.0.0.2")
	addrB    = netip.MustParseAddr("10.0.0.3")
	addrNone = netip.MustParseAddr("10.0.0.9")
	addrFar  = netip.MustParseAddr("192.0.2.1")
	zero     = netip.IPv4Unspecified()

	podA  = net.HardwareAddr{2, 0, 0, 0, 0, 0xa1}
	nodeA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa2}
	podB  = net.HardwareAddr{2, 0, 0, 0, 0, 0xb1}
	nodeB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb2}
	all   = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// fixture is that node: the programs, and devices to run them on.
type fixture struct {
	*programs
	t        testing.TB
	ns       *netnstest.NS
	ifA, ifB int
}

func newFixture(t testing.TB, what telling) *fixture {
	t.Helper()
	f := &fixture{programs: load(t, what), t: t, ns: netnstest.New(t, "packets")}
	netnstest.Connect(f.ns, "lxca", f.ns, "lxcb")
	f.ifA, f.ifB = f.index("lxca"), f.index("lxcb")
	f.enter(addrA, f.ifA, 2, podA, nodeA)
	f.enter(addrB, f.ifB, 3, podB, nodeB)
	return f
}

func (f *fixture) index(device string) int {
	l, err := f.ns.Netlink().LinkByName(device)
	must(f.t, err)
	return l.Attrs().Index
}

func (f *fixture) enter(addr netip.Addr, ifindex int, id uint32, pod, node net.HardwareAddr) {
	e := bpf.Endpoint{Ifindex: uint32(ifindex), Id: id}
	copy(e.Mac.B[:], pod)
	copy(e.NodeMac.B[:], node)
	must(f.t, f.LabEndpoints.Put(ip(addr), e))
	must(f.t, f.LabIfaces.Put(uint32(ifindex), ip(addr)))
}

// at is the fixture for a subtest: without flows and events of the one before.
func (f *fixture) at(t *testing.T) *fixture {
	t.Helper()
	fresh := *f
	fresh.t = t
	for flow := range fresh.flows() {
		must(t, fresh.LabKernelCt.Delete(flow))
	}
	fresh.lastEvent()
	return &fresh
}

// packet is one row of a table: a frame, and what has to become of it.
type packet struct {
	frame  []byte
	reason bpf.Reason
	// tracked are flows that the stack knows, remembered those that it must know afterwards.
	tracked, remembered []bpf.KernelFlow
	// ports and protocol that an event has to report; 0 where the packet has none.
	sport, dport uint16
}

// checkRow runs one row and compares verdict, frame, counter, flows and event.
func (f *fixture) checkRow(prog *ebpf.Program, dir bpf.Direction, ifindex int, row packet, want uint32, frame []byte) {
	t := f.t
	t.Helper()
	for _, flow := range row.tracked {
		must(t, f.LabKernelCt.Put(flow, bpf.PodPresent{}))
	}
	before, bytesBefore := f.packets(t, dir, row.reason)
	flows := f.flows()
	var verdict uint32
	var out []byte
	f.ns.Do(func() { verdict, out = f.run(t, prog, ifindex, row.frame) })
	if verdict != want {
		t.Errorf("verdict %d, want %d", int32(verdict), int32(want))
	}
	if !bytes.Equal(out, frame) {
		t.Errorf("the frame is\n%swant\n%s", describe(out), describe(frame))
	}
	packets, size := f.packets(t, dir, row.reason)
	if packets != before+1 || size != bytesBefore+uint64(len(row.frame)) {
		t.Errorf("reason %d counts %d packets, %d bytes more, want 1, %d", row.reason, packets-before, size-bytesBefore, len(row.frame))
	}
	for _, flow := range row.remembered {
		flows[flow] = true
	}
	if now := f.flows(); len(now) != len(flows) {
		t.Errorf("the stack's flows are %v, want %v", now, flows)
	} else {
		for flow := range now {
			if !flows[flow] {
				t.Errorf("flow %v is remembered", flow)
			}
		}
	}
}

func (f *fixture) flows() map[bpf.KernelFlow]bool {
	flows := map[bpf.KernelFlow]bool{}
	var flow bpf.KernelFlow
	var present bpf.PodPresent
	for it := f.LabKernelCt.Iterate(); it.Next(&flow, &present); {
		flows[flow] = true
	}
	return flows
}

// lastEvent drains the ring and returns its last event that is no step.
func (f *fixture) lastEvent() (e bpf.Event, ok bool) {
	ring, err := ringbuf.NewReader(f.LabEvents)
	must(f.t, err)
	defer ring.Close()
	ring.SetDeadline(time.Now())
	for {
		record, err := ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return e, ok
		}
		must(f.t, err)
		if bpf.PodLabEventType(record.RawSample[0]) == bpf.PodLabEventTypeEVENT_STEP {
			continue
		}
		_, err = binary.Decode(record.RawSample, binary.NativeEndian, &e)
		must(f.t, err)
		ok = true
	}
}

func describe(frame []byte) string {
	return gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Dump()
}

func build(parts ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, parts...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// ipv4 is an IPv4 packet that a test may change before it is built.
type ipv4 struct {
	src, dst netip.Addr
	srcMAC   net.HardwareAddr
	dstMAC   net.HardwareAddr
	ttl      uint8
	flags    layers.IPv4Flag
	offset   uint16 // in units of 8 bytes
	options  bool
	proto    layers.IPProtocol
	payload  []byte
}

func (p ipv4) build() []byte {
	if p.srcMAC == nil { // of a packet that is only quoted
		p.srcMAC, p.dstMAC = podA, nodeA
	}
	header := &layers.IPv4{
		Version: 4, TTL: p.ttl, Protocol: p.proto, SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice(),
		Flags: p.flags, FragOffset: p.offset,
	}
	if p.options {
		header.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: make([]byte, 5)}, {OptionType: 0, OptionLength: 1}}
	}
	return build(&layers.Ethernet{SrcMAC: p.srcMAC, DstMAC: p.dstMAC, EthernetType: layers.EthernetTypeIPv4}, header, gopacket.Payload(p.payload))
}

// from A to B, as pod A sends it.
func fromA(dst netip.Addr, proto layers.IPProtocol, payload []byte) ipv4 {
	return ipv4{src: addrA, dst: dst, srcMAC: podA, dstMAC: nodeA, ttl: 64, proto: proto, payload: payload}
}

func ports(sport, dport uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, sport), dport)
}

func tcp(sport, dport uint16) []byte {
	return append(ports(sport, dport), 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, 0x02, 0xff, 0xff, 0, 0, 0, 0)
}

func udp(sport, dport uint16) []byte {
	return append(ports(sport, dport), 0, 12, 0, 0, 'd', 'a', 't', 'a')
}

func echo(kind uint8, id uint16) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind, 0, 0, 0}, id), 0, 1, 'd', 'a', 't', 'a')
}

// icmpError quotes an IPv4 packet: its header and eight bytes.
func icmpError(kind uint8, quoted ipv4) []byte {
	packet := quoted.build()[14:]
	return append([]byte{kind, 3, 0, 0, 0, 0, 0, 0}, packet[:len(packet)-len(quoted.payload)+8]...)
}

// flow is the key of the flow between A and B, whoever sends.
func flow(proto layers.IPProtocol, portA, portB uint16) bpf.KernelFlow {
	network := func(port uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port)) }
	f := bpf.KernelFlow{Lo: ip(addrA), Hi: ip(addrB), LoPort: network(portA), HiPort: network(portB), Proto: uint8(proto)}
	// The program orders by machine words.
	word := func(a bpf.IP) uint64 { return binary.NativeEndian.Uint64(a.B[8:]) }
	if word(f.Lo) > word(f.Hi) {
		f.Lo, f.Hi, f.LoPort, f.HiPort = f.Hi, f.Lo, f.HiPort, f.LoPort
	}
	return f
}
