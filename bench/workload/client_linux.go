package workload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Client is one client's visit to a server.
type Client struct {
	Place  Place
	Kind   Kind
	To     netip.AddrPort
	Window Window
	// Delay makes every operation take longer by so much: a change of known size, by which to see whether
	// a measurement would show it. It is not for streams.
	Delay time.Duration
}

// Run measures on a thread in the client's place. It fails when the server does not answer for a few seconds.
func (c Client) Run() (r Result, err error) {
	if c.Kind == TCPStream && c.Delay != 0 {
		return r, errors.New("a stream has no operations to delay")
	}
	err = c.Place.Do(func() error {
		if c.Kind == TCPStream {
			r, err = c.stream()
		} else {
			r, err = c.operations()
		}
		return err
	})
	if err != nil {
		return r, fmt.Errorf("measure %s to %s: %w", c.Kind, c.To, err)
	}
	r.Kind = c.Kind
	return r, nil
}

// expectedOperations is room for the fastest that is expected; there is more when it is needed.
const expectedOperations = 1 << 17

func (c Client) operations() (r Result, err error) {
	to := toSocketAddr(c.To)
	op, ask, done, err := c.steps(&to)
	if err != nil {
		return r, err
	}
	defer done()
	times := make([]time.Duration, 0, expectedOperations)
	var cpu0 time.Duration
	begin := time.Now().Add(c.Window.WarmUp)
	end := begin.Add(c.Window.Length)
	last, measured := time.Now(), false
	for last.Before(end) || len(times) == 0 { // on a busy machine one operation may take long
		if err := op(); err != nil {
			return r, err
		}
		now := time.Now()
		if c.Delay > 0 {
			now = spin(now.Add(c.Delay))
		}
		if measured {
			times = append(times, now.Sub(last))
		} else if now.After(begin) {
			if cpu0, err = threadCPU(); err != nil {
				return r, err
			}
			measured, now = true, time.Now()
			begin = now
		}
		last = now
	}
	cpu, err := threadCPU()
	if err != nil {
		return r, err
	}
	server, err := ask()
	if err != nil {
		return r, fmt.Errorf("read the server's report: %w", err)
	}
	if server.operations == 0 {
		return r, errors.New("the server reports no operation")
	}
	r.Operations, r.Elapsed = len(times), last.Sub(begin)
	r.ClientCPU = float64(cpu-cpu0) / float64(len(times))
	r.ServerCPU = float64(server.cpu) / float64(server.operations)
	slices.Sort(times)
	r.P50, r.P90, r.P99 = times[len(times)/2], times[len(times)*90/100], times[len(times)*99/100]
	return r, nil
}

// spin waits without giving the CPU away.
func spin(until time.Time) time.Time {
	for {
		if now := time.Now(); !now.Before(until) {
			return now
		}
	}
}

// steps are one operation, the question for the server's report, and the end.
func (c Client) steps(to *socketAddr) (op func() error, ask func() (report, error), done func(), err error) {
	request, reply := []byte{opByte}, make([]byte, 1)
	if c.Kind == TCPCRR {
		op = func() error { return connection(to, request, reply) }
		ask = func() (report, error) {
			fd, err := dial(TCPCRR, to)
			if err != nil {
				return report{}, err
			}
			defer rawClose(fd)
			return askReport(fd)
		}
		return op, ask, func() {}, nil
	}
	fd, err := dial(c.Kind, to)
	if err != nil {
		return nil, nil, nil, err
	}
	op = func() error { return operation(fd, request, reply) }
	ask = func() (report, error) { return askReport(fd) }
	return op, ask, func() { rawClose(fd) }, nil
}

// operation is a request and its reply.
func operation(fd int, request, reply []byte) error {
	if err := rawWrite(fd, request); err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	if err := readFull(fd, reply); err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	return nil
}

// askReport ends the session.
func askReport(fd int) (report, error) {
	if err := rawWrite(fd, []byte{reportByte}); err != nil {
		return report{}, err
	}
	return readReport(fd)
}

// connection is one whole connection. The server closes first, so that the client's port is free at once.
func connection(to *socketAddr, request, reply []byte) error {
	fd, err := dial(TCPCRR, to)
	if err != nil {
		return err
	}
	defer rawClose(fd)
	if err := operation(fd, request, reply); err != nil {
		return err
	}
	n, err := rawRead(fd, reply)
	if err != nil || n != 0 {
		return fmt.Errorf("wait for the server to close: %d bytes, %w", n, err)
	}
	return nil
}

func (c Client) stream() (r Result, err error) {
	to := toSocketAddr(c.To)
	fd, err := dial(TCPStream, &to)
	if err != nil {
		return r, err
	}
	defer rawClose(fd)
	header := binary.BigEndian.AppendUint64(nil, uint64(c.Window.WarmUp))
	header = binary.BigEndian.AppendUint64(header, uint64(c.Window.Length))
	if err := rawWrite(fd, header); err != nil {
		return r, fmt.Errorf("write: %w", err)
	}
	used, err := c.send(fd)
	if err != nil {
		return r, err
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return r, fmt.Errorf("end the stream: %w", err)
	}
	server, err := readReport(fd)
	if err != nil {
		return r, fmt.Errorf("read the server's report: %w", err)
	}
	if server.elapsed == 0 || server.bytes == 0 {
		return r, errors.New("the server reports no bytes")
	}
	kib := float64(server.bytes) / 1024
	r.Bytes, r.Elapsed = int64(server.bytes), server.elapsed //nolint:gosec // far below
	// The client's window is as long as the server's, and the bytes of both are the same but for what is
	// on its way.
	r.ClientCPU = used * float64(server.elapsed) / kib
	r.ServerCPU = float64(server.cpu) / kib
	return r, nil
}

// send fills the connection until the window is over, and on until the server's report is there: its window begins
// later. It returns the thread's share of a CPU in the client's window.
func (c Client) send(fd int) (share float64, err error) {
	block := make([]byte, blockSize)
	begin := time.Now().Add(c.Window.WarmUp)
	end := begin.Add(c.Window.Length)
	var cpu0, cpu1 time.Duration
	var began, ended time.Time
	for reported := false; !reported; {
		switch now := time.Now(); {
		case began.IsZero() && now.After(begin):
			cpu0, err = threadCPU()
			began = now
		case ended.IsZero() && now.After(end):
			cpu1, err = threadCPU()
			ended = now
		case ended.IsZero():
		case now.After(ended.Add(patience)):
			err = fmt.Errorf("the server reported nothing within %s", patience)
		default:
			reported, err = rawReadable(fd)
		}
		if err != nil {
			return 0, err
		}
		// Each block stays a packet of its own, so a byte takes the same number of packets on every path.
		if err := rawSend(fd, block, unix.MSG_EOR); err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
	}
	return float64(cpu1-cpu0) / float64(ended.Sub(began)), nil
}
