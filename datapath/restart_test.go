package datapath_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// Closing and opening again, with other settings too, loses no packet and resets no connection.
func TestRestartLosesNothing(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) { restart(t, mode) })
}

func TestRestartLosesNothingInATunnel(t *testing.T) {
	inTunnelModes(t, func(t *testing.T, _ tunnel, mode setup) { restart(t, mode) })
}

func restart(t *testing.T, with ...func(*datapath.Config)) {
	l := newLab(t, 2, with...)
	a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
	serve(b.NS, c.NS)
	var conns []net.Conn
	for _, client := range []*netnstest.NS{a.NS, l.nodes[0].NS} {
		for _, to := range []*pod{b, c} {
			for _, network := range []string{"tcp4", "udp4"} {
				conns = append(conns, dialFrom(t, client, network, 0, to.at(port)))
			}
		}
	}
	seen, end := pingPong(t, conns)
	seen(1000)
	for i := range 6 {
		for _, n := range l.nodes {
			n.close()
			n.cfg.BPF.MonitorAggregation = []string{settings.AggregationNone, settings.AggregationMaximum}[i%2]
			seen(100)
			n.open()
			seen(100)
		}
	}
	end()
}

// pingPong asks one question after the other on the connections, until end is called; a lost one fails the test. Two clients
// have half of them each: with one for each connection, what goes on beside them would hardly get a processor. seen waits for so
// many more answers.
func pingPong(t *testing.T, conns []net.Conn) (seen func(more int64), end func()) {
	t.Helper()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var asked atomic.Int64
	for _, own := range [][]net.Conn{conns[:len(conns)/2], conns[len(conns)/2:]} {
		clients.Go(func() {
			buf := make([]byte, 2048)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := ask(own[n%len(own)], buf, n < len(own)); err != nil {
					t.Errorf("after %d answers: %v", asked.Load(), err)
					return
				}
				asked.Add(1)
			}
		})
	}
	seen = func(more int64) {
		t.Helper()
		target := asked.Load() + more
		eventually(t, func() bool { return asked.Load() >= target || t.Failed() }, "traffic goes on")
	}
	end = func() {
		close(stop)
		clients.Wait()
		t.Logf("%d questions were answered", asked.Load())
	}
	return seen, end
}

// ask sends a question and waits for the answer, which is read into buf. By TCP the server greets first.
func ask(c net.Conn, buf []byte, first bool) error {
	c.SetDeadline(time.Now().Add(netnstest.ProbeTimeout))
	_, stream := c.(*net.TCPConn)
	if stream && first {
		if _, err := c.Read(buf); err != nil {
			return err
		}
	}
	if _, err := c.Write([]byte("question")); err != nil {
		return err
	}
	if stream {
		_, err := io.ReadFull(c, buf[:len("question")])
		return err
	}
	_, err := c.Read(buf)
	return err
}

// A map of another shape, or the lack of all maps, is no reason to forget the endpoints.
func TestEndpointsSurviveALostMap(t *testing.T) {
	for name, damage := range map[string]func(n *node){
		"another shape": func(n *node) {
			at := filepath.Join(n.BPFFS, "wirelab/maps/"+datapath.Layout+"/lab_endpoints")
			must(n.t, os.Remove(at))
			other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 8})
			must(n.t, err)
			defer other.Close()
			must(n.t, other.Pin(at))
		},
		"another layout": func(n *node) {
			dir := filepath.Join(n.BPFFS, "wirelab/maps")
			must(n.t, os.Rename(filepath.Join(dir, datapath.Layout), filepath.Join(dir, "v0")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newLab(t, 1).nodes[0]
			a, b := n.addPod("a"), n.addPod("b")
			n.close()
			damage(n)
			n.open()
			n.expectEntries(2)
			for _, p := range []*pod{a, b} {
				n.Do(func() { must(t, n.dp.CheckEndpoint(ctx(t), p.spec)) })
			}
			must(t, second(a.Ping(b.Addr, netnstest.PingOptions{})))
			if pins := pinned(n.BPFFS); slices.Contains(pins, "wirelab/maps/v0") {
				t.Error("the maps of the old layout are still pinned")
			}
		})
	}
}
