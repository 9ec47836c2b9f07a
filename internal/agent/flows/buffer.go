// Package flows keeps what a node saw last of its pods' packets, and tells who asks.
package flows

import (
	"context"
	"slices"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Buffer keeps the latest flow records, a fixed number of them. Whoever follows reads from the buffer itself, at a pace of
// his own: one who is slow costs no memory, and loses what is overwritten before he comes to it. It is safe for concurrent
// use.
type Buffer struct {
	node     string
	hurry    Hurry
	now      func() time.Time
	patience time.Duration

	mu   sync.Mutex
	ring []entry
	next uint64        // how many there have been; the place of the next is next % len(ring)
	upTo time.Time     // what happened before is there; zero when nobody says so
	more chan struct{} // closed when there is more, or upTo is later; nil when nobody waits
	seen uint64
	lost uint64
	rate rate
}

// Hurry has records come soon until done is called. What happened before upTo is there once the buffer is marked to be
// complete up to then.
type Hurry func() (upTo time.Time, done func())

// entry is a record or, where lost is not 0, how many are missing.
type entry struct {
	api.FlowRecord
	lost uint64
}

// NewBuffer keeps capacity records of a node, which is not 0. Hurry is nil where records come as they happen.
func NewBuffer(node string, capacity int, hurry Hurry) *Buffer {
	return &Buffer{node: node, hurry: hurry, now: time.Now, patience: patience, ring: make([]entry, capacity)}
}

// Put adds a record.
func (b *Buffer) Put(r api.FlowRecord) { b.put(entry{FlowRecord: r}) }

// Lost notes that n records are missing at t.
func (b *Buffer) Lost(t time.Time, n uint64) {
	b.put(entry{FlowRecord: api.FlowRecord{Time: t}, lost: n})
}

func (b *Buffer) put(e entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ring[b.next%uint64(len(b.ring))] = e
	b.next++
	b.lost += e.lost
	if e.lost == 0 {
		b.seen++
		b.rate.count(b.now())
	}
	b.wake()
}

// Mark says that all that happened before t is there, or lost. A zero t says that nobody will say so any more.
func (b *Buffer) Mark(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.upTo = t
	b.wake()
}

// wake tells those who wait. The caller holds mu.
func (b *Buffer) wake() {
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
}

// complete is up to when all is there that will be.
func (b *Buffer) complete() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.upTo.IsZero() {
		return b.now()
	}
	return b.upTo
}

// catchUp waits until all is there that happened before t, nobody says so, or ctx is done.
func (b *Buffer) catchUp(ctx context.Context, t time.Time) {
	for {
		b.mu.Lock()
		if b.upTo.IsZero() || !b.upTo.Before(t) {
			b.mu.Unlock()
			return
		}
		more := b.news()
		b.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}

// news is closed when there is more. The caller holds mu.
func (b *Buffer) news() <-chan struct{} {
	if b.more == nil {
		b.more = make(chan struct{})
	}
	return b.more
}

// Stats says how the buffer is.
func (b *Buffer) Stats() api.FlowsKept {
	b.mu.Lock()
	defer b.mu.Unlock()
	return api.FlowsKept{
		Kept: int(b.next - b.oldest()), Capacity: len(b.ring), //nolint:gosec // at most len
		PerSecond: b.rate.perSecond(b.now()), Seen: b.seen, Lost: b.lost,
	}
}

// oldest is the number of the oldest entry that is there. The caller holds mu.
func (b *Buffer) oldest() uint64 {
	return b.next - min(b.next, uint64(len(b.ring)))
}

// Has says whether a record that f picks is there.
func (b *Buffer) Has(f api.FlowFilter) bool {
	f.Last, f.Since = 1, time.Time{}
	lines, _ := b.latest(f)
	return slices.ContainsFunc(lines, func(l api.FlowLine) bool { return l.Flow != nil })
}

// latest are the last f.Last records that f picks, oldest first, with what is missing among them, and the number of the
// entry that comes after them.
func (b *Buffer) latest(f api.FlowFilter) (lines []api.FlowLine, next uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := 0
	for i := b.next; i > b.oldest() && (f.Last < 0 || found < f.Last); i-- {
		e := &b.ring[(i-1)%uint64(len(b.ring))]
		if line, ok := b.line(e, &f); ok {
			lines = append(lines, line)
			if e.lost == 0 {
				found++
			}
		}
	}
	slices.Reverse(lines)
	return lines, b.next
}

// line is what f picks of an entry.
func (b *Buffer) line(e *entry, f *api.FlowFilter) (api.FlowLine, bool) {
	if e.lost > 0 {
		return api.FlowLine{Lost: &api.LostFlows{Time: e.Time, Node: b.node, Count: e.lost, By: api.LostByAgent}}, f.Since.Before(e.Time)
	}
	if !f.Match(&e.FlowRecord) {
		return api.FlowLine{}, false
	}
	r := e.FlowRecord
	return api.FlowLine{Flow: &r}, true
}

// batch is how many entries a reader takes at a time.
const batch = 256

// after are the lines that f picks of the entries from number from on, a batch at most, and the number of the entry after
// those. It waits until there may be an entry, or ctx is done.
func (b *Buffer) after(ctx context.Context, from uint64, f *api.FlowFilter) (lines []api.FlowLine, next uint64) {
	if more := b.wait(from); more != nil {
		select {
		case <-more:
		case <-ctx.Done():
			return nil, from
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if missed := b.oldest() - min(from, b.oldest()); missed > 0 {
		from += missed
		lines = append(lines, api.FlowLine{Lost: &api.LostFlows{Time: b.now(), Node: b.node, Count: missed, By: api.LostByReader}})
	}
	next = min(from+batch, b.next)
	for ; from < next; from++ {
		if line, ok := b.line(&b.ring[from%uint64(len(b.ring))], f); ok {
			lines = append(lines, line)
		}
	}
	return lines, next
}

// wait is closed when there may be an entry with number from; nil when it is there.
func (b *Buffer) wait(from uint64) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from < b.next {
		return nil
	}
	return b.news()
}
