package datapath

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

const (
	// Soon is how late events may be for a person who watches them.
	Soon = 200 * time.Millisecond
	// namesLast is how long a device's name is remembered. The kernel counts indexes up before it gives one
	// to another device.
	namesLast = 10 * time.Second
	// announced is for how long beyond its next pause a reader asks the programs to write events. After a reader was
	// killed, they stop when that time is over.
	announced = 10 * time.Second
	// backlog is how many events a consumer may be behind before it misses some.
	backlog = 4096
)

// What somebody reads: READ_EVENTS and READ_STEPS of bpf/lib/record.h.
const (
	readEvents uint32 = iota
	readSteps
)

// errClosed ends the sequences of a datapath that is closed.
var errClosed = errors.New("datapath is closed")

// hub distributes the events that one reader takes from the ring to all listeners. The reader runs while there are any.
type hub struct {
	// switching is held while the reader is started or stopped; a ring has one reader at a time.
	switching sync.Mutex
	stop      func()        // nil when no reader runs
	wake      chan struct{} // tells the reader of somebody who may wait less long than it pauses
	closed    bool

	mu        sync.Mutex // guards what follows
	listeners map[*listener]struct{}
	hurries   int  // how many [Datapath.Hurry] are not done
	failed    bool // the reader has ended by itself, and takes no more
}

type listener struct {
	events chan *api.Event // they are shared with other listeners
	done   chan struct{}   // closed when err is set and no event follows
	err    error
	late   time.Duration
	gaps   gaps
	missed []int // of each CPU's events; what the listener has not been told of yet
	marks  bool
	steps  bool
}

// Events yields events from now on, until ctx is done or the consumer stops. The ring is polled, as programs wake nobody;
// an event is yielded late at most after it happened, or earlier, if another consumer or [Datapath.Hurry] asks for that.
// There may be any number of consumers. Programs write events only while there is one, and never overwrite any: an event
// that finds the ring full is counted as "event-lost" in [Datapath.Metrics], and told by an [api.EventLost] at the gap, as
// is one for which a slow consumer has no room. An error ends the sequence; that ctx is done is no error.
func (d *Datapath) Events(ctx context.Context, late time.Duration) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		for e, err := range d.listenTo(ctx, late, false, false) {
			if err != nil {
				e = &api.Event{}
			}
			if !yield(*e, err) {
				return
			}
		}
	}
}

// listenTo is [Datapath.Events], with what [Datapath.Watch] asks for besides. Others have the same events: they are to be read only.
func (d *Datapath) listenTo(ctx context.Context, late time.Duration, marks, steps bool) iter.Seq2[*api.Event, error] {
	return func(yield func(*api.Event, error) bool) {
		l, err := d.listen(late)
		if err != nil {
			yield(nil, err)
			return
		}
		defer d.unlisten(l)
		if marks {
			if err := d.wantMarks(l, steps); err != nil {
				yield(nil, err)
				return
			}
			if !yield(&api.Event{Type: joined}, nil) {
				return
			}
		}
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-l.events:
				if !yield(e, nil) {
					return
				}
			case <-l.done:
				yield(nil, l.err)
				return
			}
		}
	}
}

func (d *Datapath) listen(late time.Duration) (*listener, error) {
	h := &d.events
	h.switching.Lock()
	defer h.switching.Unlock()
	if h.closed {
		return nil, errClosed
	}
	l := &listener{events: make(chan *api.Event, backlog), done: make(chan struct{}), late: late}
	failed, err := d.join(l)
	if err != nil {
		return nil, err
	}
	if failed {
		h.stopReader()
	}
	if h.stop == nil {
		if err := d.startReader(); err != nil {
			h.leave(l)
			return nil, err
		}
		return l, nil
	}
	h.wakeReader()
	return l, nil
}

// join makes l a listener for events that are written from now on, and says whether the reader has failed before. Events
// from before have smaller numbers than those that l's gaps begin with.
func (d *Datapath) join(l *listener) (failed bool, err error) {
	h := &d.events
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.gaps, err = d.newGaps(); err != nil {
		return false, err
	}
	l.missed = make([]int, len(l.gaps))
	if h.listeners == nil {
		h.listeners = map[*listener]struct{}{}
	}
	h.listeners[l] = struct{}{}
	failed, h.failed = h.failed, false
	return failed, nil
}

// wantMarks has a listener told how far events are, from now on, and of steps, if it has use for them.
func (d *Datapath) wantMarks(l *listener, steps bool) error {
	h := &d.events
	h.mu.Lock()
	l.marks, l.steps = true, steps
	h.mu.Unlock()
	if !steps {
		return nil
	}
	return d.announce(announced)
}

// leave removes a listener, and says whether it was the last.
func (h *hub) leave(l *listener) (last bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
	return len(h.listeners) == 0
}

// startReader is called with switching held.
func (d *Datapath) startReader() error {
	ring, err := ringbuf.NewReader(d.maps.events)
	if err != nil {
		return fmt.Errorf("open the event ring: %w", err)
	}
	if err := d.announce(announced); err != nil {
		return errors.Join(err, ring.Close())
	}
	quit, finished, wake := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	d.events.wake = wake
	go func() {
		defer close(finished)
		if err := d.read(ring, quit, wake); !errors.Is(err, os.ErrClosed) {
			d.events.end(err)
		}
	}()
	d.events.stop = func() {
		ring.Close()
		close(quit)
		<-finished
		if err := d.readUntil(0, 0); err != nil {
			d.log.Warn("programs go on writing events for a moment", "err", err)
		}
	}
	return nil
}

func (d *Datapath) unlisten(l *listener) {
	h := &d.events
	h.switching.Lock()
	defer h.switching.Unlock()
	if h.leave(l) {
		h.stopReader()
	} else if l.steps {
		if err := d.announce(announced); err != nil {
			d.log.Warn("programs go on writing steps for a moment", "err", err)
		}
	}
}

// stopReader is called with switching held.
func (h *hub) stopReader() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

func (h *hub) close() {
	h.switching.Lock()
	defer h.switching.Unlock()
	h.closed = true
	h.stopReader()
	h.end(errClosed)
}

// announce tells the programs that events are read, and will be for so long.
func (d *Datapath) announce(forNow time.Duration) error {
	h := &d.events
	h.mu.Lock() // or the reader could take back what somebody who comes to watch has just announced
	defer h.mu.Unlock()
	until := monotonic() + uint64(forNow) //nolint:gosec // it is positive
	if h.watched() {
		return d.readUntil(until, until)
	}
	return d.readUntil(until, 0)
}

// readUntil tells the programs until when events are read, and until when steps.
func (d *Datapath) readUntil(events, steps uint64) error {
	m := d.maps.eventUntil
	if err := errors.Join(m.Put(readEvents, events), m.Put(readSteps, steps)); err != nil {
		return fmt.Errorf("announce a reader of events: %w", err)
	}
	return nil
}

// watched says whether somebody has use for steps. It is called with mu held.
func (h *hub) watched() bool {
	for l := range h.listeners {
		if l.steps {
			return true
		}
	}
	return false
}

// read takes events until the ring is closed, and returns why it ended; os.ErrClosed then.
func (d *Datapath) read(ring *ringbuf.Reader, quit, wake <-chan struct{}) error {
	known, since, renewed := d.newNames(), time.Now(), time.Now()
	var record ringbuf.Record
	taken, emptied, pause := 0, time.Now(), brief // bytes since the ring was empty, when that was, and for how long the reader paused then
	var numbers []uint64                          // when it was empty last
	size := int(d.maps.events.MaxEntries())
	now, marked := newClock(), time.Now()
	ring.SetDeadline(time.Unix(1, 0)) // it takes what is there, and does not hold a thread to wait for more
	for {
		looked := time.Now()
		err := ring.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if time.Since(since) > namesLast {
				known, since = d.newNames(), time.Now() // an index may belong to another device by now
			}
			d.events.settle(numbers, d.cfg.NodeName)
			if numbers, err = d.sequences(); err != nil {
				return err
			}
			d.events.mark(looked.Add(-inFlight))
			pause = min(d.events.pause(), filling(size, taken, looked.Sub(emptied), pause))
			taken, emptied = 0, looked
			if time.Since(renewed)+pause > announced/2 {
				if err := d.announce(pause + announced); err != nil {
					return err
				}
				renewed = time.Now()
			}
			select {
			case <-quit:
			case <-wake:
			case <-time.After(together(pause)):
			}
			now, marked = newClock(), time.Now()
			continue
		}
		if err != nil {
			return fmt.Errorf("read the event ring: %w", err)
		}
		if time.Since(renewed) > announced/2 {
			if err := d.announce(announced); err != nil {
				return err
			}
			renewed = time.Now()
		}
		taken += len(record.RawSample)
		head, err := decodeHeader(record.RawSample)
		if err != nil {
			return err
		}
		e, err := known.event(head, now, record.RawSample)
		if err != nil {
			return err
		}
		d.events.publish(head, e)
		if time.Since(marked) > Soon { // the ring does not get empty
			d.events.mark(now.at(head.TimeNs).Add(-inFlight))
			now, marked = newClock(), time.Now()
		}
	}
}

// gaps tell a listener how many events found no room, by what is missing in each CPU's sequence.
type gaps []gap

type gap struct {
	base     uint64 // of the sequence, when the listener joined
	highest  uint64
	read     uint64
	reported uint64
}

// sequences are how many events there have been on each CPU.
func (d *Datapath) sequences() (now []uint64, err error) {
	if err := d.maps.eventSeq.Lookup(uint32(0), &now); err != nil {
		return nil, fmt.Errorf("read the events' sequences: %w", err)
	}
	return now, nil
}

// newGaps begins where the sequences are now.
func (d *Datapath) newGaps() (gaps, error) {
	now, err := d.sequences()
	if err != nil {
		return nil, err
	}
	g := make(gaps, len(now))
	for cpu, n := range now {
		g[cpu] = gap{base: n, highest: n}
	}
	return g, nil
}

// before is how many events are known to be missing with this one that were not before. Older says that the event is
// from before the listener joined. One program may interrupt another between its number and its room in the ring, so
// numbers may come out of order.
func (g gaps) before(h bpf.EventHeader) (missing int, older bool) {
	if int(h.Cpu) >= len(g) || h.Sequence <= g[h.Cpu].base {
		return 0, true
	}
	c := &g[h.Cpu]
	c.read++
	return c.upTo(h.Sequence), false
}

// upTo is how many events up to that number are known to be missing that were not before.
func (c *gap) upTo(sequence uint64) (missing int) {
	c.highest = max(c.highest, sequence)
	if lost := c.highest - c.base - c.read; lost > c.reported {
		missing, c.reported = int(lost-c.reported), lost //nolint:gosec // a few
	}
	return missing
}

// publish hands out the event with this header; e is nil where it is of a kind that is not known here.
func (h *hub) publish(head bpf.EventHeader, e *api.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		missed, older := l.gaps.before(head)
		if older {
			continue
		}
		l.missed[head.Cpu] += missed
		if e != nil && e.Type == api.EventStep && !l.steps {
			continue
		}
		if e != nil && l.tell(e.CPU, e.Node, 1) {
			l.events <- e
		} else if e != nil {
			l.missed[head.Cpu]++
		}
	}
}

// settle tells the listeners of the events up to those numbers that are missing, which no later one has shown yet. The
// ring was empty twice since: what has one of these numbers, and found room, was read.
func (h *hub) settle(numbers []uint64, node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		for cpu, n := range numbers {
			if c := &l.gaps[cpu]; n > c.base {
				l.missed[cpu] += c.upTo(n)
			}
			l.tell(cpu, node, 0)
		}
	}
}

// tell tells the listener which events of a CPU it has missed, if any. False: it has no room for that and so many
// others.
func (l *listener) tell(cpu int, node string, others int) bool {
	room := cap(l.events) - len(l.events) - others // only the hub fills it
	if l.missed[cpu] == 0 {
		return room >= 0
	}
	if room < 1 {
		return false
	}
	l.events <- &api.Event{Type: api.EventLost, Time: time.Now(), Node: node, CPU: cpu, Missed: l.missed[cpu]}
	l.missed[cpu] = 0
	return true
}

// end ends all sequences, as the reader takes no more.
func (h *hub) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = true
	for l := range h.listeners {
		l.err = err
		close(l.done)
		delete(h.listeners, l)
	}
}

func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}
