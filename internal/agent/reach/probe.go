package reach

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// protocolICMP is ICMP's number in the IPv4 header.
const protocolICMP = 1

// ping waits for the answer to an echo request, which it sends three times if
// need be: one lost packet says nothing about a node. It must be called on a
// thread in the namespace.
func ping(ctx context.Context, addr netip.Addr, timeout time.Duration) (time.Duration, error) {
	conn, err := icmp.ListenPacket("udp4", "0.0.0.0") // "udp": a socket for pings only
	if err != nil {
		return 0, fmt.Errorf("open a socket for pings: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() //nolint:errcheck // it ends the wait
	const tries = 3
	payload := make([]byte, 16)
	rand.Read(payload) // never fails: it would have ended the process
	sent := map[int]time.Time{}
	var last error
	for seq := 1; seq <= tries && ctx.Err() == nil; seq++ {
		request := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Seq: seq, Data: payload}}
		packet, err := request.Marshal(nil)
		if err != nil {
			return 0, fmt.Errorf("make an echo request: %w", err)
		}
		sent[seq] = time.Now()
		if _, err := conn.WriteTo(packet, &net.UDPAddr{IP: addr.AsSlice()}); err != nil {
			last = plain(err)
			continue // it may have met the answer to an earlier one: EHOSTUNREACH
		}
		last = errNoAnswer
		if seq, err := awaitEcho(conn, payload, timeout/tries); err == nil {
			return time.Since(sent[seq]), nil
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			last = plain(err)
		}
	}
	return 0, last
}

var errNoAnswer = errors.New("no answer")

// awaitEcho returns the number of the request that was answered.
func awaitEcho(conn *icmp.PacketConn, payload []byte, timeout time.Duration) (int, error) {
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, fmt.Errorf("set a deadline: %w", err)
	}
	buffer := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return 0, err
		}
		m, err := icmp.ParseMessage(protocolICMP, buffer[:n])
		if err != nil {
			continue
		}
		echo, ok := m.Body.(*icmp.Echo)
		if ok && m.Type == ipv4.ICMPTypeEchoReply && bytes.Equal(echo.Data, payload) {
			return echo.Seq, nil
		}
	}
}

// ask asks the node that answers at addr who it is, and says who asks. It must
// be called on a thread in the namespace.
func ask(ctx context.Context, self string, addr netip.AddrPort, timeout time.Duration) (answer, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	var d net.Dialer // of one address, it dials on this thread
	conn, err := d.DialContext(ctx, "tcp4", addr.String())
	if err != nil {
		return answer{}, 0, plain(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(start.Add(timeout)); err != nil {
		return answer{}, 0, fmt.Errorf("set a deadline: %w", err)
	}
	said, err := exchange(conn, self, addr)
	return said, time.Since(start), err
}

func exchange(conn net.Conn, self string, addr netip.AddrPort) (said answer, err error) {
	req := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: path}, Host: addr.String(),
		Header: http.Header{"User-Agent": {"wirelab-agent"}, asker: {self}}, Close: true,
	}
	if err := req.Write(conn); err != nil {
		return said, plain(err)
	}
	// An answer is some hundred bytes.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 8192)), req)
	if err != nil {
		return said, fmt.Errorf("read the answer: %w", plain(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return said, fmt.Errorf("something else answers on the port: %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || said.Node == "" {
		return said, errors.New("something else answers on the port")
	}
	return said, nil
}

// plain is an error in the few words that tell it from others.
func plain(err error) error {
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errNoAnswer
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errNoAnswer
	}
	return err
}
