package prober

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/cmd/nettool/internal/pattern"
	"wirelab.dev/wirelab/verify/probe"
)

// protocolICMP is ICMP's number in the IPv4 header.
const protocolICMP = 1

// codeTooBig is that of "destination unreachable" which says that fragments are needed and forbidden.
const codeTooBig = 4

// echo sends echo requests one after another and stops at the first that is
// not answered.
func echo(ctx context.Context, spec probe.ICMP) (*probe.ICMPResult, error) {
	e, err := openEcho(spec)
	if err != nil {
		return nil, err
	}
	defer e.conn.Close()
	defer until(ctx, e.conn)()
	result := &probe.ICMPResult{}
	for seq := 1; seq <= max(spec.Count, 1); seq++ {
		if err := e.request(seq); err != nil {
			return result, sendFailure(err, len(e.payload))
		}
		result.Sent++
		from, ttl, err := e.reply(seq)
		if err != nil {
			result.MTU = e.mtu
			return result, failf("echo request %d with %d bytes to %s was not answered: %w", seq, len(e.payload), spec.Address, explainRead(ctx, err))
		}
		result.Received++
		result.From, result.TTL = from, ttl
	}
	return result, nil
}

// echoer is one ICMP socket and what its requests look like. Replies are told
// by identifier, sequence and payload.
type echoer struct {
	conn    *ipv4.PacketConn
	to      net.Addr
	id      int
	raw     bool // else the kernel chooses the identifier
	payload []byte
	buffer  []byte
	mtu     int // what an ICMP error has named; 0: none has
}

func openEcho(spec probe.ICMP) (*echoer, error) {
	conn, raw, err := icmpSocket(spec)
	if err != nil {
		return nil, err
	}
	payload, err := echoPayload(spec)
	e := &echoer{conn: ipv4.NewPacketConn(conn), id: mathrand.N(1 << 16), raw: raw, payload: payload, buffer: make([]byte, 1<<16)}
	e.to = &net.IPAddr{IP: spec.Address.AsSlice()}
	if !raw {
		e.to = &net.UDPAddr{IP: spec.Address.AsSlice()}
	}
	if err == nil {
		err = e.conn.SetControlMessage(ipv4.FlagTTL, true)
	}
	if err == nil && spec.TTL > 0 {
		err = e.conn.SetTTL(spec.TTL)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up the ICMP socket: %w", err), conn.Close())
	}
	return e, nil
}

// echoPayload has a head that tells this probe's replies from any other's.
func echoPayload(spec probe.ICMP) ([]byte, error) {
	size := spec.Size
	if size <= 0 {
		size = 56
	}
	marker := spec.Marker
	if marker == "" {
		marker = rand.Text()[:min(16, size)]
	}
	if len(marker) > size {
		return nil, fmt.Errorf("the marker %q does not fit a payload of %d bytes", marker, size)
	}
	payload, err := io.ReadAll(pattern.Reader(int64(size)))
	copy(payload, marker)
	return payload, err
}

// icmpSocket opens a raw socket, or, where that is not allowed, the kind of
// ICMP socket that net.ipv4.ping_group_range allows anyone.
func icmpSocket(spec probe.ICMP) (conn net.PacketConn, raw bool, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	raw = err == nil
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open an ICMP socket (needs CAP_NET_RAW or a group in net.ipv4.ping_group_range): %w", err)
	}
	file := os.NewFile(uintptr(fd), "icmp")
	defer file.Close() // FilePacketConn makes a duplicate
	if spec.DF {
		if err := setDF(fd); err != nil {
			return nil, false, fmt.Errorf("forbid fragments: %w", err)
		}
	}
	conn, err = net.FilePacketConn(file)
	if err != nil {
		return nil, false, fmt.Errorf("open an ICMP socket: %w", err)
	}
	return conn, raw, nil
}

func (e *echoer) request(seq int) error {
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: e.id, Seq: seq, Data: e.payload}}
	b, err := message.Marshal(nil)
	if err != nil {
		return err
	}
	_, err = e.conn.WriteTo(b, nil, e.to)
	return err
}

// reply waits for the answer to request seq, or for an ICMP error about it.
func (e *echoer) reply(seq int) (netip.Addr, int, error) {
	for {
		n, control, from, err := e.conn.ReadFrom(e.buffer)
		if err != nil {
			return netip.Addr{}, 0, err
		}
		message, err := icmp.ParseMessage(protocolICMP, e.buffer[:n])
		if err != nil {
			continue // somebody else's, and broken
		}
		switch body := message.Body.(type) {
		case *icmp.Echo:
			if message.Type != ipv4.ICMPTypeEchoReply || body.Seq != seq || (e.raw && body.ID != e.id) {
				continue
			}
			if !bytes.Equal(body.Data, e.payload) {
				// Identifiers are 16 bits wide: this may be the reply to another process.
				continue
			}
			ttl := 0
			if control != nil {
				ttl = control.TTL
			}
			return hostOf(from), ttl, nil
		case *icmp.DstUnreach:
			if !e.about(body.Data, seq) {
				continue
			}
			if message.Code == codeTooBig {
				e.mtu = int(binary.BigEndian.Uint16(e.buffer[6:]))
				return netip.Addr{}, 0, fmt.Errorf("%s answered: more than its MTU %d, and not to be fragmented", hostOf(from), e.mtu)
			}
			return netip.Addr{}, 0, fmt.Errorf("%s answered: %s, code %d", hostOf(from), message.Type, message.Code)
		case *icmp.TimeExceeded:
			if e.about(body.Data, seq) {
				return netip.Addr{}, 0, fmt.Errorf("%s answered: %s, code %d", hostOf(from), message.Type, message.Code)
			}
		}
	}
}

// about tells whether an ICMP error quotes request seq: it carries the IP
// header and the first 8 bytes of what it complains of.
func (e *echoer) about(quoted []byte, seq int) bool {
	header, err := icmp.ParseIPv4Header(quoted)
	if err != nil || header.Protocol != protocolICMP || len(quoted) < header.Len+8 {
		return false
	}
	inner, err := icmp.ParseMessage(protocolICMP, quoted[header.Len:])
	if err != nil {
		return false
	}
	body, ok := inner.Body.(*icmp.Echo)
	return ok && body.Seq == seq && body.ID == e.id
}

func hostOf(addr net.Addr) netip.Addr {
	var ip net.IP
	switch addr := addr.(type) {
	case *net.IPAddr:
		ip = addr.IP
	case *net.UDPAddr:
		ip = addr.IP
	}
	host, _ := netip.AddrFromSlice(ip)
	return host.Unmap()
}
