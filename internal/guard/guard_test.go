package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// serve answers "hello" on a port, and on /slow once it is let go.
func serve(t *testing.T, bound bool) (addr string, letGo chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	letGo = make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "half")
		http.NewResponseController(w).Flush() //nolint:errcheck // the test sees what came
		select {
		case <-letGo:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "whole")
	})
	srv := &http.Server{Handler: mux}
	if bound {
		HTTP(srv)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String(), letGo
}

// dial connects from an address of this machine's own.
func dial(t *testing.T, from netip.Addr, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 5 * time.Second}
	c, err := d.Dial("tcp4", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(t *testing.T, from netip.Addr, to, path string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	client := http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func source(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte(1 + i/200), byte(1 + i%200)})
}

// open says how many of the connections the server has not closed.
func open(conns []net.Conn) (n int) {
	buf := make([]byte, 1)
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(time.Millisecond)) //nolint:errcheck // the read says it
		if _, err := c.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			n++
		}
	}
	return n
}

// TestIdleConnectionsKeepNobodyOut holds that however many hold connections,
// and do nothing with them or little, the next one is answered.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	self := source(0)
	for name, tc := range map[string]struct {
		sources, each int
		begin         string // of a request that is never ended
		atMost        int
	}{
		"of the same source":                  {1, 500, "", MaxPerSource},
		"of the same source, with a header":   {1, 500, "GET / HTTP/1.1\r\nHost: x\r\n", MaxPerSource},
		"of many sources":                     {100, 5, "", MaxConns},
		"of many sources, with a header each": {100, 5, "GET / HTTP/1.1\r\n", MaxConns},
		"one of each of many sources":         {500, 1, "", MaxConns},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, _ := serve(t, true)
			var idle []net.Conn
			for i := range tc.each {
				for s := range tc.sources {
					c := dial(t, source(s), addr)
					if _, err := c.Write([]byte(tc.begin)); err != nil && i == 0 && s == 0 {
						t.Fatal(err)
					}
					idle = append(idle, c)
				}
			}
			for range 20 {
				if body, err := ask(t, self, addr, "/"); body != "hello" {
					t.Fatalf("the answer is %q, %v", body, err)
				}
			}
			if n := open(idle); n > tc.atMost || n < tc.atMost/2 {
				t.Errorf("%d connections are left open, want %d at most", n, tc.atMost)
			}
		})
	}
}

// TestManySourcesSpareFewConnections holds that it is who has many connections
// that pays for one too many, and not who has been there for longest.
func TestManySourcesSpareFewConnections(t *testing.T) {
	addr, letGo := serve(t, true)
	answer := make(chan string)
	go func() {
		body, _ := ask(t, source(0), addr, "/slow")
		answer <- body
	}()
	kept := dial(t, source(1), addr) // one that waits to be used again
	if _, err := kept.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	if _, err := kept.Read(buf); err != nil {
		t.Fatal(err)
	}
	for i := range 20 * MaxPerSource {
		dial(t, source(10+i%10), addr)
	}
	if body, err := ask(t, source(2), addr, "/"); body != "hello" {
		t.Errorf("the answer is %q, %v", body, err)
	}
	close(letGo)
	if body := <-answer; body != "halfwhole" {
		t.Errorf("an answer under way is %q", body)
	}
	if _, err := kept.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	kept.SetReadDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // the read says it
	if _, err := kept.Read(buf); err != nil {
		t.Errorf("a connection that was to be used again: %v", err)
	}
}

// TestUnboundServersHoldThemAll is the control: it is the guard that closes.
func TestUnboundServersHoldThemAll(t *testing.T) {
	addr, _ := serve(t, false)
	var idle []net.Conn
	for range 2 * MaxConns {
		idle = append(idle, dial(t, source(0), addr))
	}
	if n := open(idle); n != len(idle) {
		t.Errorf("%d of %d connections are open", n, len(idle))
	}
}

// TestAnswersUnderWayAreEnded holds that idle connections, also of the same source, cut no answer off.
func TestAnswersUnderWayAreEnded(t *testing.T) {
	addr, letGo := serve(t, true)
	answer := make(chan string)
	slow := dial(t, source(0), addr)
	if _, err := slow.Write([]byte("GET /slow HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	begin := make([]byte, 4096)
	n, err := slow.Read(begin) // it is being answered
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		slow.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // the read says it
		rest, _ := io.ReadAll(slow)
		answer <- string(begin[:n]) + string(rest)
	}()
	for range 4 * MaxPerSource {
		dial(t, source(0), addr)
	}
	if body, err := ask(t, source(0), addr, "/"); body != "hello" {
		t.Errorf("the answer is %q, %v", body, err)
	}
	close(letGo)
	if got := <-answer; !strings.HasSuffix(got, "halfwhole") {
		t.Errorf("an answer under way is %q", got)
	}
}

// TestNothingIsLeftOfConnections holds that the books are closed with them.
func TestNothingIsLeftOfConnections(t *testing.T) {
	c := newConns(4, 2)
	var all []net.Conn
	for i := range 50 {
		client, server := net.Pipe()
		t.Cleanup(func() { client.Close(); server.Close() })
		nc := fromSource{server, source(i % 7)}
		c.track(nc, http.StateNew)
		c.track(nc, http.StateActive)
		if len(c.open) > 4 {
			t.Fatalf("%d are open", len(c.open))
		}
		all = append(all, nc)
	}
	for _, nc := range all {
		c.track(nc, http.StateIdle)
		c.track(nc, http.StateClosed)
	}
	if len(c.open) != 0 || len(c.sources) != 0 {
		t.Errorf("left are %v and %v", c.open, c.sources)
	}
}

type fromSource struct {
	net.Conn
	addr netip.Addr
}

func (f fromSource) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.addr, 1))
}
