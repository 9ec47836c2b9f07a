package prober

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"wirelab.dev/wirelab/verify/probe"
)

// Batch reads requests, one JSON object after another, runs them at once and
// writes a line for each reply as it comes. It returns when input has ended
// and every probe has answered. Servers stop when input ends, so that none
// outlives who asked for it; captures run to their own end.
func (p Prober) Batch(ctx context.Context, input io.Reader, output io.Writer) error {
	b := &batch{prober: p, encoder: json.NewEncoder(output), open: map[string]underway{}}
	b.encoder.SetEscapeHTML(false)
	err := b.readAll(ctx, input)
	b.stopServers()
	b.probes.Wait()
	return errors.Join(err, b.err)
}

func (b *batch) readAll(ctx context.Context, input io.Reader) error {
	decoder := json.NewDecoder(input)
	for {
		var request probe.Request
		if err := decoder.Decode(&request); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if request.Cancel != "" {
			b.cancel(request.Cancel)
			continue
		}
		b.start(ctx, request)
	}
}

type batch struct {
	prober  Prober
	probes  sync.WaitGroup
	mu      sync.Mutex
	encoder *json.Encoder
	err     error // the first write that failed
	open    map[string]underway
}

// underway is a probe that has not ended.
type underway struct {
	stop  context.CancelFunc
	serve bool
}

func (b *batch) start(ctx context.Context, request probe.Request) {
	ctx, stop := context.WithCancel(ctx)
	b.mu.Lock()
	b.open[request.ID] = underway{stop: stop, serve: request.Serve != nil}
	b.mu.Unlock()
	b.probes.Go(func() {
		defer stop()
		b.write(b.prober.Run(ctx, request, b.write))
		b.mu.Lock()
		delete(b.open, request.ID)
		b.mu.Unlock()
	})
}

// cancel ends a probe. One that has ended already is no mistake: the request
// and its last reply crossed.
func (b *batch) cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe, ok := b.open[id]; ok {
		probe.stop()
	}
}

func (b *batch) stopServers() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, probe := range b.open {
		if probe.serve {
			probe.stop()
		}
	}
}

func (b *batch) write(reply probe.Reply) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.encoder.Encode(reply); err != nil && b.err == nil {
		b.err = fmt.Errorf("write a reply: %w", err)
	}
}
