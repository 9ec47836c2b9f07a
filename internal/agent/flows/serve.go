package flows

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

const (
	// patience is how long a client may take to accept a batch. One that takes longer has stopped reading.
	patience = 30 * time.Second
	// marks are how far apart it is told up to when all is told, and how long a client waits for what happened before it asked.
	marks = 500 * time.Millisecond
)

// Names knows what a filter may name.
type Names interface {
	HasPod(api.PodName) bool
	HasNamespace(string) bool
	HasIdentity(uint32) bool
}

// Serve writes the records that f picks, a [api.FlowLine] a line, until there are no more or, with f.Follow, until the client
// goes away, stops reading, or ctx is done.
func (b *Buffer) Serve(ctx context.Context, w http.ResponseWriter, f api.FlowFilter, names Names) error {
	w.Header().Set("Content-Type", "application/jsonl")
	out := writer{control: http.NewResponseController(w), enc: json.NewEncoder(w), patience: b.patience}
	if b.hurry != nil {
		upTo, done := b.hurry()
		defer done()
		soon, cancel := context.WithTimeout(ctx, marks)
		b.catchUp(soon, upTo)
		cancel()
	}
	unknown := b.unknown(f, names)
	lines, next := b.latest(f) // before it is told to start: who follows gets what happens from then on
	if err := out.write(api.FlowLine{Start: &api.FlowStart{Node: b.node, Unknown: unknown}}); err != nil {
		return err
	}
	for len(lines) > 0 {
		n := min(batch, len(lines))
		if err := out.write(lines[:n]...); err != nil {
			return err
		}
		lines = lines[n:]
	}
	for f.Follow {
		if err := out.write(api.FlowLine{UpTo: b.complete()}); err != nil {
			return err
		}
		until, cancel := context.WithTimeout(ctx, marks)
		for until.Err() == nil {
			if lines, next = b.after(until, next, &f); len(lines) == 0 {
				continue
			}
			if err := out.write(lines...); err != nil {
				cancel()
				return err
			}
		}
		cancel()
		if ctx.Err() != nil {
			return nil // the client has gone, or the agent goes
		}
	}
	return nil
}

// unknown is what f names of which neither names nor the buffer have anything.
func (b *Buffer) unknown(f api.FlowFilter, names Names) (unknown []string) {
	for _, pod := range []api.PodName{f.Pod, f.FromPod, f.ToPod} {
		if pod != (api.PodName{}) && !names.HasPod(pod) && !b.Has(api.FlowFilter{Pod: pod}) {
			unknown = append(unknown, "pod "+pod.String())
		}
	}
	if f.Namespace != "" && !names.HasNamespace(f.Namespace) && !b.Has(api.FlowFilter{Namespace: f.Namespace}) {
		unknown = append(unknown, "namespace "+f.Namespace)
	}
	if f.Identity != 0 && !names.HasIdentity(f.Identity) && !b.Has(api.FlowFilter{Identity: f.Identity}) {
		unknown = append(unknown, fmt.Sprintf("identity %d", f.Identity))
	}
	return unknown
}

// writer writes lines to a client that has to take them in time.
type writer struct {
	control  *http.ResponseController
	enc      *json.Encoder
	patience time.Duration
}

func (w writer) write(lines ...api.FlowLine) error {
	if len(lines) == 0 {
		return nil
	}
	if err := w.control.SetWriteDeadline(time.Now().Add(w.patience)); err != nil {
		return fmt.Errorf("bound how long a client may take: %w", err)
	}
	for _, line := range lines {
		if err := w.enc.Encode(line); err != nil {
			return fmt.Errorf("write a flow: %w", err)
		}
	}
	if err := w.control.Flush(); err != nil {
		return fmt.Errorf("write flows: %w", err)
	}
	return nil
}
