package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/progtest"
)

// What is around the node of packet_test.go, whose own address is addrFar: two other nodes with pods, and the outside.
var (
	ownNode   = addrFar
	node2     = netip.MustParseAddr("192.0.2.2")
	node3     = netip.MustParseAddr("192.0.2.3")
	elsewhere = netip.MustParseAddr("10.0.1.5") // a pod of node2
	third     = netip.MustParseAddr("10.0.2.5") // one of node3
	router    = netip.MustParseAddr("10.0.0.1") // the node's own
	unknown   = netip.MustParseAddr("10.0.9.9") // of no node
	outside   = netip.MustParseAddr("203.0.113.9")
)

// Identities, reserved ones and others.
const (
	host, world, initial, remoteNode = 1, 2, 5, 6
	identityA, identityElsewhere     = 256, 815
)

const (
	byTunnel     = bpf.PodLabReasonREASON_TUNNELED
	tooBig       = bpf.PodLabReasonREASON_TOO_BIG
	noRoute      = bpf.PodLabReasonREASON_NO_ROUTE
	noNode       = bpf.PodLabReasonREASON_NO_NODE
	forgedSource = bpf.PodLabReasonREASON_FORGED_SOURCE
	translated   = bpf.PodLabReasonREASON_FORWARDED
	uncounted    = bpf.PodLabReasonREASON_NONE
)

// tunnelFixture is that node with a tunnel to the others.
type tunnelFixture struct {
	t      testing.TB
	ns     *netnstest.NS
	mode   bpf.Mode
	device uint32 // the tunnel's
	ifA    uint32
	ifB    uint32
	progs  map[string]*ebpf.Program
	maps   map[string]*ebpf.Map
	tape   *progtest.Recorder
}

func newTunnelFixture(t *testing.T, mode bpf.Mode) *tunnelFixture {
	t.Helper()
	netnstest.Needs(t, netnstest.KernelContext) // and so the whole key of a tunnel, since Linux 6.0
	f := &tunnelFixture{
		t: t, ns: netnstest.New(t, "tunnel"), mode: mode, tape: progtest.NewRecorder(t),
		progs: map[string]*ebpf.Program{}, maps: map[string]*ebpf.Map{},
	}
	netnstest.Connect(f.ns, "lxca", f.ns, "lxcb")
	netnstest.Connect(f.ns, "tunnel", f.ns, "tunnelend")
	f.ifA, f.ifB, f.device = f.index("lxca"), f.index("lxcb"), f.index("tunnel")
	kernel := btf.NewCache()
	for _, loadSpec := range []func() (*ebpf.CollectionSpec, error){bpf.LoadPod, bpf.LoadHost, bpf.LoadNetdev} {
		spec, err := loadSpec()
		must(t, err)
		f.load(spec, kernel)
	}
	f.enter(addrA, f.ifA, bpf.Endpoint{Id: 2, Identity: identityA, Mac: mac(podA), NodeMac: mac(nodeA)})
	f.enter(addrB, f.ifB, bpf.Endpoint{Id: 3, Mac: mac(podB), NodeMac: mac(nodeB)})
	one := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 32) }
	f.knows(netip.PrefixFrom(zero, 0), world, zero, 0)
	f.knows(one(ownNode), host, zero, bpf.PodLabIpcacheFlagLAB_NODE_ADDRESS)
	f.knows(one(router), host, zero, bpf.PodLabIpcacheFlagLAB_NODE_ADDRESS)
	f.knows(netip.PrefixFrom(router, 24), 0, zero, 0)
	for pod, node := range map[netip.Addr]netip.Addr{elsewhere: node2, third: node3} {
		f.knows(one(node), remoteNode, node, bpf.PodLabIpcacheFlagLAB_NODE_ADDRESS)
		f.knows(netip.PrefixFrom(pod, 24), 0, node, 0)
		f.knows(one(pod), identityElsewhere, node, 0)
		must(t, f.maps["lab_nodes"].Put(ip(node), bpf.Node{Flags: bpf.PodLabNodeFlagLAB_IS_NODE}))
	}
	must(t, f.maps["lab_nodes"].Put(ip(ownNode), bpf.Node{Flags: bpf.PodLabNodeFlagLAB_IS_NODE | bpf.PodLabNodeFlagLAB_IS_LOCAL}))
	return f
}

// load loads programs, whose runs are recorded, on the maps of those before them.
func (f *tunnelFixture) load(spec *ebpf.CollectionSpec, kernel *btf.Cache) {
	f.t.Helper()
	setConstants(f.t, spec, f.mode, f.mode != bpf.PodLabModeLAB_KUBEPROXY, true, drops)
	must(f.t, spec.Variables[bpf.PodVarCfgTunnelDevice].Set(f.device))
	must(f.t, bpf.ResolveFunctions(spec, kernel))
	for _, prog := range spec.Programs {
		f.tape.Record(prog)
	}
	shared := map[string]*ebpf.Map{}
	for name, m := range spec.Maps {
		if f.maps[name] != nil {
			shared[name] = f.maps[name]
		}
		if name == bpf.PodMapLabFlowCache || name == bpf.PodMapLabRouteCache {
			m.MaxEntries *= uint32(runtime.NumCPU()) //nolint:gosec // there are not so many
		}
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared, Cache: kernel})
	must(f.t, err)
	f.t.Cleanup(c.Close)
	maps.Copy(f.progs, c.Programs)
	for name, m := range c.Maps {
		if name[0] != '.' { // of variables, which each object has for itself
			f.maps[name] = m
		}
	}
}

func (f *tunnelFixture) index(device string) uint32 {
	l, err := f.ns.Netlink().LinkByName(device)
	must(f.t, err)
	return uint32(l.Attrs().Index)
}

func (f *tunnelFixture) enter(addr netip.Addr, ifindex uint32, e bpf.Endpoint) {
	e.Ifindex = ifindex
	must(f.t, f.maps["lab_endpoints"].Put(ip(addr), e))
	must(f.t, f.maps["lab_ifaces"].Put(ifindex, ip(addr)))
}

// knows enters who has a prefix, and on which node; zero: on this one, or on none.
func (f *tunnelFixture) knows(p netip.Prefix, identity uint32, node netip.Addr, flags bpf.PodLabIpcacheFlag) {
	key := bpf.IPCacheKey{Bits: uint32(32 + 96 + p.Bits()), Addr: ip(p.Masked().Addr())} //nolint:gosec // at most 160
	e := bpf.IPCacheEntry{Identity: identity, Flags: flags}
	if node != zero {
		e.Node = ip(node)
	}
	must(f.t, f.maps["lab_ipcache"].Put(key, e))
}

func mac(addr []byte) (m bpf.MAC) {
	copy(m.B[:], addr)
	return m
}

// crossing is one row: a packet, and what becomes of it.
type crossing struct {
	frame  []byte
	from   *progtest.Key // by which it came out of the tunnel
	mark   uint32
	gso    uint32
	reason bpf.Reason // by which it is counted, once
	// verdict, and where to if it is a redirect.
	verdict uint32
	helper  asm.BuiltinFunc
	ifindex uint32
	to      *progtest.Key // by which it goes into the tunnel
	out     []byte        // nil: as it was
	outMark uint32
}

// into is the key that this node gives a packet.
func into(node netip.Addr, identity uint32) *progtest.Key {
	return &progtest.Key{Network: identity, Node: node, TTL: 64}
}

// outOf is the key that a packet has that a node has sent.
func outOf(node netip.Addr, identity uint32) *progtest.Key { return into(node, identity) }

// check runs a row twice: what was decided about the first packet of a flow may be remembered.
func (f *tunnelFixture) check(t *testing.T, prog string, dir bpf.Direction, ifindex uint32, row crossing) {
	t.Helper()
	for range 2 {
		f.checkOnce(t, prog, dir, ifindex, row)
	}
}

func (f *tunnelFixture) checkOnce(t *testing.T, prog string, dir bpf.Direction, ifindex uint32, row crossing) {
	t.Helper()
	const markOffset, gsoOffset = 8, 176 // in struct __sk_buff
	skb := skbContext(int(ifindex))
	binary.NativeEndian.PutUint32(skb[markOffset:], row.mark)
	binary.NativeEndian.PutUint32(skb[gsoOffset:], row.gso)
	f.tape.Own(skb)
	opts := &ebpf.RunOptions{Data: row.frame, DataOut: make([]byte, len(row.frame)+256), Context: skb, ContextOut: make([]byte, len(skb))}
	f.tape.ComeFrom(row.from)
	before := f.counted(t)
	var verdict uint32
	f.ns.Do(func() {
		var err error
		verdict, err = f.progs[prog].Run(opts)
		must(t, err)
	})
	if verdict != row.verdict {
		t.Errorf("verdict %d, want %d", int32(verdict), int32(row.verdict))
	}
	if row.reason != uncounted {
		before[counter{dir, row.reason}]++
	}
	if now := f.counted(t); !maps.Equal(now, before) {
		t.Errorf("counted are %v, want %v", now, before)
	}
	f.ns.Do(func() { // what others send is not recorded
		other := make([]byte, 60)
		copy(other[12:], []byte{0x86, 0xdd})
		_, err := f.progs[prog].Run(&ebpf.RunOptions{Data: other, Context: skbContext(int(ifindex))})
		must(t, err)
	})
	key, redirect := f.tape.Last()
	if key != nil {
		key.Flags &= progtest.Checksum | progtest.DontFragment
	}
	if got, want := describeKey(key), describeKey(row.to); got != want {
		t.Errorf("it goes into the tunnel %s, want %s", got, want)
	}
	if want := (progtest.Redirect{Helper: row.helper, Ifindex: row.ifindex}); redirect != want {
		t.Errorf("it goes %+v, want %+v", redirect, want)
	}
	want := row.out
	if want == nil {
		want = row.frame
	}
	if !bytes.Equal(opts.DataOut, want) {
		t.Errorf("the frame is\n%swant\n%s", describe(opts.DataOut), describe(want))
	}
	if mark := binary.NativeEndian.Uint32(opts.ContextOut.([]byte)[markOffset:]); mark != row.outMark {
		t.Errorf("its mark is %#x, want %#x", mark, row.outMark)
	}
}

func describeKey(k *progtest.Key) string {
	if k == nil {
		return "not at all"
	}
	return fmt.Sprintf("%+v", *k)
}

type counter struct {
	dir    bpf.Direction
	reason bpf.Reason
}

// counted are all counters that are not 0.
func (f *tunnelFixture) counted(t *testing.T) map[counter]uint64 {
	t.Helper()
	var perCPU []bpf.Metrics
	must(t, f.maps["lab_metrics"].Lookup(uint32(0), &perCPU))
	all := map[counter]uint64{}
	for i := range perCPU {
		for dir := range perCPU[i].Of {
			for reason, m := range perCPU[i].Of[dir] {
				if m.Packets > 0 {
					all[counter{bpf.Direction(dir), bpf.Reason(reason)}] += m.Packets
				}
			}
		}
	}
	return all
}

// inTunnelModes runs a test in every mode, with a tunnel.
func inTunnelModes(t *testing.T, f func(*testing.T, *tunnelFixture)) {
	for name, mode := range map[string]bpf.Mode{
		"kubeproxy":             bpf.PodLabModeLAB_KUBEPROXY,
		"kubeproxy-replacement": bpf.PodLabModeLAB_KUBEPROXY_REPLACEMENT,
		"ebpf":                  bpf.PodLabModeLAB_EBPF,
	} {
		t.Run(name, func(t *testing.T) { f(t, newTunnelFixture(t, mode)) })
	}
}

// sized is a UDP datagram whose IP packet has so many bytes.
func (p ipv4) sized(size int) ipv4 {
	p.proto, p.payload = udpProto, append(ports(1000, 53), make([]byte, size-20-4)...)
	binary.BigEndian.PutUint16(p.payload[4:], uint16(size-20)) //nolint:gosec // of a packet
	return p
}

// inVLAN puts a tag into a frame.
func inVLAN(frame []byte) []byte {
	return bytes.Join([][]byte{frame[:12], {0x81, 0, 0, 7}, frame[12:]}, nil)
}

func ipv6() []byte {
	return build(&layers.Ethernet{SrcMAC: podA, DstMAC: nodeA, EthernetType: layers.EthernetTypeIPv6}, gopacket.Payload(make([]byte, 60)))
}

// What pods send to other nodes and their pods goes by the tunnel, with the pod's identity, as it is: the tunnel is no hop.
func TestIntoTheTunnel(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, f *tunnelFixture) {
		entered := func(frame []byte, node netip.Addr) crossing {
			return crossing{frame: frame, reason: byTunnel, verdict: redirect, helper: asm.FnRedirect, ifindex: f.device, to: into(node, identityA), outMark: uint32(bpf.PodLabMarkMARK_DONE)}
		}
		stays := func(frame []byte, reason bpf.Reason) crossing {
			return crossing{frame: frame, reason: reason, verdict: next}
		}
		dropped := func(frame []byte, reason bpf.Reason) crossing {
			return crossing{frame: frame, reason: reason, verdict: shot}
		}
		// What the stack may have translated, it has to see whole.
		whole := func(frame []byte) crossing {
			if f.mode == bpf.PodLabModeLAB_KUBEPROXY {
				return stays(frame, toKernel)
			}
			return entered(frame, node2)
		}
		// Where BPF routes, it asks the node's routes, of which there are none.
		unrouted := func(frame []byte) crossing {
			if f.mode == bpf.PodLabModeLAB_EBPF {
				return stays(frame, noRoute)
			}
			return stays(frame, toKernel)
		}
		to := func(dst netip.Addr) ipv4 { return fromA(dst, tcpProto, tcp(1000, 80)) }
		far, large := to(elsewhere), fromA(elsewhere, udpProto, nil)
		quoted := ipv4{src: elsewhere, dst: addrA, ttl: 64, proto: udpProto, payload: udp(53, 1000)}
		segments := func(size uint32) crossing {
			row := entered(with(large.sized(3000), func(p *ipv4) { p.flags = layers.IPv4DontFragment }), node2)
			if row.gso = size; size > 1450-28 {
				row = stays(row.frame, tooBig)
				row.gso = size
			}
			return row
		}
		for name, row := range map[string]crossing{
			"TCP":            entered(far.build(), node2),
			"UDP":            entered(fromA(elsewhere, udpProto, udp(1000, 53)).build(), node2),
			"echo request":   entered(fromA(elsewhere, icmpProto, echo(8, 7)).build(), node2),
			"echo reply":     entered(fromA(elsewhere, icmpProto, echo(0, 7)).build(), node2),
			"error":          entered(fromA(elsewhere, icmpProto, icmpError(3, quoted)).build(), node2),
			"to a third":     entered(to(third).build(), node3),
			"to a node":      entered(to(node2).build(), node2),
			"TTL 2":          entered(with(far, func(p *ipv4) { p.ttl = 2 }), node2),
			"TTL 255":        entered(with(far, func(p *ipv4) { p.ttl = 255 }), node2),
			"trailing data":  entered(append(far.build(), make([]byte, 18)...), node2),
			"as large as is": entered(with(large.sized(1450), func(p *ipv4) { p.flags = layers.IPv4DontFragment }), node2),
			"marked": func() crossing {
				r := entered(far.build(), node2)
				r.mark, r.outMark = 0xabcd4000, 0xabcd4000|r.outMark
				return r
			}(),

			"another protocol": whole(fromA(elsewhere, sctpProto, ports(1000, 80)).build()),
			"first fragment":   whole(with(fromA(elsewhere, udpProto, udp(1000, 53)), func(p *ipv4) { p.flags = more })),
			"later fragment":   whole(with(fromA(elsewhere, udpProto, udp(1000, 53)), func(p *ipv4) { p.flags, p.offset = more, 3 })),
			"last fragment":    whole(with(fromA(elsewhere, udpProto, []byte("xy")), func(p *ipv4) { p.offset = 3 })),

			"TTL 1":                    stays(with(far, func(p *ipv4) { p.ttl = 1 }), toKernel),
			"TTL 0":                    stays(with(far, func(p *ipv4) { p.ttl = 0 }), toKernel),
			"IP options":               stays(with(far, func(p *ipv4) { p.options = true }), toKernel),
			"too large":                stays(with(large.sized(1451), func(p *ipv4) { p.flags = layers.IPv4DontFragment }), tooBig),
			"too large, may be cut":    stays(large.sized(1451).build(), toKernel),
			"segments that fit":        segments(1450 - 28),
			"segments that do not fit": segments(1450 - 27),
			"to its own node":          stays(to(ownNode).build(), toKernel),
			"to nobody's pod":          unrouted(to(unknown).build()),
			"to the outside":           unrouted(to(outside).build()),

			"another pod's address":     dropped(with(far, func(p *ipv4) { p.src = addrB }), dropSource),
			"a far pod's address":       dropped(with(far, func(p *ipv4) { p.src = third }), dropSource),
			"the node's address":        dropped(with(far, func(p *ipv4) { p.src = ownNode }), dropSource),
			"another's, in a fragment":  dropped(with(far, func(p *ipv4) { p.src, p.offset = addrB, 3 }), dropSource),
			"IPv6":                      dropped(ipv6(), dropProto),
			"in a VLAN":                 dropped(inVLAN(far.build()), dropProto),
			"half a TCP header":         dropped(fromA(elsewhere, tcpProto, tcp(1000, 80)[:10]).build(), malformed),
			"longer than the frame":     dropped(patched(far.build(), 17, 200), malformed),
			"shorter than its header":   dropped(patched(far.build(), 17, 19), malformed),
			"IP version 6 in its place": dropped(patched(far.build(), 14, 0x65), malformed),
		} {
			t.Run(name, func(t *testing.T) { f.check(t, "lab_from_pod", bpf.PodLabDirectionDIR_FROM_POD, f.ifA, row) })
		}
		t.Run("before its identity is known", func(t *testing.T) {
			row := entered(with(far, func(p *ipv4) { p.src = addrB }), node2)
			row.to.Network = initial
			f.check(t, "lab_from_pod", bpf.PodLabDirectionDIR_FROM_POD, f.ifB, row)
		})
	})
}

// What comes out of the tunnel is delivered when the node that has sent it has its source address.
func TestOutOfTheTunnel(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, f *tunnelFixture) {
		from := outOf(node2, identityElsewhere)
		arrives := func(frame []byte) crossing {
			row := crossing{frame: frame, from: from, reason: toPod, verdict: redirect, helper: asm.FnRedirect, ifindex: f.ifB, out: delivered(frame, true)}
			if f.mode == bpf.PodLabModeLAB_EBPF {
				row.helper = asm.FnRedirectPeer
			}
			return row
		}
		stays := func(frame []byte) crossing {
			return crossing{frame: frame, from: from, reason: toKernel, verdict: next}
		}
		dropped := func(frame []byte, from *progtest.Key, reason bpf.Reason) crossing {
			return crossing{frame: frame, from: from, reason: reason, verdict: shot}
		}
		whole := func(frame []byte) crossing {
			if f.mode == bpf.PodLabModeLAB_KUBEPROXY {
				return stays(frame)
			}
			return arrives(frame)
		}
		// Where Services are translated here, what cannot be read is none, and the stack drops it.
		unreadable := func(frame []byte) crossing {
			if f.mode == bpf.PodLabModeLAB_KUBEPROXY {
				return dropped(frame, from, malformed)
			}
			return stays(frame)
		}
		packet := func(src, dst netip.Addr, proto layers.IPProtocol, payload []byte) ipv4 {
			return ipv4{src: src, dst: dst, srcMAC: podA, dstMAC: nodeA, ttl: 64, proto: proto, payload: payload}
		}
		as := func(src netip.Addr) []byte { return packet(src, addrB, tcpProto, tcp(1000, 80)).build() }
		far := packet(elsewhere, addrB, tcpProto, tcp(1000, 80))
		datagram := packet(elsewhere, addrB, udpProto, udp(1000, 53))
		quoted := ipv4{src: addrB, dst: elsewhere, ttl: 64, proto: udpProto, payload: udp(53, 1000)}
		for name, row := range map[string]crossing{
			"TCP":               arrives(far.build()),
			"UDP":               arrives(datagram.build()),
			"echo request":      arrives(packet(elsewhere, addrB, icmpProto, echo(8, 7)).build()),
			"error":             arrives(packet(elsewhere, addrB, icmpProto, icmpError(3, quoted)).build()),
			"TTL 2":             arrives(with(far, func(p *ipv4) { p.ttl = 2 })),
			"of the node's own": arrives(as(node2)),
			"as large as is":    arrives(datagram.sized(1500).build()),

			"another protocol": whole(packet(elsewhere, addrB, sctpProto, ports(1000, 80)).build()),
			"first fragment":   whole(with(datagram, func(p *ipv4) { p.flags = more })),
			"later fragment":   whole(with(datagram, func(p *ipv4) { p.flags, p.offset = more, 3 })),

			"TTL 1":             stays(with(far, func(p *ipv4) { p.ttl = 1 })),
			"IP options":        stays(with(far, func(p *ipv4) { p.options = true })),
			"too large for it":  stays(datagram.sized(1501).build()),
			"to nobody":         stays(packet(elsewhere, addrNone, tcpProto, tcp(1000, 80)).build()),
			"to the node":       stays(packet(elsewhere, ownNode, tcpProto, tcp(1000, 80)).build()),
			"to the router":     stays(packet(elsewhere, router, tcpProto, tcp(1000, 80)).build()),
			"to a third's pod":  stays(packet(elsewhere, third, tcpProto, tcp(1000, 80)).build()),
			"to the outside":    stays(packet(elsewhere, outside, tcpProto, tcp(1000, 80)).build()),
			"half a TCP header": unreadable(packet(elsewhere, addrB, tcpProto, tcp(1000, 80)[:10]).build()),
			"too long":          unreadable(patched(far.build(), 17, 200)),

			"from outside":               dropped(far.build(), outOf(outside, identityElsewhere), noNode),
			"from a pod's address":       dropped(far.build(), outOf(elsewhere, identityElsewhere), noNode),
			"from the node itself":       dropped(far.build(), outOf(ownNode, identityElsewhere), noNode),
			"from no address":            dropped(as(addrA), outOf(zero, identityElsewhere), noNode),
			"from no address, as nobody": dropped(as(outside), outOf(zero, identityElsewhere), noNode),
			"not by a tunnel":            dropped(far.build(), nil, noNode),
			"as a third's pod":           dropped(as(third), from, forgedSource),
			"as a third node":            dropped(as(node3), from, forgedSource),
			"from a third, as this pod":  dropped(far.build(), outOf(node3, identityElsewhere), forgedSource),
			"as a pod of this node":      dropped(as(addrA), from, forgedSource),
			"as the pod that it is for":  dropped(as(addrB), from, forgedSource),
			"as this node":               dropped(as(ownNode), from, forgedSource),
			"as this node's router":      dropped(as(router), from, forgedSource),
			"as nobody's pod":            dropped(as(unknown), from, forgedSource),
			"as the outside":             dropped(as(outside), from, forgedSource),
			"as nobody":                  dropped(as(zero), from, forgedSource),
			"from loopback":              dropped(as(netip.MustParseAddr("127.0.0.1")), from, forgedSource),
			"from a group":               dropped(as(netip.MustParseAddr("224.0.0.9")), from, forgedSource),
			"as a third, in a fragment":  dropped(with(far, func(p *ipv4) { p.src, p.offset = third, 3 }), from, forgedSource),
			"as a third, with options":   dropped(with(far, func(p *ipv4) { p.src, p.options = third, true }), from, forgedSource),
			"IPv6":                       dropped(ipv6(), from, dropProto),
			"ARP":                        dropped(arpFrame(arp(1, elsewhere.AsSlice(), addrB.AsSlice())), from, dropProto),
			"in a VLAN":                  dropped(inVLAN(far.build()), from, dropProto),
		} {
			t.Run(name, func(t *testing.T) {
				f.check(t, "lab_from_tunnel", bpf.PodLabDirectionDIR_FROM_NETWORK, f.device, row)
			})
		}
		// A decision that is remembered holds for what the same node sends, and for no other.
		again := packet(elsewhere, addrB, tcpProto, tcp(1001, 80)).build()
		for _, row := range []crossing{
			arrives(again), dropped(again, outOf(node3, identityElsewhere), forgedSource), dropped(again, outOf(outside, identityElsewhere), noNode),
			dropped(again, nil, noNode), arrives(again),
		} {
			f.check(t, "lab_from_tunnel", bpf.PodLabDirectionDIR_FROM_NETWORK, f.device, row)
		}
		// It does not outlive that the address is on another node.
		f.knows(netip.PrefixFrom(elsewhere, 32), identityElsewhere, node3, 0)
		must(t, f.maps["lab_generations"].Put(uint32(0), bpf.Generations{All: 1}))
		moved := arrives(again)
		moved.from = outOf(node3, identityElsewhere)
		for _, row := range []crossing{dropped(again, from, forgedSource), moved, dropped(again, from, forgedSource)} {
			f.check(t, "lab_from_tunnel", bpf.PodLabDirectionDIR_FROM_NETWORK, f.device, row)
		}
	})
}

// What the stack sends to other nodes' pods: of the node itself, and of pods whose packets it had to see.
func TestFromTheStackIntoTheTunnel(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, f *tunnelFixture) {
		packet := func(src, dst netip.Addr) ipv4 {
			return ipv4{src: src, dst: dst, srcMAC: podA, dstMAC: nodeA, ttl: 63, proto: udpProto, payload: udp(1000, 53)}
		}
		entered := func(frame []byte, identity uint32) crossing {
			return crossing{frame: frame, reason: byTunnel, verdict: redirect, helper: asm.FnRedirect, ifindex: f.device, to: into(node2, identity), outMark: uint32(bpf.PodLabMarkMARK_DONE)}
		}
		dropped := func(frame []byte, reason bpf.Reason) crossing {
			return crossing{frame: frame, reason: reason, verdict: shot}
		}
		for name, row := range map[string]crossing{
			"of the node":               entered(packet(ownNode, elsewhere).build(), remoteNode),
			"of the node's router":      entered(packet(router, elsewhere).build(), remoteNode),
			"of a pod":                  entered(packet(addrA, elsewhere).build(), identityA),
			"of a pod without identity": entered(packet(addrB, elsewhere).build(), initial),
			"of the outside":            entered(packet(outside, elsewhere).build(), world),
			"a later fragment":          entered(with(packet(addrA, elsewhere), func(p *ipv4) { p.offset = 3 }), identityA),
			"IP options":                entered(with(packet(addrA, elsewhere), func(p *ipv4) { p.options = true }), identityA),
			"the last hop":              entered(with(packet(ownNode, elsewhere), func(p *ipv4) { p.ttl = 1 }), remoteNode),
			"to a node":                 dropped(packet(ownNode, node2).build(), noEndpoint), // which has other ways there
			"to nobody":                 dropped(packet(ownNode, addrNone).build(), noEndpoint),
			"to nobody's pod":           dropped(packet(ownNode, unknown).build(), noEndpoint),
			"IPv6":                      dropped(ipv6(), dropProto),
			"half a header":             dropped(with(packet(ownNode, elsewhere), func(p *ipv4) { p.payload = p.payload[:4] }), malformed),
		} {
			t.Run(name, func(t *testing.T) { f.check(t, "lab_to_pod", bpf.PodLabDirectionDIR_TO_POD, f.ifA, row) })
		}
		if f.mode != bpf.PodLabModeLAB_KUBEPROXY {
			return
		}
		t.Run("and its answer", func(t *testing.T) { // goes through the stack too, which may have translated the packet
			answer := ipv4{src: elsewhere, dst: addrA, srcMAC: podA, dstMAC: nodeA, ttl: 64, proto: udpProto, payload: udp(53, 1000)}.build()
			f.check(t, "lab_from_tunnel", bpf.PodLabDirectionDIR_FROM_NETWORK, f.device,
				crossing{frame: answer, from: outOf(node2, identityElsewhere), reason: toKernel, verdict: next})
			more := fromA(elsewhere, udpProto, udp(1000, 53)).build()
			f.check(t, "lab_from_pod", bpf.PodLabDirectionDIR_FROM_POD, f.ifA, crossing{frame: more, reason: toKernel, verdict: next})
		})
	})
}

// At the NIC, packets of the tunnel pass as they are, both ways, and what pods send to nodes around it is masqueraded.
func TestTunnelAtTheNIC(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, f *tunnelFixture) {
		if f.mode == bpf.PodLabModeLAB_KUBEPROXY {
			return // in which no program is at NICs
		}
		passes := func(frame []byte) crossing { return crossing{frame: frame, verdict: next} }
		outer := func(src, dst netip.Addr, port uint16) ipv4 {
			return ipv4{src: src, dst: dst, srcMAC: podA, dstMAC: nodeA, ttl: 64, proto: udpProto, payload: udp(50000, port)}
		}
		marked := func(mark, outMark uint32, frame []byte) crossing {
			return crossing{frame: frame, mark: mark, outMark: outMark, verdict: next}
		}
		const done, others = uint32(bpf.PodLabMarkMARK_DONE), 0xabcd4000
		for name, row := range map[string]crossing{
			"in":                 passes(outer(node2, ownNode, 8472).build()),
			"in, first fragment": passes(with(outer(node2, ownNode, 8472), func(p *ipv4) { p.flags = more })),
			"in, from outside":   passes(outer(outside, ownNode, 8472).build()), // the tunnel's own program drops it
		} {
			t.Run(name, func(t *testing.T) {
				f.check(t, "lab_from_network", bpf.PodLabDirectionDIR_FROM_NETWORK, f.ifA, row)
			})
		}
		for name, row := range map[string]crossing{
			"out":                         marked(done, 0, outer(ownNode, node2, 8472).build()),
			"out, marked by others":       marked(others|done, others, outer(ownNode, node2, 8472).build()),
			"of a pod, done":              marked(done, 0, fromA(node2, udpProto, udp(1000, 53)).build()),
			"of a pod, to a pod":          passes(fromA(elsewhere, udpProto, udp(1000, 53)).build()),
			"of the node, to a node":      passes(outer(ownNode, node2, 53).build()),
			"of the node, to the outside": passes(outer(ownNode, outside, 53).build()),
		} {
			t.Run(name, func(t *testing.T) { f.check(t, "lab_to_network", bpf.PodLabDirectionDIR_TO_NETWORK, f.ifA, row) })
		}
		for name, dst := range map[string]netip.Addr{"of a pod, to a node": node2, "of a pod, to the outside": outside} {
			t.Run(name, func(t *testing.T) {
				frame := fromA(dst, udpProto, udp(1000, 53)).build()
				f.tape.ComeFrom(nil)
				opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: skbContext(int(f.ifA))}
				before := f.counted(t)[counter{bpf.PodLabDirectionDIR_TO_NETWORK, translated}]
				f.ns.Do(func() {
					verdict, err := f.progs["lab_to_network"].Run(opts)
					if must(t, err); verdict != next {
						t.Errorf("verdict %d", int32(verdict))
					}
				})
				if got := netip.AddrFrom4([4]byte(opts.DataOut[14+12:])); got != ownNode {
					t.Errorf("it leaves as %s, want %s", got, ownNode)
				}
				if got := f.counted(t)[counter{bpf.PodLabDirectionDIR_TO_NETWORK, translated}]; got != before+1 {
					t.Errorf("%d are counted as translated, want 1", got-before)
				}
			})
		}
	})
}
