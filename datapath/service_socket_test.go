package datapath_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// clientEnv makes this test binary a client in a cgroup: its value is a conversation in JSON.
const clientEnv = "WIRELAB_TEST_CLIENT"

// conversation is what a client in a cgroup does: it sends to each address, over one socket if it can,
// and reports how it went.
type conversation struct {
	// Network is what net.Dial takes; or "udp-unconnected", for one socket that sends to all; or
	// "raw-tcp6" or "raw-udp6" for IPv6 sockets, of which net.Dial makes none for an IPv4 address.
	Network string
	To      []netip.AddrPort
	Count   int // of conversations with each; 0 means 1
}

// told is what the client was told.
type told struct {
	Answer string // of the server
	Peer   string // whom the socket takes it to come from
	Err    string
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(clientEnv); spec != "" {
		var c conversation
		if err := json.Unmarshal([]byte(spec), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		json.NewEncoder(os.Stdout).Encode(c.run())
		return
	}
	if spec := os.Getenv(talkerEnv); spec != "" {
		var s udpSocket
		err := json.Unmarshal([]byte(spec), &s)
		if err == nil {
			err = s.runTalker(os.Stdin, os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		return
	}
	os.Exit(m.Run())
}

func (c conversation) run() (all []told) {
	switch c.Network {
	case "udp-unconnected":
		return c.runUnconnected()
	case "raw-tcp6", "raw-udp6":
		return c.runMapped()
	}
	for _, to := range c.To {
		for range max(c.Count, 1) {
			all = append(all, c.connect(to))
		}
	}
	return all
}

func (c conversation) connect(to netip.AddrPort) (t told) {
	conn, err := net.DialTimeout(c.Network, to.String(), time.Second)
	if err != nil {
		return told{Err: err.Error()}
	}
	defer conn.Close()
	t.Peer = peerOf(conn)
	if t.Answer, err = who(conn); err != nil {
		t.Err = err.Error()
	}
	return t
}

// peerOf asks the kernel, not the connection, which remembers what it was dialled with.
func peerOf(c net.Conn) (peer string) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err.Error()
	}
	err = raw.Control(func(fd uintptr) {
		sa, err := syscall.Getpeername(int(fd))
		switch sa := sa.(type) {
		case *syscall.SockaddrInet4:
			peer = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
		case *syscall.SockaddrInet6:
			peer = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
		default:
			peer = fmt.Sprint(err)
		}
	})
	if err != nil {
		return err.Error()
	}
	return peer
}

func (c conversation) runUnconnected() (all []told) {
	conn, err := net.ListenUDP("udp", nil) // an IPv6 socket, where there is IPv6
	if err != nil {
		return []told{{Err: err.Error()}}
	}
	defer conn.Close()
	buf := make([]byte, 64)
	for _, to := range c.To {
		var t told
		conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.WriteToUDPAddrPort([]byte("?"), to); err != nil {
			all = append(all, told{Err: err.Error()})
			continue
		}
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Err = err.Error()
		}
		t.Answer, t.Peer = string(buf[:n]), from.String()
		all = append(all, t)
	}
	return all
}

func (c conversation) runMapped() (all []told) {
	kind := syscall.SOCK_STREAM
	if c.Network == "raw-udp6" {
		kind = syscall.SOCK_DGRAM
	}
	for _, to := range c.To {
		all = append(all, connectMapped(kind, to))
	}
	return all
}

func connectMapped(kind int, to netip.AddrPort) told {
	fd, err := syscall.Socket(syscall.AF_INET6, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return told{Err: err.Error()}
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	if err := syscall.Connect(fd, &syscall.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}); err != nil {
		return told{Err: err.Error()}
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return told{Err: err.Error()}
	}
	defer conn.Close()
	t := told{Peer: peerOf(conn)}
	if t.Answer, err = who(conn); err != nil {
		t.Err = err.Error()
	}
	return t
}

// inCgroup runs a conversation by a process in the node's cgroup, which is in the namespace given.
func (n *node) inCgroup(ns *netnstest.NS, c conversation) (all []told) {
	n.t.Helper()
	spec, err := json.Marshal(c)
	must(n.t, err)
	var out, problems strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientEnv+"="+string(spec))
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(n.cgroup.Fd())}
	ns.Do(func() { err = cmd.Run() })
	if err != nil {
		n.t.Fatalf("run a client in the cgroup: %v: %s", err, problems.String())
	}
	must(n.t, json.Unmarshal([]byte(out.String()), &all))
	return all
}

func TestSocketsAreGivenABackend(t *testing.T) { inServiceLabs(t, 2, testSocketsAreGivenABackend) }

func testSocketsAreGivenABackend(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	l.balance(both(withNodePort(demo(ready(b, n), ready(c, m))))...)
	sign(t, b.NS, c.NS)
	serviceAt := netip.AddrPortFrom(clusterIP, port)
	backends := map[string]bool{b.NS.Name: true, c.NS.Name: true}
	for who, from := range map[string]*netnstest.NS{"a process of the node": n.NS, "a pod": a.NS, "a backend": b.NS} {
		for _, to := range []netip.AddrPort{serviceAt, netip.AddrPortFrom(n.Host.Addr, nodePort)} {
			for _, network := range []string{"tcp", "udp", "udp-unconnected"} {
				t.Run(fmt.Sprintf("%s, %s to %s", who, network, to), func(t *testing.T) {
					wire := from.Capture(deviceOf(from, n))
					for _, got := range n.inCgroup(from, conversation{Network: network, To: []netip.AddrPort{to}, Count: 5}) {
						if got.Err != "" || !backends[got.Answer] || unmapped(got.Peer) != to.String() {
							t.Errorf("got %+v, want an answer of %v from %s", got, backends, to)
						}
					}
					if to != serviceAt {
						return // which packets carry for other reasons, too
					}
					byPacket := network != "tcp" && from != n.NS
					if got := carry(wire.Frames(), clusterIP); (got > 0) != byPacket {
						t.Errorf("%d packets carry the Service's address, and it is translated by packet: %v", got, byPacket)
					}
				})
			}
		}
	}
}

// deviceOf is what the namespace's packets leave by.
func deviceOf(ns *netnstest.NS, n *node) string {
	if ns == n.NS {
		return netnstest.NIC
	}
	return "eth0"
}

// carry counts the frames that have the address in their IP header.
func carry(frames []netnstest.Frame, addr netip.Addr) (count int) {
	for _, f := range frames {
		ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if ok && (ip.SrcIP.Equal(addr.AsSlice()) || ip.DstIP.Equal(addr.AsSlice())) {
			count++
		}
	}
	return count
}

func unmapped(addrPort string) string {
	a, err := netip.ParseAddrPort(addrPort)
	if err != nil {
		return addrPort
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// Both kinds of socket take the same way: IPv6 ones know IPv4 addresses as mapped ones.
func TestIPv6SocketsSpeakToServices(t *testing.T) { inServiceModes(t, testIPv6SocketsSpeakToServices) }

func testIPv6SocketsSpeakToServices(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	l.balance(both(demo(ready(b, n)))...)
	sign(t, b.NS)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(clusterIP.As16()), port)
	for _, network := range []string{"tcp6", "udp6"} {
		for _, got := range n.inCgroup(a.NS, conversation{Network: "raw-" + network, To: []netip.AddrPort{mapped}}) {
			if got.Err != "" || got.Answer != b.NS.Name || got.Peer != mapped.String() {
				t.Errorf("%s: got %+v, want an answer of %s from %s", network, got, b.NS.Name, mapped)
			}
		}
	}
}

func TestSocketsAreRefused(t *testing.T) { inServiceModes(t, testSocketsAreRefused) }

func testSocketsAreRefused(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, c := n.addPod("a"), m.addPod("c")
	local := demo(ready(c, m))
	local.Name, local.InternalLocal = "local", true
	local.Frontends = []lb.Frontend{{Kind: lb.ClusterIP, Addr: netip.MustParseAddr("10.96.0.11"), Port: port}}
	l.balance(append(both(demo()), both(local)...)...)
	none, notHere := netip.AddrPortFrom(clusterIP, port), netip.MustParseAddrPort("10.96.0.11:8080")
	for _, network := range []string{"tcp", "udp", "udp-unconnected"} {
		for name, from := range map[string]*netnstest.NS{"a pod": a.NS, "a process of the node": n.NS} {
			if from == a.NS && network == "udp-unconnected" {
				continue // nobody tells such a socket
			}
			got := n.inCgroup(from, conversation{Network: network, To: []netip.AddrPort{none}})[0]
			if !strings.Contains(got.Err, "connection refused") {
				t.Errorf("%s, %s, no backend: got %+v, want a refusal", name, network, got)
			}
			got = n.inCgroup(from, conversation{Network: network, To: []netip.AddrPort{notHere}})[0]
			if from == a.NS && network == "udp" {
				if !strings.Contains(got.Err, "timeout") || n.packets("no-local-backend", datapath.FromPod) == 0 {
					t.Errorf("%s, %s, no local backend: got %+v, want the datagram to be dropped", name, network, got)
				}
			} else if !strings.Contains(got.Err, "no route to host") {
				t.Errorf("%s, %s, no local backend: got %+v, want no route", name, network, got)
			}
		}
	}
}

// NodePorts are at the addresses of others' devices, whatever these are called, and not at those of wirelab's.
func TestNodePortAtOthersDevices(t *testing.T) {
	l := newLab(t, 1, replacement)
	n := l.nodes[0]
	b := n.addPod("b")
	n.Run("ip", "link", "add", "lxcbr0", "type", "bridge")
	bridge := netip.MustParseAddr("192.168.44.1")
	n.AddAddr("lxcbr0", netip.PrefixFrom(bridge, 24))
	n.Run("ip", "link", "set", "lxcbr0", "up")
	n.balance(lb.State{Services: both(withNodePort(demo(ready(b, n))))})
	sign(t, b.NS)
	ask := func(addr netip.Addr) told {
		return n.inCgroup(n.NS, conversation{Network: "tcp", To: []netip.AddrPort{netip.AddrPortFrom(addr, nodePort)}})[0]
	}
	if got := ask(bridge); got.Answer != b.NS.Name {
		t.Errorf("at a bridge's address the node got %+v, want an answer of %s", got, b.NS.Name)
	}
	if got := ask(n.cfg.Router()); got.Err == "" {
		t.Errorf("at the router's address the node got %+v", got)
	}
}

// Loopback is each namespace's own: the node's processes find NodePorts at each of its addresses, and hostPorts at
// the one that they name; a pod finds itself.
func TestNodePortOnLoopback(t *testing.T) { inServiceModes(t, testNodePortOnLoopback) }

func testNodePortOnLoopback(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	own := netip.MustParseAddr("127.0.0.1")
	const hostPort = 9000
	n.balance(lb.State{
		Services: both(withNodePort(demo(ready(b, n)))),
		HostPorts: []lb.HostPort{
			{Proto: "tcp", HostIP: own, Port: hostPort, Backend: b.at(port)},
			{Proto: "udp", HostIP: own, Port: hostPort, Backend: b.at(port)},
		},
	})
	sign(t, b.NS)
	a.Do(func() {
		l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", nodePort))
		must(t, err)
		c, err := net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", nodePort))
		must(t, err)
		t.Cleanup(func() { l.Close(); c.Close() })
		go signTCP(l, a.NS.Name)
		go signUDP(c.(*net.UDPConn), a.NS.Name)
	})
	ask := func(from *netnstest.NS, network string, to netip.AddrPort) told {
		return n.inCgroup(from, conversation{Network: network, To: []netip.AddrPort{to}})[0]
	}
	networks := []string{"tcp", "udp", "udp-unconnected"}
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "127.255.3.4", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:127.0.0.9", "::ffff:0.0.0.0"} {
		loopback := netip.MustParseAddr(addr)
		if loopback.Is4In6() {
			networks = []string{"raw-tcp6", "raw-udp6"}
		}
		for _, network := range networks {
			to := netip.AddrPortFrom(loopback, nodePort)
			if got := ask(n.NS, network, to); got.Answer != b.NS.Name || unmapped(got.Peer) != unmapped(to.String()) {
				t.Errorf("%s: the node got %+v at %s, want an answer of %s from there", network, got, to, b.NS.Name)
			}
			if network == "udp-unconnected" {
				continue // where nobody answers, nobody would tell it
			}
			if got := ask(n.NS, network, netip.AddrPortFrom(loopback, port)); got.Err == "" {
				t.Errorf("%s: the node got %+v at %s, where a ClusterIP's port is nobody's", network, got, loopback)
			}
			got, here := ask(n.NS, network, netip.AddrPortFrom(loopback, hostPort)), loopback.Unmap() == own
			if here != (got.Answer == b.NS.Name) || here == (got.Err != "") {
				t.Errorf("%s: the node got %+v from a hostPort of 127.0.0.1 at %s", network, got, loopback)
			}
		}
	}
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0"} { // without connect, as Linux answers from 127.0.0.1
		for _, network := range []string{"tcp", "udp-unconnected"} {
			if got := ask(a.NS, network, netip.AddrPortFrom(netip.MustParseAddr(addr), nodePort)); got.Answer != a.NS.Name {
				t.Errorf("%s: a pod got %+v at its own %s, want its own answer", network, got, addr)
			}
		}
	}
	for _, addr := range []string{"::1", "::"} {
		for _, network := range []string{"raw-tcp6", "raw-udp6"} {
			if got := ask(n.NS, network, netip.AddrPortFrom(netip.MustParseAddr(addr), nodePort)); got.Err == "" {
				t.Errorf("%s: the node got %+v at %s", network, got, addr)
			}
		}
	}
}

// One UDP socket speaks to a Service and to its backend by its own address: each answer comes from where
// it was asked.
func TestUnconnectedSocketToServiceAndBackend(t *testing.T) {
	inServiceModes(t, testUnconnectedSocketToServiceAndBackend)
}

func testUnconnectedSocketToServiceAndBackend(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	l.balance(both(demo(ready(b, n)))...)
	sign(t, b.NS)
	service, direct := netip.AddrPortFrom(clusterIP, port), b.at(port)
	for name, from := range map[string]*netnstest.NS{"a pod": a.NS, "a process of the node": n.NS} {
		for _, to := range [][]netip.AddrPort{{service, direct, service, direct}, {direct, service, direct, service}} {
			for i, got := range n.inCgroup(from, conversation{Network: "udp-unconnected", To: to}) {
				if got.Err != "" || unmapped(got.Peer) != to[i].String() {
					t.Errorf("%s, %d: got %+v, want an answer from %s", name, i, got, to[i])
				}
			}
		}
	}
}

func TestSocketAffinity(t *testing.T) { inServiceModes(t, testSocketAffinity) }

func testSocketAffinity(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, other := n.addPod("a"), n.addPod("other")
	var list []lb.Backend
	for _, name := range []string{"b", "c", "d", "e"} {
		p := n.addPod(name)
		list = append(list, ready(p, n))
		sign(t, p.NS)
	}
	s := demo(list...)
	s.Affinity = time.Hour
	l.balance(both(s)...)
	ask := conversation{Network: "tcp", To: []netip.AddrPort{netip.AddrPortFrom(clusterIP, port)}, Count: 20}
	for _, from := range []*netnstest.NS{a.NS, other.NS, n.NS} {
		found := map[string]bool{}
		for _, got := range n.inCgroup(from, ask) {
			found[got.Answer+got.Err] = true
		}
		if len(found) != 1 {
			t.Errorf("%s got %v", from.Name, found)
		}
	}
}
