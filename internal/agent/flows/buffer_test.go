package flows

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

var begin = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// numbered is a record that is told apart by its length.
func numbered(n int) api.FlowRecord {
	return api.FlowRecord{
		Time: begin.Add(time.Duration(n) * time.Second), Length: n, Verdict: api.FlowForwarded, Protocol: "tcp",
		Source:      api.FlowEnd{Addr: netip.MustParseAddr("10.0.1.7"), Port: 40000, Namespace: "default", Pod: fmt.Sprintf("pod-%d", n%2), Identity: 300},
		Destination: api.FlowEnd{Addr: netip.MustParseAddr("10.0.2.9"), Port: 80, Namespace: "shop", Pod: "web", Identity: 301},
	}
}

// text is what lines tell: lengths of records, and -n where n are lost.
func text(lines []api.FlowLine) (out []int) {
	for _, l := range lines {
		switch {
		case l.Flow != nil:
			out = append(out, l.Flow.Length)
		case l.Lost != nil:
			out = append(out, -int(l.Lost.Count))
		}
	}
	return out
}

func TestLatest(t *testing.T) {
	b := NewBuffer("a", 8, nil)
	for n := range 5 {
		b.Put(numbered(n + 1))
	}
	b.Lost(begin.Add(5*time.Second), 7)
	for n := range 5 {
		b.Put(numbered(n + 6))
	}
	for name, c := range map[string]struct {
		filter api.FlowFilter
		want   string
	}{
		"all":            {api.FlowFilter{Last: -1}, "[4 5 -7 6 7 8 9 10]"},
		"none":           {api.FlowFilter{}, "[]"},
		"two":            {api.FlowFilter{Last: 2}, "[9 10]"},
		"more than kept": {api.FlowFilter{Last: 100}, "[4 5 -7 6 7 8 9 10]"},
		"since":          {api.FlowFilter{Last: -1, Since: begin.Add(6 * time.Second)}, "[6 7 8 9 10]"},
		"of a pod":       {api.FlowFilter{Last: 2, Pod: api.PodName{Namespace: "default", Name: "pod-1"}}, "[7 9]"},
		"of nobody":      {api.FlowFilter{Last: -1, Port: 81}, "[-7]"},
	} {
		lines, next := b.latest(c.filter)
		if got := fmt.Sprint(text(lines)); got != c.want || next != 11 {
			t.Errorf("%s: got %s and next %d, want %s and 11", name, got, next, c.want)
		}
	}
	if s := b.Stats(); s.Kept != 8 || s.Capacity != 8 || s.Seen != 10 || s.Lost != 7 {
		t.Errorf("the buffer is %+v", s)
	}
}

// TestSlowReaderLosesAndIsTold: what is overwritten before a reader comes to it is told as lost, and costs no memory.
func TestSlowReaderLosesAndIsTold(t *testing.T) {
	b := NewBuffer("a", 4, nil)
	b.Put(numbered(1))
	var all api.FlowFilter
	lines, next := b.after(t.Context(), 0, &all)
	if fmt.Sprint(text(lines)) != "[1]" || next != 1 {
		t.Fatalf("got %v, next %d", text(lines), next)
	}
	for n := range 10 {
		b.Put(numbered(n + 2))
	}
	lines, next = b.after(t.Context(), next, &all)
	if fmt.Sprint(text(lines)) != "[-6 8 9 10 11]" || next != 11 || lines[0].Lost.By != api.LostByReader {
		t.Errorf("got %v, next %d", text(lines), next)
	}
}

func TestReaderWaits(t *testing.T) {
	b := NewBuffer("a", 4, nil)
	got := make(chan []api.FlowLine)
	go func() {
		lines, _ := b.after(t.Context(), 0, &api.FlowFilter{})
		got <- lines
	}()
	for b.waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	b.Put(numbered(1))
	if lines := <-got; fmt.Sprint(text(lines)) != "[1]" {
		t.Errorf("got %v", text(lines))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if lines, next := b.after(ctx, 1, &api.FlowFilter{}); len(lines) != 0 || next != 1 {
		t.Errorf("got %v and next %d when there is nothing and nobody waits", lines, next)
	}
}

func (b *Buffer) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more != nil {
		return 1
	}
	return 0
}

func TestRate(t *testing.T) {
	var r rate
	now := begin
	at := func(want float64) {
		t.Helper()
		if got := r.perSecond(now); got != want {
			t.Errorf("%s: %v a second, want %v", now.Sub(begin), got, want)
		}
	}
	at(0)
	for range 10 {
		r.count(now)
	}
	at(10)
	now = now.Add(time.Second)
	for range 20 {
		r.count(now)
	}
	at(15)
	now = now.Add(18 * time.Second)
	at(1.5)
	now = now.Add(41 * time.Second)
	at(20.0 / 60)
	now = now.Add(time.Hour)
	at(0)
	r.count(now)
	at(1.0 / 60)
}
