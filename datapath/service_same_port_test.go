package datapath_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/netnstest"
)

// A client elsewhere that speaks to a backend through a nodePort of the backend's node, and to its own address, at the same
// time and from the same port, has answers from each.
func TestSamePortAtOnce(t *testing.T) {
	inServiceLabs(t, 2, testSamePortAtOnce)
	inTunnels(t, func(t *testing.T, tn tunnel) {
		inServiceModes(t, func(t *testing.T, mode setup) { testSamePortAtOnce(t, newLab(t, 2, mode, tn.between)) })
	})
}

func testSamePortAtOnce(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	b, c := n.addPod("b"), m.addPod("c")
	l.balance(both(withNodePort(demo(ready(b, n))))...)
	serve(b.NS)
	service, direct := netip.AddrPortFrom(n.Host.Addr, nodePort), b.at(port)
	clientPort := 40000
	for _, network := range []string{"tcp4", "udp4"} {
		for order, way := range map[string][]netip.AddrPort{"the Service first": {service, direct}, "the backend first": {direct, service}} {
			clientPort++
			t.Run(network+", "+order, func(t *testing.T) {
				var conns []net.Conn
				for _, to := range way {
					conns = append(conns, dialShared(t, c.NS, network, clientPort, to))
					for range 2 { // those that are open go on
						for i, conn := range conns {
							if err := said(conn, c.Addr); err != nil {
								t.Errorf("%s, when %s was spoken to: %v", way[i], to, err)
							}
						}
					}
				}
			})
		}
	}
}

// A client's port is used again and again, now through the nodePort, now for the backend's own address, while the backend's end
// of the connection before is in TIME_WAIT: each is answered, as the first SYN is for nobody else.
func TestSamePortInTurn(t *testing.T) { inServiceLabs(t, 2, testSamePortInTurn) }

func testSamePortInTurn(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	b, c := n.addPod("b"), m.addPod("c")
	l.balance(both(withNodePort(demo(ready(b, n))))...)
	acceptAll(t, b.NS, func(c net.Conn) { io.WriteString(c, "bye") }) // it ends each connection first
	for i := range 24 {
		to := netip.AddrPortFrom(n.Host.Addr, nodePort)
		if i%3 == 0 {
			to = b.at(port)
		}
		conn := dialShared(t, c.NS, "tcp4", 40000, to)
		conn.SetDeadline(time.Now().Add(netnstest.ProbeTimeout))
		if said, err := io.ReadAll(conn); err != nil || string(said) != "bye" {
			t.Errorf("connection %d, to %s: %q, %v", i, to, said, err)
		}
		conn.Close()
	}
}

// said says something to a server of serve, which is to see it come from client.
func said(conn net.Conn, client netip.Addr) error {
	conn.SetDeadline(time.Now().Add(netnstest.ProbeTimeout))
	if _, err := fmt.Fprintln(conn, "x"); err != nil {
		return err
	}
	lines := bufio.NewReader(conn)
	seen, err := lines.ReadString('\n')
	if err != nil || seen == "x\n" { // a connection is told once who it comes from
		return err
	}
	if at, err := netip.ParseAddrPort(strings.TrimSpace(seen)); err != nil || at.Addr() != client {
		return fmt.Errorf("it is seen as %q, %v, want %s", seen, err, client)
	}
	_, err = lines.ReadString('\n')
	return err
}
