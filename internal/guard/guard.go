// Package guard bounds what strangers can make a daemon's HTTP ports hold, in
// such a way that whoever comes next is answered.
package guard

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Connections open at a time. Who asks one of these ports is a handful
// of hosts, or nodes that take turns, and each answer takes milliseconds.
const (
	MaxConns     = 256
	MaxPerSource = 32
)

// HTTP bounds srv before it serves: how many connections are open, how long
// each of them may take, and how large a request's header is. A connection too
// many is not refused, since those that are idle would keep out who has
// something to ask. Instead it takes the place of the one that has done nothing
// for longest: of its own source's when that has too many, otherwise of the
// source's that has the most. One with a request that is being answered goes
// only when all others of that source have one, too.
func HTTP(srv *http.Server) {
	srv.ReadHeaderTimeout = 5 * time.Second
	srv.ReadTimeout = 10 * time.Second
	srv.WriteTimeout = 30 * time.Second
	srv.IdleTimeout = 2 * time.Minute // longer than Prometheus and load balancers are silent
	srv.MaxHeaderBytes = 16 << 10
	srv.ConnState = newConns(MaxConns, MaxPerSource).track
}

// conns are a server's open connections.
type conns struct {
	max, maxPerSource int

	mu      sync.Mutex
	open    map[net.Conn]*conn
	sources map[netip.Addr]int
	clock   uint64 // counts what connections do
}

type conn struct {
	source netip.Addr
	used   uint64 // clock when it last began or ended something
	busy   bool   // its request is being answered
}

func newConns(most, mostPerSource int) *conns {
	return &conns{max: most, maxPerSource: mostPerSource, open: map[net.Conn]*conn{}, sources: map[netip.Addr]int{}}
}

// track is told by the server of each connection's states. A new one is
// announced before the server reads from it.
func (c *conns) track(nc net.Conn, state http.ConnState) {
	if victim := c.note(nc, state); victim != nil {
		victim.Close() //nolint:errcheck // the server sees that it is closed
	}
}

// note returns the connection that has to go, if one has.
func (c *conns) note(nc net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	switch state {
	case http.StateNew:
		one := &conn{source: sourceOf(nc), used: c.clock}
		c.open[nc] = one
		c.sources[one.source]++
		victim = c.tooMany(nc, one.source)
		c.forget(victim)
	case http.StateActive, http.StateIdle:
		if one := c.open[nc]; one != nil {
			one.used, one.busy = c.clock, state == http.StateActive
		}
	case http.StateClosed, http.StateHijacked:
		c.forget(nc)
	}
	return victim
}

// tooMany returns the connection that has to go for the newest, if one has.
func (c *conns) tooMany(newest net.Conn, from netip.Addr) net.Conn {
	switch {
	case c.sources[from] > c.maxPerSource:
		return c.stalest(newest, func(source netip.Addr) bool { return source == from })
	case len(c.open) > c.max:
		most := 0
		for _, n := range c.sources {
			most = max(most, n)
		}
		return c.stalest(newest, func(source netip.Addr) bool { return c.sources[source] == most })
	}
	return nil
}

// stalest is another than the newest; nil when there is no other.
func (c *conns) stalest(newest net.Conn, of func(source netip.Addr) bool) (found net.Conn) {
	for nc, one := range c.open {
		if nc != newest && of(one.source) && (found == nil || goesBefore(one, c.open[found])) {
			found = nc
		}
	}
	return found
}

func goesBefore(x, y *conn) bool {
	if x.busy != y.busy {
		return y.busy
	}
	return x.used < y.used
}

func (c *conns) forget(nc net.Conn) {
	one := c.open[nc]
	if one == nil {
		return
	}
	delete(c.open, nc)
	if c.sources[one.source]--; c.sources[one.source] == 0 {
		delete(c.sources, one.source)
	}
}

// sourceOf is the invalid address for what is no TCP connection.
func sourceOf(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
