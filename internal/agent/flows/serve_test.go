package flows

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
)

type nobody struct{}

func (nobody) HasPod(api.PodName) bool  { return false }
func (nobody) HasNamespace(string) bool { return false }
func (nobody) HasIdentity(uint32) bool  { return false }

// serving serves a buffer, and returns a client of it.
func serving(t *testing.T, b *Buffer) *client.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := api.ParseFlowFilter(r.URL.Query())
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(api.HTTPError{Message: err.Error()})
			return
		}
		_ = b.Serve(r.Context(), w, f, nobody{})
	}))
	t.Cleanup(srv.Close)
	return client.NewOver("test", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", srv.Listener.Addr().String())
	})
}

func TestServe(t *testing.T) {
	b := NewBuffer("a", 1000, nil)
	for n := range 600 {
		b.Put(numbered(n + 1))
	}
	c := serving(t, b)
	var lines []api.FlowLine
	for line, err := range c.FlowRecords(t.Context(), api.FlowFilter{Last: 599}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if got := text(lines); lines[0].Start == nil || lines[0].Start.Node != "a" || len(got) != 599 || got[0] != 2 || got[598] != 600 {
		t.Errorf("got %+v and %d flows", lines[0].Start, len(text(lines)))
	}
}

// TestFollow: what was there comes first, then that it was all, then what comes.
func TestFollow(t *testing.T) {
	b := NewBuffer("a", 1000, nil)
	b.Put(numbered(1))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []int
	marked := false
	for line, err := range serving(t, b).FlowRecords(ctx, api.FlowFilter{Last: -1, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, text([]api.FlowLine{line})...)
		if !line.UpTo.IsZero() && !marked {
			marked = true
			b.Put(numbered(2))
		}
		if len(got) == 2 {
			break
		}
	}
	if fmt.Sprint(got) != "[1 2]" || !marked {
		t.Errorf("got %v, marked %v", got, marked)
	}
}

// flushed calls what was given when what was written is flushed first.
type flushed struct {
	*httptest.ResponseRecorder
	first func()
}

func (f *flushed) FlushError() error {
	if f.first != nil {
		f.first()
		f.first = nil
	}
	return nil
}

func (*flushed) SetWriteDeadline(time.Time) error { return nil }

// TestFollowFromTheStart: what happens once a client is told that it starts is told to him, although he asked for nothing
// that was there.
func TestFollowFromTheStart(t *testing.T) {
	b := NewBuffer("a", 10, nil)
	b.Put(numbered(1))
	w := &flushed{httptest.NewRecorder(), func() { b.Put(numbered(2)) }}
	ctx, cancel := context.WithTimeout(t.Context(), marks/2)
	defer cancel()
	if err := b.Serve(ctx, w, api.FlowFilter{Follow: true}, nobody{}); err != nil {
		t.Fatal(err)
	}
	var lines []api.FlowLine
	for dec := json.NewDecoder(w.Body); dec.More(); {
		var line api.FlowLine
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if got := text(lines); fmt.Sprint(got) != "[2]" {
		t.Errorf("got %v", got)
	}
}

// TestCatchUp: who asks gets what happened before, although it came later into the buffer, and waits for nothing that
// never comes. Records come soon for as long as he asks.
func TestCatchUp(t *testing.T) {
	var asking atomic.Int32
	var comes func(asked time.Time)
	b := NewBuffer("a", 10, func() (time.Time, func()) {
		asking.Add(1)
		asked := time.Now()
		go comes(asked)
		return asked, func() { asking.Add(-1) }
	})
	flowsOf := func(f api.FlowFilter) (flows []int, upTo time.Time) {
		t.Helper()
		for line, err := range serving(t, b).FlowRecords(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			if line.Start != nil && len(line.Start.Unknown) > 0 {
				t.Errorf("%v is said to be unknown", line.Start.Unknown)
			}
			flows = append(flows, text([]api.FlowLine{line})...)
			if !line.UpTo.IsZero() {
				return flows, line.UpTo
			}
		}
		if n := asking.Load(); n != 0 {
			t.Errorf("records come soon for %d who ask no more", n)
		}
		return flows, time.Time{}
	}
	comes = func(asked time.Time) {
		time.Sleep(20 * time.Millisecond)
		b.Put(numbered(1))
		b.Mark(asked.Add(-1))
		time.Sleep(20 * time.Millisecond)
		b.Put(numbered(2))
		b.Mark(asked)
	}
	b.Mark(time.Now())
	// Nor is a pod unknown that only those name.
	if got, _ := flowsOf(api.FlowFilter{Last: -1, ToPod: api.PodName{Namespace: "shop", Name: "web"}}); fmt.Sprint(got) != "[1 2]" {
		t.Errorf("got %v", got)
	}
	stuck := time.Now()
	b.Mark(stuck)
	comes = func(time.Time) { b.Put(numbered(3)) }
	got, upTo := flowsOf(api.FlowFilter{Last: -1, Follow: true})
	if fmt.Sprint(got) != "[1 2 3]" || !upTo.Equal(stuck) {
		t.Errorf("got %v, all up to %s; want all up to %s", got, upTo, stuck)
	}
	// Where nothing is kept any more nothing is waited for, here or where the records of several nodes are put in order.
	b.Mark(time.Time{})
	asked := time.Now()
	if _, upTo := flowsOf(api.FlowFilter{Last: -1, Follow: true}); upTo.Before(asked) || time.Since(asked) >= marks {
		t.Errorf("nobody tells of records, and after %s all is there up to %s", time.Since(asked), upTo.Sub(asked))
	}
}

// TestUnknown: a filter that names what nobody knows, and that no record has, says so.
func TestUnknown(t *testing.T) {
	b := NewBuffer("a", 10, nil)
	b.Put(numbered(1))
	c := serving(t, b)
	for query, want := range map[string]string{
		"pod=web": "pod default/web", "pod=shop/web": "", "to-pod=default/pod-1": "", "namespace=shop": "", "namespace=none": "namespace none",
		"identity=300": "", "identity=999": "identity 999", "pod=x&to-pod=y": "pod default/x,pod default/y",
	} {
		values := map[string][]string{}
		for pair := range strings.SplitSeq(query, "&") {
			key, value, _ := strings.Cut(pair, "=")
			values[key] = append(values[key], value)
		}
		f, err := api.ParseFlowFilter(values)
		if err != nil {
			t.Fatal(err)
		}
		for line, err := range c.FlowRecords(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(line.Start.Unknown, ","); got != want {
				t.Errorf("%s: unknown are %q, want %q", query, got, want)
			}
			break
		}
	}
}

// TestStuckReader: a client that reads nothing costs a bounded amount of memory while records come, does not hold them up,
// and is cut off.
func TestStuckReader(t *testing.T) {
	b := NewBuffer("a", 4096, nil)
	b.patience = 500 * time.Millisecond
	ended := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended <- b.Serve(r.Context(), w, api.FlowFilter{Follow: true}, nobody{})
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	for b.waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	deadline := time.Now().Add(30 * time.Second)
	for n := 0; ; n++ {
		b.Put(numbered(n))
		if n%1000 > 0 {
			continue
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it ended without an error")
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
				t.Errorf("the heap has grown by %d KiB", grown>>10)
			}
			t.Logf("cut off after %d records", n)
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not cut off")
		}
	}
}
