package netnstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// ProbeTimeout is how long a probe waits for an answer, also on a machine that is busy.
const ProbeTimeout = 5 * time.Second

// NoAnswer is long enough for an answer that takes microseconds: for probes that want none, beside one
// that shows that there would be one.
const NoAnswer = 500 * time.Millisecond

// ServeTCP answers on addr (port 0: any) until the test ends: it says what address the client has and
// then echoes.
func (n *NS) ServeTCP(addr netip.AddrPort) netip.AddrPort {
	n.tb.Helper()
	var l net.Listener
	n.Do(func() {
		var err error
		l, err = net.Listen("tcp4", addr.String())
		n.must(err, "listen")
	})
	ended, end := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ended, func() { c.Close() })() // the client may be gone without a word
				fmt.Fprintf(c, "%s\n", c.RemoteAddr())
				io.Copy(c, c)
			})
		}
	})
	n.tb.Cleanup(func() {
		l.Close()
		end()
		conns.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// ServeUDP answers each datagram with the client's address, a newline and the datagram.
func (n *NS) ServeUDP(addr netip.AddrPort) netip.AddrPort {
	n.tb.Helper()
	var c *net.UDPConn
	n.Do(func() {
		var err error
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		n.must(err, "listen")
	})
	var server sync.WaitGroup
	server.Go(func() {
		buf := make([]byte, 65536)
		for {
			size, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(append([]byte(from.String()+"\n"), buf[:size]...), from)
		}
	})
	n.tb.Cleanup(func() {
		c.Close()
		server.Wait()
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Dial opens a connection from the namespace.
func (n *NS) Dial(network string, to netip.AddrPort) (net.Conn, error) {
	n.tb.Helper()
	return n.dial(nil, network, to)
}

// dial opens a connection from an address of the client; nil: any.
func (n *NS) dial(from net.Addr, network string, to netip.AddrPort) (c net.Conn, err error) {
	n.tb.Helper()
	dialer := net.Dialer{Timeout: ProbeTimeout, Control: resetOnClose, LocalAddr: from}
	n.Do(func() { c, err = dialer.Dial(network, to.String()) })
	return c, err
}

// resetOnClose makes tests leave no TIME_WAIT behind.
func resetOnClose(network, _ string, raw syscall.RawConn) error {
	if network != "tcp4" && network != "tcp" {
		return nil
	}
	var err error
	return errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}), err)
}

// Ask connects to a server of ServeTCP or ServeUDP, sends payload, expects it back, and returns the
// address that the server saw.
func (n *NS) Ask(network string, to netip.AddrPort, payload []byte) (seen netip.Addr, err error) {
	n.tb.Helper()
	c, err := n.Dial(network, to)
	if err != nil {
		return seen, err
	}
	return converse(c, payload)
}

func converse(c net.Conn, payload []byte) (seen netip.Addr, err error) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(ProbeTimeout))
	if _, err := c.Write(payload); err != nil {
		return seen, err
	}
	var got []byte
	buf := make([]byte, 65536)
	for {
		size, err := c.Read(buf)
		if err != nil {
			return seen, err
		}
		got = append(got, buf[:size]...)
		line, back, found := bytes.Cut(got, []byte("\n"))
		if !found || len(back) < len(payload) {
			continue
		}
		addr, err := netip.ParseAddrPort(string(line))
		if err == nil && !bytes.Equal(back, payload) {
			err = fmt.Errorf("%d bytes came back changed", len(payload))
		}
		return addr.Addr(), err
	}
}

// Echo is an ICMP answer.
type Echo struct {
	From netip.Addr
	TTL  int
	Type icmp.Type
}

// PingOptions change an echo request.
type PingOptions struct {
	// TTL of the request; 0 means 64.
	TTL int
	// Size of the IP packet; 0 means 84. Requests have the DF bit set.
	Size int
	// Timeout is ProbeTimeout unless set.
	Timeout time.Duration
}

// Ping sends one echo request and waits for the answer to it: a reply, or an error about it.
func (n *NS) Ping(to netip.Addr, opts PingOptions) (echo Echo, err error) {
	n.tb.Helper()
	var c *icmp.PacketConn
	n.Do(func() {
		c, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		n.must(err, "open ICMP socket")
	})
	defer c.Close()
	const id = 0x1ab
	if opts.Size == 0 {
		opts.Size = 84
	}
	if opts.TTL == 0 {
		opts.TTL = 64
	}
	if opts.Timeout == 0 {
		opts.Timeout = ProbeTimeout
	}
	if err := prepare(c, opts); err != nil {
		return echo, err
	}
	body := &icmp.Echo{ID: id, Seq: 1, Data: make([]byte, opts.Size-28)}
	request, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: body}).Marshal(nil)
	if err != nil {
		return echo, err
	}
	if _, err := c.WriteTo(request, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return echo, err
	}
	return awaitEcho(c, id)
}

func prepare(c *icmp.PacketConn, opts PingOptions) error {
	p := c.IPv4PacketConn()
	raw, err := p.PacketConn.(*net.IPConn).SyscallConn()
	if err != nil {
		return err
	}
	var df error
	err = raw.Control(func(fd uintptr) {
		df = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	})
	return errors.Join(err, df, p.SetTTL(opts.TTL), p.SetControlMessage(ipv4.FlagTTL, true), c.SetReadDeadline(time.Now().Add(opts.Timeout)))
}

func awaitEcho(c *icmp.PacketConn, id int) (echo Echo, err error) {
	buf := make([]byte, 65536)
	for {
		size, control, from, err := c.IPv4PacketConn().ReadFrom(buf)
		if err != nil {
			return echo, err
		}
		m, err := icmp.ParseMessage(1, buf[:size])
		if err != nil {
			return echo, err
		}
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		echo = Echo{From: addr.Unmap(), TTL: control.TTL, Type: m.Type}
		switch body := m.Body.(type) {
		case *icmp.Echo:
			if m.Type == ipv4.ICMPTypeEchoReply && body.ID == id {
				return echo, nil
			}
		case *icmp.TimeExceeded, *icmp.DstUnreach:
			return echo, nil
		}
	}
}

// AskFrom is Ask from a given port.
func (n *NS) AskFrom(clientPort int, network string, to netip.AddrPort, payload []byte) (seen netip.Addr, err error) {
	n.tb.Helper()
	var from net.Addr = &net.UDPAddr{Port: clientPort}
	if network == "tcp4" {
		from = &net.TCPAddr{Port: clientPort}
	}
	c, err := n.dial(from, network, to)
	if err != nil {
		return seen, err
	}
	return converse(c, payload)
}

// ExpectRefused fails the test unless the other end of a UDP connection says that nobody listens.
func ExpectRefused(tb testing.TB, c net.Conn) {
	tb.Helper()
	c.SetDeadline(time.Now().Add(ProbeTimeout))
	if _, err := c.Write([]byte("hello")); err != nil {
		tb.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 16)); !errors.Is(err, unix.ECONNREFUSED) {
		tb.Errorf("got %v, want a refusal", err)
	}
}
