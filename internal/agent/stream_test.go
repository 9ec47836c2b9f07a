package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/serve"
)

// endless yields events without a pause, each with a mark behind it.
func endless(ctx context.Context) iter.Seq2[api.MonitorLine, error] {
	return func(yield func(api.MonitorLine, error) bool) {
		for n := uint64(1); ctx.Err() == nil; n++ {
			e := api.Event{Type: api.EventTrace, Time: time.Now(), Node: "worker", Sequence: n}
			if !yield(api.MonitorLine{Event: &e}, nil) || !yield(api.MonitorLine{UpTo: e.Time}, nil) {
				return
			}
		}
	}
}

// streamed serves streams on a socket as the agent does, and says how each ended.
func streamed(t *testing.T, patience time.Duration, lines func(context.Context) iter.Seq2[api.MonitorLine, error]) (socket string, ended <-chan error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.MonitorPath, func(w http.ResponseWriter, r *http.Request) {
		ends <- stream(w, lines(r.Context()), patience)
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- serve.Unix(ctx, l, mux) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return socket, ends
}

// TestWhoStopsReadingIsCutOff: a client that has stopped reading is cut off, another one reads on, and the agent keeps
// nothing for it.
func TestWhoStopsReadingIsCutOff(t *testing.T) {
	const patience = time.Second
	socket, ended := streamed(t, patience, endless)
	stuck, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := fmt.Fprintf(stuck, "GET %s HTTP/1.1\r\nHost: agent\r\n\r\n", api.MonitorPath); err != nil {
		t.Fatal(err)
	}
	if status, err := bufio.NewReader(stuck).ReadString('\n'); err != nil || !strings.Contains(status, "200") {
		t.Fatalf("%q, %v", status, err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	reading, stop := context.WithCancel(t.Context())
	defer stop()
	var read uint64
	for line, err := range client.New(socket).Monitor(reading) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Event == nil {
			continue
		}
		if read++; line.Event.Sequence != read {
			t.Fatalf("event %d follows %d", line.Event.Sequence, read-1)
		}
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "read nothing for 1s") {
				t.Errorf("it ends with %v", err)
			}
			stop()
		default:
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 1<<20 { //nolint:gosec // it fits
		t.Errorf("%d bytes are kept", kept)
	}
	if err := <-ended; err != nil {
		t.Errorf("who goes away ends it with %v", err)
	}
	if read == 0 {
		t.Error("the other one has read nothing")
	}
	// What had been sent can be read, and then it is over.
	if _, err := io.Copy(io.Discard, stuck); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("it reads on: %v", err)
	}
}

// TestSlowClientsAreServed: who reads, however slowly, is not cut off.
func TestSlowClientsAreServed(t *testing.T) {
	const patience = 3 * time.Second
	socket, ended := streamed(t, patience, endless)
	slow, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := fmt.Fprintf(slow, "GET %s HTTP/1.1\r\nHost: agent\r\n\r\n", api.MonitorPath); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range 5 {
		time.Sleep(patience / 10)
		if _, err := io.ReadFull(slow, block); err != nil {
			t.Fatal(err)
		}
	}
	slow.Close()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestStreamSaysWhyItEnds: an error of the datapath is told to whoever runs the agent.
func TestStreamSaysWhyItEnds(t *testing.T) {
	socket, ended := streamed(t, time.Minute, func(context.Context) iter.Seq2[api.MonitorLine, error] {
		return func(yield func(api.MonitorLine, error) bool) {
			_ = yield(api.MonitorLine{UpTo: time.Now()}, nil) && yield(api.MonitorLine{}, errors.New("no ring"))
		}
	})
	var last error
	for _, err := range client.New(socket).Monitor(t.Context()) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "ended the stream") {
		t.Errorf("the client is told %v", last)
	}
	if err := <-ended; err == nil || err.Error() != "no ring" {
		t.Errorf("it ends with %v", err)
	}
}
