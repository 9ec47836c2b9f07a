package datapath_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/netnstest"
)

// Nobody listens at the backend's port: the error that it answers with finds the client, and speaks of
// the address that the client knows, or the client's kernel would not take it.
func TestErrorsFindTheClient(t *testing.T) { inServiceLabs(t, 2, testErrorsFindTheClient) }

func testErrorsFindTheClient(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	closed := ready(b, n)
	closed.Addr = b.at(9)
	l.balance(both(withNodePort(demo(closed)))...)
	for name, test := range map[string]struct {
		from *netnstest.NS
		to   netip.AddrPort
	}{
		"a pod beside the backend":             {a.NS, netip.AddrPortFrom(clusterIP, port)},
		"a pod on another node":                {c.NS, netip.AddrPortFrom(clusterIP, port)},
		"the backend itself":                   {b.NS, netip.AddrPortFrom(clusterIP, port)},
		"outside, through the backend's node":  {l.outside.NS, netip.AddrPortFrom(n.Host.Addr, nodePort)},
		"outside, through another node":        {l.outside.NS, netip.AddrPortFrom(m.Host.Addr, nodePort)},
		"around the Service, beside":           {a.NS, b.at(9)},
		"around the Service, across the nodes": {c.NS, b.at(9)},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := test.from.Dial("udp4", test.to)
			must(t, err)
			defer u.Close()
			netnstest.ExpectRefused(t, u)
		})
	}
}

// The client's side of a UDP flow is gone when the answer comes: its error finds the backend, which shows
// by the backend's socket being refused.
func TestErrorsFindTheBackend(t *testing.T) { inServiceLabs(t, 2, testErrorsFindTheBackend) }

func testErrorsFindTheBackend(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, b := n.addPod("a"), n.addPod("b")
	l.balance(both(withNodePort(demo(ready(b, n))))...)
	for name, test := range map[string]struct {
		from *netnstest.NS
		to   netip.AddrPort
	}{
		"a pod beside the backend":            {a.NS, netip.AddrPortFrom(clusterIP, port)},
		"outside, through the backend's node": {l.outside.NS, netip.AddrPortFrom(n.Host.Addr, nodePort)},
		"outside, through another node":       {l.outside.NS, netip.AddrPortFrom(m.Host.Addr, nodePort)},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.Capture("eth0")
			server := listenUDP(t, b.NS, anyPort)
			client, err := test.from.Dial("udp4", test.to)
			must(t, err)
			must(t, second(client.Write([]byte("hello"))))
			buf := make([]byte, 16)
			_, from, err := server.ReadFromUDPAddrPort(buf)
			must(t, err)
			client.Close()
			must(t, second(server.WriteToUDPAddrPort([]byte("too late"), from)))
			awaitFrame(t, got, "an error about the backend's answer", func(f netnstest.Frame) bool {
				return isErrorAbout(f, b.at(port), from)
			})
			server.Close()
		})
	}
}

// A hop that is too many: who answers "time exceeded" is a router on the way, and quotes what it saw.
func TestTimeExceededToAService(t *testing.T) { inServiceLabs(t, 2, testTimeExceededToAService) }

func testTimeExceededToAService(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, b := n.addPod("a"), m.addPod("b")
	l.balance(both(demo(ready(b, m)))...)
	hops := map[string]int{"at the own node": 1, "at the other": 2}
	if _, _, tunnel := n.cfg.Tunnel(); tunnel { // which is no hop, so the other delivers it
		delete(hops, "at the other")
	}
	for name, ttl := range hops {
		t.Run(name, func(t *testing.T) {
			got := a.Capture("eth0")
			c, err := a.Dial("udp4", netip.AddrPortFrom(clusterIP, port))
			must(t, err)
			defer c.Close()
			setTTL(t, c, ttl)
			must(t, second(c.Write([]byte("hello"))))
			sent := c.LocalAddr().String()
			awaitFrame(t, got, "an error about what was sent to the Service", func(f netnstest.Frame) bool {
				return isErrorAbout(f, netip.MustParseAddrPort(sent), netip.AddrPortFrom(clusterIP, port))
			})
			// Its kernel took it for one: a checksum or a port that is wrong would have been ignored.
			if _, err := c.Read(make([]byte, 16)); !errors.Is(err, unix.EHOSTUNREACH) {
				t.Errorf("the client's socket got %v", err)
			}
		})
	}
}

func listenUDP(t *testing.T, ns *netnstest.NS, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	ns.Do(func() {
		var err error
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		must(t, err)
	})
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(10*netnstest.ProbeTimeout)))
	return c
}

func setTTL(t *testing.T, c net.Conn, ttl int) {
	t.Helper()
	must(t, ipv4.NewConn(c).SetTTL(ttl))
	must(t, c.SetDeadline(time.Now().Add(netnstest.ProbeTimeout)))
	raw, err := c.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { // or errors that a route may outlive would not be reported
		must(t, unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1))
	}))
}

// awaitFrame captures until a frame is as wanted.
func awaitFrame(t *testing.T, c *netnstest.Capture, what string, want func(netnstest.Frame) bool) {
	t.Helper()
	eventually(t, func() bool { return slices.ContainsFunc(c.Frames(), want) }, what)
}

// isErrorAbout says whether a frame is an ICMP error about a UDP datagram between the two, with right
// checksums: the error's own and the quoted IP header's.
func isErrorAbout(f netnstest.Frame, src, dst netip.AddrPort) bool {
	icmp, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok || f.Outgoing {
		return false
	}
	if kind := icmp.TypeCode.Type(); kind != layers.ICMPv4TypeDestinationUnreachable && kind != layers.ICMPv4TypeTimeExceeded {
		return false
	}
	quoted := gopacket.NewPacket(icmp.Payload, layers.LayerTypeIPv4, gopacket.Default)
	ip, ok := quoted.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok || sum(icmp.Contents, icmp.Payload) != 0xffff || sum(ip.Contents) != 0xffff {
		return false
	}
	udp := icmp.Payload[len(ip.Contents):]
	at := func(ip net.IP, port []byte) netip.AddrPort {
		addr, _ := netip.AddrFromSlice(ip.To4())
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
	}
	return at(ip.SrcIP, udp) == src && at(ip.DstIP, udp[2:]) == dst
}

// sum is the one's complement sum of RFC 1071.
func sum(parts ...[]byte) uint16 {
	all := bytes.Join(parts, nil)
	if len(all)%2 != 0 {
		all = append(all, 0)
	}
	var total uint32
	for i := 0; i < len(all); i += 2 {
		total += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
