package agent

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/logtest"
	"wirelab.dev/wirelab/internal/mtls"
	"wirelab.dev/wirelab/internal/mtls/mtlstest"
	"wirelab.dev/wirelab/internal/serve"
)

// relayPort is an agent's port for the relay, on loopback, and who has signed certificates.
func relayPort(t *testing.T, log io.Writer) (a *mtlstest.Authority, addr string, buffer *flows.Buffer) {
	t.Helper()
	a = mtlstest.New(t)
	a.Sign(t, "tls", api.AgentCertName, time.Now().Add(time.Hour))
	a.Sign(t, "relay", api.RelayCertName, time.Now().Add(time.Hour))
	agent := &Agent{cfg: config.Config{NodeName: "n1"}, log: slog.New(slog.NewTextHandler(log, nil)), started: time.Now()}
	buffer = flows.NewBuffer("n1", 16, nil)
	agent.node.Store(&node{flows: buffer, who: flows.NewWho(identity.NewNumbers())})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	files := relayFiles(a.Dir)
	go func() {
		ended <- serve.TLS(ctx, l, files.Renewed(api.RelayCertName, nil), agent.relayHandler(), agent.log, refusedRelay(files))
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
	a, addr, buffer := relayPort(t, io.Discard)
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

// TestRefusedRelayIsLogged: a certificate that is missing, of another CA or expired is logged with the Secrets and what to do
// about them, whoever's it is. Control: of a relay that is answered nothing is logged.
func TestRefusedRelayIsLogged(t *testing.T) {
	theirs := mtlstest.New(t)
	theirs.Sign(t, "relay", api.RelayCertName, time.Now().Add(time.Hour))
	const mend = "delete the Secrets wirelab-relay-agent and wirelab-relay, and bring the lab up again"
	as := func(a, of *mtlstest.Authority, file string) *tls.Config {
		c, err := mtls.Files{Cert: of.File(file + ".crt"), Key: of.File(file + ".key"), CA: a.File("ca.crt")}.Client(time.Now().Add(-2*time.Minute), api.AgentCertName)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, try := range map[string]struct {
		said string
		wrap func(a *mtlstest.Authority) *tls.Config
	}{
		"of another CA": {"signed by unknown authority", func(a *mtlstest.Authority) *tls.Config { return as(a, theirs, "relay") }},
		"expired": {"certificate has expired", func(a *mtlstest.Authority) *tls.Config {
			a.Sign(t, "old", api.RelayCertName, time.Now().Add(-time.Minute))
			return as(a, a, "old")
		}},
		"the agent's own missing": {"tls.crt of the Secret wirelab-relay-agent with its key", func(a *mtlstest.Authority) *tls.Config {
			c := as(a, a, "relay")
			if err := os.Remove(a.File("tls.crt")); err != nil {
				t.Fatal(err)
			}
			return c
		}},
		"the agent's own expired": {"tls.crt of the Secret wirelab-relay-agent has expired on ", func(a *mtlstest.Authority) *tls.Config {
			a.Sign(t, "tls", api.AgentCertName, time.Now().Add(-time.Minute))
			return as(a, a, "relay")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			log := &logtest.Buffer{}
			a, addr, _ := relayPort(t, log)
			if _, err := over(asRelay(t, a, "relay"), addr).Status(t.Context()); err != nil || log.String() != "" {
				t.Fatalf("of the right relay: %v, logged is %q", err, log)
			}
			if _, err := over(try.wrap(a), addr).Status(t.Context()); err == nil {
				t.Error("it is answered")
			}
			eventually(t, "it is logged", func() bool {
				return strings.Contains(log.String(), "refused a connection") && strings.Contains(log.String(), try.said) && strings.Count(log.String(), mend) == 1
			})
		})
	}
}

// TestRelayMayOnlyRead: nothing but flows is told, and nothing can be changed.
func TestRelayMayOnlyRead(t *testing.T) {
	a, addr, _ := relayPort(t, io.Discard)
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
	a, addr, buffer := relayPort(t, io.Discard)
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
