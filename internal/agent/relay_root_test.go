package agent

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/mtls/mtlstest"
	"wirelab.dev/wirelab/internal/netnstest"
)

// TestRelayOnTheNodesAddress: an agent answers the relay there, and on no other address, where the cluster has one, as soon
// as it has its certificate. Without a relay nothing listens.
func TestRelayOnTheNodesAddress(t *testing.T) {
	netnstest.RequireRoot(t)
	a := mtlstest.New(t)
	a.Sign(t, "relay", api.RelayCertName, time.Now().Add(time.Hour))
	n := newTestNode(t)
	n.cfg.Paths.RelayTLS = a.Dir
	n.start()
	at := func(addr netip.Addr) netip.AddrPort {
		return netip.AddrPortFrom(addr, uint16(n.cfg.Flows.Relay.AgentPort)) //nolint:gosec // a port
	}
	if c, err := n.Dial("tcp4", at(n.Addr)); err == nil {
		c.Close()
		t.Fatal("without a relay something listens for it")
	}

	n.kill()
	n.cfg.Flows.Relay.Enabled = true
	n.start()
	secure := asRelay(t, a, "relay")
	relay := client.NewOver("n1", func(ctx context.Context) (net.Conn, error) {
		c, err := n.Dial("tcp4", at(n.Addr))
		if err != nil {
			return nil, err
		}
		s := tls.Client(c, secure)
		return s, s.HandshakeContext(ctx)
	})
	if _, err := relay.Status(t.Context()); err == nil {
		t.Error("it is answered without the agent's certificate")
	}
	if !n.status().Ready {
		t.Error("without that certificate the node is not ready")
	}
	a.Sign(t, "tls", api.AgentCertName, time.Now().Add(time.Hour))
	if s, err := relay.Status(t.Context()); err != nil || s.Node != "n1" || s.Flows == nil || s.Flows.Capacity != n.cfg.Flows.Capacity {
		t.Errorf("the relay is told %+v, %v", s, err)
	}
	if c, err := n.Dial("tcp4", at(netip.MustParseAddr("127.0.0.1"))); err == nil {
		c.Close()
		t.Error("it listens on other addresses than the node's")
	}
}

// TestRelaysPortIsTaken: a node whose port another process has is ready, says so, and answers the relay once the port is free.
func TestRelaysPortIsTaken(t *testing.T) {
	netnstest.RequireRoot(t)
	a := mtlstest.New(t)
	a.Sign(t, "relay", api.RelayCertName, time.Now().Add(time.Hour))
	a.Sign(t, "tls", api.AgentCertName, time.Now().Add(time.Hour))
	n := newTestNode(t)
	n.cfg.Paths.RelayTLS, n.cfg.Flows.Relay.Enabled = a.Dir, true
	at := netip.AddrPortFrom(n.Addr, uint16(n.cfg.Flows.Relay.AgentPort)) //nolint:gosec // a port
	var taken net.Listener
	var err error
	n.Do(func() { taken, err = net.Listen("tcp4", at.String()) })
	if err != nil {
		t.Fatal(err)
	}
	n.start()
	eventually(t, "it is said", func() bool {
		return strings.Contains(n.log.String(), "listen for flows.relay.agentPort (is the port taken on this node?)") && n.status().Ready
	})
	taken.Close()
	secure := asRelay(t, a, "relay")
	relay := client.NewOver("n1", func(ctx context.Context) (net.Conn, error) {
		c, err := n.Dial("tcp4", at)
		if err != nil {
			return nil, err
		}
		s := tls.Client(c, secure)
		return s, s.HandshakeContext(ctx)
	})
	eventually(t, "the relay is answered", func() bool {
		_, err := relay.Status(t.Context())
		return err == nil
	})
}
