package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// Layout is the version of the pinned maps' layout.
const Layout = layout

// ForceClsact makes Open attach as it does on kernels before 6.6.
func (c *Config) ForceClsact() { c.forceClsact = true }

// Listeners is how many consumers of events there are.
func (d *Datapath) Listeners() int {
	d.events.mu.Lock()
	defer d.events.mu.Unlock()
	return len(d.events.listeners)
}

// ExpireFlows makes all flows overdue.
func (d *Datapath) ExpireFlows(t testing.TB) {
	t.Helper()
	d.changeFlows(t, func(e *bpf.FlowEntry) {
		e.Flow.Seen = monotonicSeconds() - uint32(bpf.PodLabTimeoutLAB_TIMEOUT_TCP) - 10
	})
}

// AgeFlows makes all flows look as if their last packet were some seconds ago.
func (d *Datapath) AgeFlows(t testing.TB) {
	t.Helper()
	d.changeFlows(t, func(e *bpf.FlowEntry) { e.Flow.Seen -= 5 })
	if err := d.maps.newGeneration(); err != nil { // what was decided so long ago is forgotten
		t.Fatal(err)
	}
}

func (d *Datapath) changeFlows(t testing.TB, change func(*bpf.FlowEntry)) {
	t.Helper()
	for _, m := range []*ebpf.Map{d.maps.services.ct, d.maps.services.nat} {
		for key, e := range entriesOf(t, m) {
			change(&e)
			if err := m.Put(key, e); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// EvictFlows removes all entries of lab_ct, of lab_nat or of both, as a full map does.
func (d *Datapath) EvictFlows(t testing.TB, ct, nat bool) {
	t.Helper()
	for m, evict := range map[*ebpf.Map]bool{d.maps.services.ct: ct, d.maps.services.nat: nat} {
		for key := range entriesOf(t, m) {
			if !evict {
				continue
			}
			if err := m.Delete(key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ForgetObserved has events begin anew with all flows.
func (d *Datapath) ForgetObserved(t testing.TB) {
	t.Helper()
	if err := d.maps.forgetObserved(func(bpf.Observed) bool { return true }); err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t testing.TB, m *ebpf.Map) map[bpf.Tuple]bpf.FlowEntry {
	t.Helper()
	entries := map[bpf.Tuple]bpf.FlowEntry{}
	if err := eachBatch(m, func(key bpf.Tuple, e bpf.FlowEntry) { entries[key] = e }); err != nil {
		t.Fatal(err)
	}
	return entries
}

// AgeResting makes all addresses look as if they had been freed, and purged, so much earlier.
func (d *Datapath) AgeResting(t testing.TB, by time.Duration) {
	t.Helper()
	all, err := d.maps.restingAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for addr, r := range all {
		r.Freed -= uint64(by)
		if err := d.maps.resting.Put(bpf.IPOf(addr), r); err != nil {
			t.Fatal(err)
		}
	}
}

// FillFlows fills lab_ct and lab_nat with flows between addresses that are nobody's.
func (d *Datapath) FillFlows(t testing.TB) {
	t.Helper()
	for _, m := range []*ebpf.Map{d.maps.services.ct, d.maps.services.nat} {
		n := int(m.MaxEntries())
		keys, values := make([]bpf.Tuple, n), make([]bpf.FlowEntry, n)
		for i := range keys {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], 11<<24+uint32(i))
			keys[i] = bpf.Tuple{Src: bpf.IPOf(netip.AddrFrom4(b)), Dst: bpf.IPOf(netip.AddrFrom4([4]byte{12, 0, 0, 1})), Proto: 6}
			values[i] = bpf.FlowEntry{To: bpf.Translation{Src: keys[i].Src, Dst: keys[i].Dst}, Flow: bpf.Flow{Answered: 1, Seen: monotonicSeconds()}}
		}
		if _, err := m.BatchUpdate(keys, values, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// ReadSysctl reads a sysctl of this thread's network namespace.
func ReadSysctl(path string) (string, error) { return readSysctl("/proc/sys", path) }

// Replace pins a map in the place of another.
func Replace(path string, m *ebpf.Map) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return m.Pin(path)
}

// Generation is the number by which programs tell that decisions of before count no more, whoever they are about.
func (d *Datapath) Generation(t testing.TB) uint32 {
	t.Helper()
	var g bpf.Generations
	if err := d.maps.generations.Lookup(uint32(0), &g); err != nil {
		t.Fatal(err)
	}
	return g.All
}

// RemoveChains removes all of our chains, as modes that need none do.
func (d *Datapath) RemoveChains(ctx context.Context) error {
	return errors.Join(d.removeChains(ctx, masqueradeChains), d.removeChains(ctx, hostPortChains), d.removeChains(ctx, untrackedChains))
}
