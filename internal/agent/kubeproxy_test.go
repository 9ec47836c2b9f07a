package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/logtest"
	"wirelab.dev/wirelab/internal/mtls/mtlstest"
)

// testService is the Service of an API server that serveService is; without an address there is none.
func testService(addr string) *apiserver.Service {
	if addr == "" {
		return nil
	}
	server := httptest.NewTLSServer(nil) // of which the certificate is the same in every process
	defer server.Close()
	trust := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"}
	trust.RootCAs.AddCert(server.Certificate())
	return apiserver.NewService(addr, trust)
}

// serveService answers at l as an API server does.
func serveService(t *testing.T, l net.Listener) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Listener.Close()
	server.Listener = l
	server.StartTLS()
	t.Cleanup(server.Close)
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// unused is a local address at which nobody listens as yet.
func unused(t *testing.T) string {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	return l.Addr().String()
}

// Pods wait for the API server at the Service's address. Who else answers there, as a proxy outside does, is not it.
func TestPodsWaitForKubeProxy(t *testing.T) {
	log := &logtest.Buffer{}
	addr := unused(t)
	p := newKubeProxy(testService(addr), slog.New(slog.NewTextHandler(log, nil)))
	go p.run(t.Context(), time.Minute)
	eventually(t, "somebody was asked", func() bool { return strings.Contains(strings.Join(p.problems(), ""), "refused") })
	stranger := mtlstest.New(t)
	stranger.Sign(t, "server", "example.com", time.Now().Add(time.Hour))
	strange, err := tls.LoadX509KeyPair(stranger.File("server.crt"), stranger.File("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	for what, other := range map[string]func(net.Listener) net.Listener{
		"certificate": func(l net.Listener) net.Listener {
			return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{strange}})
		},
		"EOF": func(l net.Listener) net.Listener { return l },
	} {
		l := other(listen(t, addr))
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				if c, ok := conn.(*tls.Conn); ok {
					c.Handshake() //nolint:errcheck // it is to fail
				}
				conn.Close()
			}
		}()
		eventually(t, "another was asked: "+what, func() bool { return strings.Contains(strings.Join(p.problems(), ""), what) })
		l.Close()
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.await(short); err == nil {
		t.Error("a pod does not wait")
	}
	serveService(t, listen(t, addr))
	if err := p.await(t.Context()); err != nil {
		t.Error(err)
	}
	if got := p.problems(); len(got) != 0 {
		t.Errorf("pods still wait: %v", got)
	}
	if got := log.String(); strings.Contains(got, "WARN") || !strings.Contains(got, addr) {
		t.Errorf("the log says %s", got)
	}
}

// A kube-proxy that never translates anything holds pods up for as long as patience, and no kube-proxy holds up none.
func TestPodsWaitForKubeProxyInVain(t *testing.T) {
	log := &logtest.Buffer{}
	p := newKubeProxy(testService(unused(t)), slog.New(slog.NewTextHandler(log, nil)))
	start := time.Now()
	const patience = 300 * time.Millisecond
	go p.run(t.Context(), patience)
	if err := p.await(t.Context()); err != nil || time.Since(start) < patience {
		t.Errorf("pods waited %s: %v", time.Since(start), err)
	}
	if got := p.problems(); len(got) != 0 {
		t.Errorf("pods still wait: %v", got)
	}
	if got := log.String(); !strings.Contains(got, "WARN") || !strings.Contains(got, p.service.Addr) {
		t.Errorf("the log says %s", got)
	}
	none := newKubeProxy(nil, slog.New(slog.DiscardHandler))
	none.run(t.Context(), time.Minute)
	if err := none.await(t.Context()); err != nil || none.problems() != nil {
		t.Errorf("without a Service: %v, %v", err, none.problems())
	}
}
