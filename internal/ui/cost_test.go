package ui

import (
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestCost: 500 flows a second of 500 pods, with one page open, take less than 15 % of a core and 150 MiB.
func TestCost(t *testing.T) {
	s, f := serving(t, "l-worker")
	lab := newShop(500)
	answer := open(t, s)
	var read atomic.Int64
	go func() {
		for buf := make([]byte, 64<<10); ; {
			n, err := answer.Body.Read(buf)
			read.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	cpu := func() time.Duration {
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			t.Fatal(err)
		}
		return time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	before, began := cpu(), time.Now()
	const perSecond, lasts = 500, 5 * time.Second
	told := 0
	for tick := time.NewTicker(20 * time.Millisecond); time.Since(began) < lasts; <-tick.C {
		for ; told < int(time.Since(began).Seconds()*perSecond); told++ {
			f.tell(lab.flow(told))
		}
	}
	share := float64(cpu()-before) / float64(time.Since(began))
	t.Logf("%d flows in %s: %.1f %% of a core, %d bytes to the page, %d MiB resident", told, lasts, 100*share, read.Load(), resident(t))
	if told < perSecond*4 || read.Load() < 100_000 {
		t.Errorf("%d flows were told, and %d bytes of them read: this measures nothing", told, read.Load())
	}
	if share > 0.15 {
		t.Errorf("it takes %.0f %% of a core", 100*share)
	}
	if mib := resident(t); mib > 150 {
		t.Errorf("it takes %d MiB", mib)
	}
}

// resident is the memory of this process in MiB.
func resident(t *testing.T) int {
	t.Helper()
	status, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	text, err := io.ReadAll(status)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatal("this process has no size")
	return 0
}
