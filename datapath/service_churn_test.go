package datapath_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath/lb"
)

const (
	churnServices  = 200
	churnEndpoints = 10 // of each
	churnFlows     = 200
	churnChanges   = 200
	churnInterval  = 10 * time.Millisecond
)

// 200 Services with 2,000 endpoints change a hundred times a second. Connections that are there go on,
// each with its backend; new ones always find one, whatever is being written at the moment.
func TestChurn(t *testing.T) { inServiceModes(t, testChurn) }

func testChurn(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	sign(t, b.NS, c.NS)
	real := []lb.Backend{ready(b, n), ready(c, m)}
	random := rand.New(rand.NewPCG(1, 1))
	state := lb.State{}
	for i := range churnServices {
		s := demo(real...)
		s.Name, s.Proto = fmt.Sprint("churn", i), "tcp"
		s.Frontends[0].Addr = netip.AddrFrom4([4]byte{10, 96, 1, byte(i)})
		state.Services = append(state.Services, s)
	}
	n.balance(state)

	var failures, answers, fresh atomic.Int64
	var running sync.WaitGroup
	stop := make(chan struct{})
	report := func(format string, args ...any) {
		if failures.Add(1) < 10 {
			t.Errorf(format, args...)
		}
	}
	for i := range churnFlows {
		conn, first := established(t, a, "tcp4", netip.AddrPortFrom(state.Services[i].Frontends[0].Addr, port))
		running.Go(func() {
			for !closed(stop) {
				if got, err := who(conn); err != nil || got != first {
					report("a connection to %s got %q, %v", first, got, err)
					return
				}
				answers.Add(1)
				time.Sleep(time.Millisecond) // 200 of them: the machine is for the changes
			}
		})
	}
	// The first Service has a real backend at every moment, one or the other or both.
	steady := netip.AddrPortFrom(state.Services[0].Frontends[0].Addr, port)
	running.Go(func() {
		for !closed(stop) {
			if got, err := whoAt(t, a.NS, "tcp4", steady); err != nil || (got != b.NS.Name && got != c.NS.Name) {
				report("a new connection got %q, %v", got, err)
			}
			fresh.Add(1)
		}
	})
	start := time.Now()
	for change := range churnChanges {
		churn(random, &state, real)
		n.balance(state)
		time.Sleep(time.Until(start.Add(time.Duration(change+1) * churnInterval)))
	}
	took := time.Since(start)
	close(stop)
	running.Wait()
	t.Logf("%d changes in %s; %d answers, %d new connections", churnChanges, took, answers.Load(), fresh.Load())
	if answers.Load() < churnFlows || fresh.Load() == 0 {
		t.Error("too little happened meanwhile")
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// churn changes a twentieth of the Services: their endpoints come from 2,000 addresses that nobody has.
func churn(random *rand.Rand, state *lb.State, real []lb.Backend) {
	state.Services[0].Backends = [][]lb.Backend{real, real[:1], real[1:]}[random.IntN(3)]
	for range churnServices / 20 {
		i := 1 + random.IntN(churnServices-1)
		backends := make([]lb.Backend, 0, churnEndpoints)
		for e := range random.IntN(churnEndpoints + 1) {
			addr := netip.AddrFrom4([4]byte{10, 250, byte(i), byte(e + random.IntN(2)*churnEndpoints)})
			backends = append(backends, lb.Backend{Addr: netip.AddrPortFrom(addr, port), Node: "elsewhere", Ready: true})
		}
		state.Services[i].Backends = backends
	}
}
