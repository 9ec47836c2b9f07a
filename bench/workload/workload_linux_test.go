package workload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// short is long enough to see whether a workload works, and tells nothing about how fast.
var short = Window{WarmUp: 5 * time.Millisecond, Length: 20 * time.Millisecond}

// serve serves one workload until the test ends.
func serve(t *testing.T, kind Kind) *Server { return serveAfter(t, 0, kind) }

// serveAfter is a server that the machine gives no time to at first: clients can connect before it serves them.
func serveAfter(t *testing.T, delay time.Duration, kind Kind) *Server {
	t.Helper()
	s, err := Listen(Here(), kind, loopback)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		time.Sleep(delay)
		if err := s.Serve(ctx, func(err error) { t.Errorf("a session broke off: %v", err) }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		if err := s.interrupt(); err != nil {
			t.Error(err)
		}
		running.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestEveryWorkloadMeasures(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			s := serve(t, kind)
			long := false                               // a client that the machine gives no time to has a short window
			for i := 0; i < 2 || !long && i < 50; i++ { // a server serves session after session
				r, err := Client{Place: Here(), Kind: kind, To: s.addr, Window: short}.Run()
				if err != nil {
					t.Fatal(err)
				}
				long = long || r.Elapsed >= short.Length/2
				if r.Kind != kind || r.Cost() <= 0 || r.ClientCPU <= 0 || r.ServerCPU <= 0 || r.Elapsed <= 0 {
					t.Errorf("got %+v", r)
				}
				if kind == TCPStream && (r.Bytes == 0 || r.Operations != 0) {
					t.Errorf("a stream has bytes and no operations: %+v", r)
				}
				if kind != TCPStream && (r.Operations == 0 || r.P50 > r.P90 || r.P90 > r.P99) {
					t.Errorf("operations or their times are wrong: %+v", r)
				}
			}
			if !long {
				t.Errorf("no session of 50 took half of its %s", short.Length)
			}
		})
	}
}

// A server whose window begins when its client's is over measures a whole window.
func TestServerIsLate(t *testing.T) {
	s := serveAfter(t, 3*(short.WarmUp+short.Length), TCPStream)
	r, err := Client{Place: Here(), Kind: TCPStream, To: s.addr, Window: short}.Run()
	if err != nil {
		t.Fatal(err)
	}
	if r.Elapsed < short.Length || r.Bytes == 0 {
		t.Errorf("got %+v", r)
	}
}

func TestDelayIsSeen(t *testing.T) {
	const delay = 2 * time.Millisecond
	p := Pair{Server: Here(), Bind: netip.MustParseAddrPort("127.0.0.1:17171"), Client: Client{
		Place: Here(), Kind: TCPRR, To: netip.MustParseAddrPort("127.0.0.1:17171"), Window: short, Delay: delay,
	}}
	r, err := p.Measure()
	if err != nil {
		t.Fatal(err)
	}
	if r.P50 < delay {
		t.Errorf("every operation took %s longer, and the median is %s", delay, r.P50)
	}
}

// A client that finds nobody leaves no thread of the server behind.
func TestMeasureWithoutAWay(t *testing.T) {
	for _, kind := range []Kind{TCPRR, UDPRR} {
		p := Pair{Server: Here(), Bind: loopback, Client: Client{
			Place: Here(), Kind: kind, To: netip.MustParseAddrPort("127.0.0.1:9"), Window: short,
		}}
		start := time.Now()
		_, err := p.Measure()
		if err == nil || errors.Is(err, errNoClient) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: got %v, want a refusal", kind, err)
		}
		if took := time.Since(start); took >= patience {
			t.Errorf("%s: it took %s: the server waited for a client that was not to come", kind, took)
		}
	}
}

func TestPlaceThatIsNone(t *testing.T) {
	for name, place := range map[string]Place{
		"namespace": {NetNS: 1 << 20, CPU: -1},
		"cgroup":    {NetNS: -1, Cgroup: "/nonexistent", CPU: -1},
		"CPU":       {NetNS: -1, CPU: 1000},
	} {
		if err := place.Do(func() error { return nil }); err == nil {
			t.Errorf("%s: a thread entered a place that is none", name)
		}
	}
}

// What has no place of its own leaves the CPU alone, also in threads that begin later; what has its place there runs there.
func TestKeepOff(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !all.IsSet(cpu) {
		cpu++
	}
	restore, err := KeepOff(cpu)
	if err != nil {
		t.Fatal(err)
	}
	others := all
	if all.Count() > 1 {
		others.Clear(cpu)
	}
	only := unix.CPUSet{}
	only.Set(cpu)
	for what, want := range map[Place]unix.CPUSet{Here(): others, {NetNS: -1, CPU: cpu}: only} {
		if err := what.Do(runsOn(want)); err != nil {
			t.Errorf("in %+v: %v", what, err)
		}
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if err := Here().Do(runsOn(all)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// runsOn says whether the calling thread may run on these CPUs.
func runsOn(want unix.CPUSet) func() error {
	return func() error {
		var got unix.CPUSet
		if err := unix.SchedGetaffinity(0, &got); err != nil {
			return fmt.Errorf("read affinity: %w", err)
		}
		if got != want {
			return fmt.Errorf("it may run on %d CPUs, want %d", got.Count(), want.Count())
		}
		return nil
	}
}

func TestParseKind(t *testing.T) {
	for _, k := range Kinds() {
		if got, err := ParseKind(string(k)); err != nil || got != k {
			t.Errorf("%s: got %q, %v", k, got, err)
		}
	}
	if _, err := ParseKind("tcp"); err == nil {
		t.Error("a workload that is none was found")
	}
}
