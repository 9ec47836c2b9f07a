package prober

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"

	"wirelab.dev/wirelab/cmd/nettool/internal/pattern"
	"wirelab.dev/wirelab/cmd/nettool/internal/server"
	"wirelab.dev/wirelab/verify/probe"
)

// transferTCP sends the pattern up and has it sent back down over the same
// connection. The server sums what came up, this side what came down.
func transferTCP(ctx context.Context, spec probe.TCP) (*probe.TCPResult, error) {
	result := &probe.TCPResult{}
	var conn connected
	url := "http://" + spec.Address.String() + server.TransferPath
	request, err := http.NewRequestWithContext(conn.watch(ctx), http.MethodPost, url, pattern.Reader(spec.Bytes))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	request.ContentLength = spec.Bytes
	client := &http.Client{Transport: transport(probe.HTTP{})}
	response, err := client.Do(request)
	result.Local = conn.local
	if err != nil {
		return result, failf("%w", conn.explain(err))
	}
	defer response.Body.Close()
	if err := json.Unmarshal([]byte(response.Header.Get(server.IdentityHeader)), &result.Identity); err != nil {
		return result, failf("status %s, and the answer is not from nettool", response.Status)
	}
	_, want, err := pattern.Sum(pattern.Reader(spec.Bytes))
	if err != nil {
		return nil, err
	}
	result.Up = int64(result.Identity.Received)
	if result.Up != spec.Bytes || result.Identity.SHA256 != want {
		return result, failf("%d bytes were sent, %d arrived with checksum %.12s, not %.12s", spec.Bytes, result.Up, result.Identity.SHA256, want)
	}
	down, got, err := pattern.Sum(response.Body)
	result.Down = down
	if err != nil {
		return result, failf("%w", err)
	}
	if down != spec.Bytes || got != want {
		return result, failf("%d bytes were to come back, %d did with checksum %.12s, not %.12s", spec.Bytes, down, got, want)
	}
	return result, nil
}

// connected is the local end of a request's connection, invalid as long as there is none.
type connected struct{ local netip.AddrPort }

func (c *connected) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		c.local = addrPort(info.Conn.LocalAddr())
	}})
}

// explain says of a request that failed how far it came.
func (c *connected) explain(err error) error {
	if !c.local.IsValid() {
		return fmt.Errorf("no connection: %w", err)
	}
	return fmt.Errorf("connected from %s: %w", c.local, err)
}

// addrPort unmaps an IPv4 address that an IPv6 socket shows as ::ffff:a.b.c.d.
func addrPort(addr net.Addr) netip.AddrPort {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
