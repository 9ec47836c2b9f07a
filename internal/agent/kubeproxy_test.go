package agent

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// unused is a local address at which nobody listens as yet.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestPodsWaitForKubeProxy(t *testing.T) {
	log := &syncBuffer{}
	p := newKubeProxy(unused(t), slog.New(slog.NewTextHandler(log, nil)))
	go p.run(t.Context(), time.Minute)
	eventually(t, "somebody was asked", func() bool { return strings.Contains(strings.Join(p.problems(), ""), "refused") })
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.await(short); err == nil {
		t.Error("a pod does not wait")
	}
	l, err := net.Listen("tcp", p.service)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := p.await(t.Context()); err != nil {
		t.Error(err)
	}
	if got := p.problems(); len(got) != 0 {
		t.Errorf("pods still wait: %v", got)
	}
	if got := log.String(); strings.Contains(got, "WARN") || !strings.Contains(got, p.service) {
		t.Errorf("the log says %s", got)
	}
}

// A kube-proxy that never translates anything holds pods up for as long as patience, and no kube-proxy holds up none.
func TestPodsWaitForKubeProxyInVain(t *testing.T) {
	log := &syncBuffer{}
	p := newKubeProxy(unused(t), slog.New(slog.NewTextHandler(log, nil)))
	start := time.Now()
	const patience = 300 * time.Millisecond
	go p.run(t.Context(), patience)
	if err := p.await(t.Context()); err != nil || time.Since(start) < patience {
		t.Errorf("pods waited %s: %v", time.Since(start), err)
	}
	eventually(t, "nothing is waited for", func() bool { return len(p.problems()) == 0 })
	if got := log.String(); !strings.Contains(got, "WARN") || !strings.Contains(got, p.service) {
		t.Errorf("the log says %s", got)
	}
	none := newKubeProxy("", slog.New(slog.DiscardHandler))
	none.run(t.Context(), time.Minute)
	if err := none.await(t.Context()); err != nil || none.problems() != nil {
		t.Errorf("without a Service: %v, %v", err, none.problems())
	}
}
