package agent

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/internal/mtls/mtlstest"
	"wirelab.dev/wirelab/internal/serve"
)

// relayPort is an agent's port for the relay, on loopback, and who has signed certificates.
func relayPort(t *testing.T) (a *mtlstest.Authority, addr string, buffer *flows.Buffer) {
	t.Helper()
	a = mtlstest.New(t)
	a.Sign(t, "tls", api.AgentCertName, time.Now().Add(time.Hour))
	a.Sign(t, "relay", api.RelayCertName, time.Now().Add(time.Hour))
	agent := &Agent{cfg: config.Config{NodeName: "n1"}, log: slog.New(slog.NewTextHandler(io.Discard, nil)), started: time.Now()}
	buffer = flows.NewBuffer("n1", 16, 0)
	agent.node.Store(&node{flows: buffer, who: flows.NewWho(identity.NewNumbers())})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.TLS(ctx, l, mtls.InDir(a.Dir).Renewed(api.RelayCertName, nil), agent.relayHandler(), agent.log)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return a, l.Addr().String(), buffer
}

func asRelay(t *testing.T, a *mtlstest.Authority, file string) *tls.Config {
	t.Helper()
	c, err := mtls.Files{Cert: a.File(file + ".crt"), Key: a.File(file + ".key"), CA: a.File("ca.crt")}.Client(time.Now(), api.AgentCertName)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func over(secure *tls.Config, addr string) *client.Client {
	d := tls.Dialer{Config: secure}
	return client.NewOver(addr, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) })
}

// TestRelayIsAnswered with flows and how many are kept, and nobody else is, other agents included.
func TestRelayIsAnswered(t *testing.T) {
	a, addr, buffer := relayPort(t)
	buffer.Put(api.FlowRecord{Node: "n1", Time: time.Now(), Length: 7})
	relay := over(asRelay(t, a, "relay"), addr)
	s, err := relay.Status(t.Context())
	if err != nil || s.Node != "n1" || s.Flows == nil || s.Flows.Kept != 1 || s.Started.IsZero() {
		t.Errorf("the status is %+v, %v", s, err)
	}
	var got []int
	for line, err := range relay.FlowRecords(t.Context(), api.FlowFilter{Last: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Flow != nil {
			got = append(got, line.Flow.Length)
		}
	}
	if len(got) != 1 || got[0] != 7 {
		t.Errorf("the flows are %v", got)
	}
	if _, err := over(asRelay(t, a, "tls"), addr).Status(t.Context()); err == nil {
		t.Error("another agent is answered")
	}
	plain := client.NewOver(addr, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	})
	if _, err := plain.Status(t.Context()); err == nil {
		t.Error("who speaks without TLS is answered")
	}
}

// TestRelayMayOnlyRead: nothing but flows is told, and nothing can be changed.
func TestRelayMayOnlyRead(t *testing.T) {
	a, addr, _ := relayPort(t)
	c := http.Client{Transport: &http.Transport{TLSClientConfig: asRelay(t, a, "relay")}}
	for _, path := range []string{api.EndpointsPath, api.MonitorPath, api.IdentitiesPath, api.PausePath, api.FlowsPath} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+addr+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		for _, req.Method = range []string{http.MethodGet, http.MethodPost} {
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %s", req.Method, path, resp.Status)
			}
		}
	}
}

// TestRelayFollows for longer than a request may take to be sent.
func TestRelayFollows(t *testing.T) {
	t.Parallel()
	a, addr, buffer := relayPort(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began := time.Now()
	put := false
	for line, err := range over(asRelay(t, a, "relay"), addr).FlowRecords(ctx, api.FlowFilter{Follow: true}) {
		switch {
		case err != nil:
			t.Fatalf("after %s: %v", time.Since(began), err)
		case line.Flow != nil:
			return
		case !put && time.Since(began) > 11*time.Second:
			put = true
			buffer.Put(api.FlowRecord{Node: "n1", Time: time.Now()})
		}
	}
	t.Error("what came after 11 s is not told")
}
