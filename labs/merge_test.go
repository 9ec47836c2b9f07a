package labs

import (
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/gather"
)

// TestMerge: events come out in the order of their times once every node that speaks is past them.
func TestMerge(t *testing.T) {
	epoch := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	m, now := newMerger[api.Event](maxHeld, nil), at(0)
	event := func(node string, s int, reason string) {
		m.add(node, line[api.Event]{seen: &api.Event{Node: node, Reason: reason}, at: at(s)}, now)
	}
	mark := func(node string, s int) { m.add(node, line[api.Event]{upTo: at(s)}, now) }
	want := func(reasons string) {
		t.Helper()
		var got []string
		for _, s := range m.take(now) {
			got = append(got, s.seen.Reason)
		}
		if strings.Join(got, " ") != reasons {
			t.Errorf("came out: %v, want %s", got, reasons)
		}
	}
	mark("a", 0)
	mark("b", 0)
	event("a", 3, "third")
	event("b", 1, "first")
	event("b", 4, "fourth")
	event("a", 2, "second")
	event("b", 4, "fifth")
	want("")
	mark("a", 9)
	want("")
	mark("b", 3)
	want("first second third")
	mark("b", 2) // it comes late, and takes nothing back
	mark("b", 4)
	want("fourth fifth")

	// A node that is silent holds the others back for a while, one that is gone does not.
	event("a", 8, "sixth")
	now = now.Add(gather.Silence)
	mark("a", 10)
	want("")
	now = now.Add(1)
	want("sixth")
	event("b", 7, "late")
	event("b", 30, "seventh")
	want("") // b speaks again, and has not told how far it is
	mark("b", 30)
	want("late")
	m.remove("a")
	want("seventh")
	event("b", 31, "last")
	m.remove("b")
	want("last")
}

// TestMergeIsBounded: what waits for a node that is slow is bounded.
func TestMergeIsBounded(t *testing.T) {
	m, now := newMerger[api.Event](maxHeld, nil), time.Now()
	m.add("slow", line[api.Event]{upTo: now}, now)
	m.add("fast", line[api.Event]{upTo: now.Add(time.Hour)}, now)
	for i := range maxHeld + 3 {
		m.add("fast", line[api.Event]{seen: &api.Event{Length: i}, at: now.Add(time.Duration(i+1) * time.Millisecond)}, now)
	}
	if out := m.take(now); len(out) != 3 || out[2].seen.Length != 2 {
		t.Errorf("%d events come out, want the first 3", len(out))
	}
}

// TestMergeWeighs: the bound is of what sights weigh.
func TestMergeWeighs(t *testing.T) {
	m, now := newMerger(10, func(s string) int { return len(s) }), time.Now()
	m.add("slow", line[string]{upTo: now}, now)
	for i, s := range []string{"12345", "1234", "12"} {
		m.add("fast", line[string]{seen: &s, at: now.Add(time.Duration(i + 1)), upTo: now.Add(time.Hour)}, now)
	}
	if out := m.take(now); len(out) != 1 || out[0].seen != "12345" || m.weight != 6 {
		t.Errorf("come out: %v, and %d is held", out, m.weight)
	}
}
