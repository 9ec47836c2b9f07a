package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

const (
	// Soon is how late events may be for a person who watches them. At 40,000 packets a second the ring has
	// room for a quarter of a second.
	Soon = 200 * time.Millisecond
	// namesLast is how long a device's name is remembered. The kernel counts indexes up before it gives one
	// to another device.
	namesLast = 10 * time.Second
	// backlog is how many events a consumer may be behind before it misses some.
	backlog = 4096
)

// errClosed ends the sequences of a datapath that is closed.
var errClosed = errors.New("datapath is closed")

// Event is what a program reports about one packet.
type Event struct {
	Time time.Time
	// Drop says that the packet was dropped.
	Drop bool
	// Reason is what became of it, or why it was dropped, or given to the stack to be answered: the words of
	// docs/architecture.md.
	Reason    string
	Direction Direction
	// IfIndex and IfName are the device whose program it was; the name is empty when the device is gone.
	IfIndex int
	IfName  string
	// Src and Dst have port 0 when the packet has none (fragments, ICMP, ARP); for ARP they are the
	// sender's and target's protocol addresses. Zero when the packet is neither IPv4 nor ARP.
	Src, Dst netip.AddrPort
	// EtherType and Proto as on the wire; Proto is 0 for what is not IPv4.
	EtherType uint16
	Proto     uint8
	// TTL as the program saw it, TCPFlags as the header has them.
	TTL, TCPFlags uint8
	// ICMPType is meaningful when Proto is 1.
	ICMPType uint8
	// SrcMAC and DstMAC as the program saw them.
	SrcMAC, DstMAC net.HardwareAddr
	// Length of the packet in bytes, with its Ethernet header.
	Length int
	// SrcEndpoint and DstEndpoint are the IDs of local endpoints, 0 when there is none.
	SrcEndpoint, DstEndpoint uint32
	// Missed is how many events this consumer missed before this one because it was too slow.
	Missed int
}

// hub hands what one reader takes from the ring to all who listen. The reader runs while there is one.
type hub struct {
	// switching is held while the reader is started or stopped; a ring has one reader at a time.
	switching sync.Mutex
	stop      func()        // nil when no reader runs
	joined    chan struct{} // tells the reader of somebody who may wait less long than it pauses
	closed    bool

	mu        sync.Mutex // guards listeners
	listeners map[*listener]struct{}
}

type listener struct {
	events chan Event
	done   chan struct{} // closed when err is set and no event follows
	err    error
	since  uint64 // CLOCK_MONOTONIC; the ring may hold older events
	late   time.Duration
	missed int
}

// Events yields events from now on, until ctx is done or the consumer stops. Programs wake nobody, so the
// ring is looked into as often as late says, which is how late an event may be. Any number of consumers may
// listen at once; who is content with less may get more, and miss what did not fit the ring. Programs write
// events whether or not somebody listens, and overwrite none: what does not fit the ring is counted as
// "event-lost" in [Datapath.Metrics]. An error ends the sequence; that ctx is done is none.
func (d *Datapath) Events(ctx context.Context, late time.Duration) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		l, err := d.listen(late)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer d.unlisten(l)
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-l.events:
				if !yield(e, nil) {
					return
				}
			case <-l.done:
				yield(Event{}, l.err)
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
	l := &listener{events: make(chan Event, backlog), done: make(chan struct{}), since: monotonic(), late: late}
	h.mu.Lock()
	if h.listeners == nil {
		h.listeners = map[*listener]struct{}{}
	}
	h.listeners[l] = struct{}{}
	h.mu.Unlock()
	if h.stop == nil {
		return l, d.startReader()
	}
	select {
	case h.joined <- struct{}{}:
	default: // it has been told
	}
	return l, nil
}

// startReader is called with switching held.
func (d *Datapath) startReader() error {
	ring, err := ringbuf.NewReader(d.maps.events)
	if err != nil {
		return fmt.Errorf("open the event ring: %w", err)
	}
	quit, finished, joined := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	d.events.joined = joined
	go func() {
		defer close(finished)
		if err := d.read(ring, quit, joined); !errors.Is(err, os.ErrClosed) {
			d.events.end(err)
		}
	}()
	d.events.stop = func() {
		ring.Close()
		close(quit)
		<-finished
	}
	return nil
}

func (d *Datapath) unlisten(l *listener) {
	h := &d.events
	h.switching.Lock()
	defer h.switching.Unlock()
	h.mu.Lock()
	delete(h.listeners, l)
	last := len(h.listeners) == 0
	h.mu.Unlock()
	if last {
		h.stopReader()
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

// read takes events until the ring is closed, and returns why it ended; os.ErrClosed then.
func (d *Datapath) read(ring *ringbuf.Reader, quit, joined <-chan struct{}) error {
	names, since := map[int]string{}, time.Now()
	var record ringbuf.Record
	ring.SetDeadline(time.Unix(1, 0)) // it takes what is there, and does not hold a thread to wait for more
	for {
		err := ring.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if time.Since(since) > namesLast {
				clear(names) // an index may belong to another device by now
				since = time.Now()
			}
			select {
			case <-quit:
			case <-joined:
			case <-time.After(d.events.pause()):
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read the event ring: %w", err)
		}
		raw, ok := decode(record.RawSample)
		if !ok {
			return fmt.Errorf("read the event ring: a record of %d bytes is not an event", len(record.RawSample))
		}
		d.events.publish(raw, d.event(raw, names))
	}
}

// decode copies the record, which the next read overwrites.
func decode(record []byte) (raw bpf.Event, ok bool) {
	if uintptr(len(record)) < unsafe.Sizeof(raw) {
		return raw, false
	}
	_, err := binary.Decode(record, binary.NativeEndian, &raw)
	return raw, err == nil
}

// pause is how long the ring may be left alone.
func (h *hub) pause() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	pause := time.Minute
	for l := range h.listeners {
		pause = min(pause, l.late)
	}
	return pause
}

func (h *hub) publish(raw bpf.Event, e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		if raw.TimeNs < l.since {
			continue
		}
		e.Missed = l.missed
		select {
		case l.events <- e:
			l.missed = 0
		default:
			l.missed++
		}
	}
}

// end ends all sequences.
func (h *hub) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		l.err = err
		close(l.done)
		delete(h.listeners, l)
	}
}

func (d *Datapath) event(raw bpf.Event, names map[int]string) Event {
	index := int(raw.Ifindex)
	name, ok := names[index]
	if !ok {
		if l, err := d.nl.LinkByIndex(index); err == nil {
			name = l.Attrs().Name
		}
		names[index] = name
	}
	return Event{
		Time:        time.Now().Add(-time.Duration(monotonic() - raw.TimeNs)),
		Drop:        isDrop(raw.Reason, raw.Direction),
		Reason:      reasons[raw.Reason],
		Direction:   directions[raw.Direction],
		IfIndex:     index,
		IfName:      name,
		Src:         bpf.AddrPortOf(raw.Src, raw.Sport),
		Dst:         bpf.AddrPortOf(raw.Dst, raw.Dport),
		EtherType:   bpf.PortOf(raw.EtherType),
		Proto:       raw.Proto,
		TTL:         raw.Ttl,
		TCPFlags:    raw.TcpFlags,
		ICMPType:    raw.IcmpType,
		SrcMAC:      append(net.HardwareAddr(nil), raw.SrcMac.B[:]...),
		DstMAC:      append(net.HardwareAddr(nil), raw.DstMac.B[:]...),
		Length:      int(raw.Length),
		SrcEndpoint: raw.SrcId,
		DstEndpoint: raw.DstId,
	}
}

func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}
