// Package tap listens at devices of several network namespaces at once and tells what crosses them.
package tap

import (
	"bufio"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"wirelab.dev/wirelab/cmd/nettool/internal/link"
	"wirelab.dev/wirelab/verify/probe"
)

const (
	// pulse is how often a tap says at least how far it is.
	pulse = 50 * time.Millisecond
	// onItsWay is how long a packet may take from its time stamp until it is queued, meanwhile others may overtake it: on a
	// busy CPU some 20 ms.
	onItsWay = 50 * time.Millisecond
	// turn is how many packets are taken at one point before the others have their turn.
	turn = 64
)

// Run reads where to listen, and tells what crosses these devices until in or ctx ends, or all of them are gone.
func Run(ctx context.Context, in io.Reader, out io.Writer) error {
	var where probe.Tap
	decoder := json.NewDecoder(in)
	if err := decoder.Decode(&where); err != nil {
		return fmt.Errorf("read where to listen: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	buffered := bufio.NewWriterSize(out, 1<<16)
	t := &tap{out: buffered, enc: gob.NewEncoder(buffered), buffer: make([]byte, probe.MaxTapped)}
	defer t.close()
	if err := t.start(ctx, where); err != nil {
		return err
	}
	return t.run(ctx)
}

// tap listens at points.
type tap struct {
	points []*point
	out    *bufio.Writer
	enc    *gob.Encoder
	buffer []byte
}

// start listens, and says so.
func (t *tap) start(ctx context.Context, where probe.Tap) error {
	for _, at := range where.Points {
		p, err := open(ctx, at, where.Filter)
		if err != nil {
			return err
		}
		t.points = append(t.points, p)
	}
	if len(t.points) == 0 {
		return errors.New("no device to listen at is named")
	}
	if where.Prove {
		t.prove(ctx)
	}
	for _, f := range where.Frames {
		if err := sendOut(f); err != nil {
			return err
		}
	}
	var said probe.Tapped
	for _, p := range t.points {
		said.Listening = append(said.Listening, p.device)
	}
	return errors.Join(t.say(said), t.mark())
}

func (t *tap) close() {
	for _, s := range t.sockets() {
		_ = s.Close()
	}
}

func (t *tap) sockets() (out []*link.Socket) {
	for _, p := range t.points {
		if p.socket != nil {
			out = append(out, p.socket)
		}
	}
	return out
}

func (t *tap) say(what probe.Tapped) error {
	if err := t.enc.Encode(what); err != nil {
		return fmt.Errorf("tell what is seen: %w", err)
	}
	return nil
}

// run tells of packets in rounds, and after each round how far it is.
func (t *tap) run(ctx context.Context) error {
	for ctx.Err() == nil {
		for i := range t.points {
			if err := t.read(i); err != nil {
				return err
			}
		}
		if err := t.mark(); err != nil {
			return err
		}
		if len(t.sockets()) == 0 {
			return errors.New("no device is left to listen at")
		}
		if err := link.Wait(pulse, t.sockets()...); err != nil {
			return err
		}
	}
	return nil
}

// read tells of packets that are queued at a point.
func (t *tap) read(i int) error {
	p := t.points[i]
	if p.socket == nil {
		return nil
	}
	began := time.Now()
	for range turn {
		frame, ok, err := p.socket.Next(t.buffer)
		switch {
		case err != nil:
			_ = p.socket.Close()
			p.socket = nil
			return t.say(probe.Tapped{Gone: &probe.TapGone{Point: i, Why: err.Error()}})
		case !ok:
			p.upTo = began.Add(-onItsWay)
			return nil
		}
		p.upTo = frame.At.Add(-onItsWay) // what is queued came later
		if p.loops && frame.Outgoing {
			continue // and comes in with the next one
		}
		err = t.say(probe.Tapped{Packet: &probe.TapPacket{Point: i, At: frame.At, Data: frame.Data, Length: frame.Length, Out: frame.Outgoing}})
		if err != nil {
			return err
		}
	}
	return nil
}

// mark says how far all points are.
func (t *tap) mark() error {
	m := &probe.TapMark{}
	for _, p := range t.points {
		if p.socket != nil {
			if m.UpTo.IsZero() || p.upTo.Before(m.UpTo) {
				m.UpTo = p.upTo
			}
			lost, err := p.socket.Lost()
			if err != nil {
				return err
			}
			p.dropped += lost
		}
		m.Dropped = append(m.Dropped, p.dropped)
	}
	if err := t.say(probe.Tapped{Mark: m}); err != nil {
		return err
	}
	if err := t.out.Flush(); err != nil {
		return fmt.Errorf("tell what is seen: %w", err)
	}
	return nil
}
