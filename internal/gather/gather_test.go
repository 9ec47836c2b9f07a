package gather

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

var flowsBegin = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// flowFrom is what a node tells of second n.
func flowFrom(node string, n int) told {
	return told{node: node, line: api.FlowLine{Flow: &api.FlowRecord{Node: node, Time: flowsBegin.Add(time.Duration(n) * time.Second), Length: n}}}
}

func upTo(node string, n int) told {
	return told{node: node, line: api.FlowLine{UpTo: flowsBegin.Add(time.Duration(n) * time.Second)}}
}

func startOf(node string, unknown ...string) told {
	return told{node: node, line: api.FlowLine{Start: &api.FlowStart{Node: node, Unknown: unknown}}}
}

func flowsTaken(m *merge, now time.Time) string {
	var out []int
	for _, l := range m.take(now) {
		out = append(out, l.Flow.Length)
	}
	return fmt.Sprint(out)
}

func ofTwo(f api.FlowFilter) *merge {
	m := newMerge(f, false)
	m.asked("a", time.Now())
	m.asked("b", time.Now())
	return m
}

func TestFlowsInOrder(t *testing.T) {
	m := ofTwo(api.FlowFilter{Last: 3, Follow: true})
	now := time.Now()
	for _, x := range []told{startOf("a"), flowFrom("a", 1), flowFrom("a", 4), upTo("a", 5)} {
		m.add(x, now)
	}
	if m.starting() != 1 || flowsTaken(m, now) != "[]" {
		t.Error("it does not wait for b")
	}
	for _, x := range []told{startOf("b"), flowFrom("b", 2), flowFrom("b", 3), upTo("b", 6)} {
		m.add(x, now)
	}
	if got := flowsTaken(m, now); got != "[2 3 4]" {
		t.Errorf("the last three are %s", got)
	}
	if m.begun != true || !m.done.Equal(flowsBegin.Add(5*time.Second)) {
		t.Errorf("what was there is not said to be told up to second 5: %v", m.done)
	}
	m.add(flowFrom("b", 8), now)
	m.add(upTo("b", 9), now)
	if got := flowsTaken(m, now); got != "[]" {
		t.Errorf("%s is told before a has told so far", got)
	}
	m.add(flowFrom("a", 7), now)
	m.add(upTo("a", 10), now)
	if got := flowsTaken(m, now); got != "[7 8]" {
		t.Errorf("got %s", got)
	}
	m.add(flowFrom("a", 12), now)
	later := now.Add(Silence + time.Second)
	m.add(upTo("a", 13), later)
	if got := flowsTaken(m, later); got != "[12]" {
		t.Errorf("got %s while b is silent", got)
	}
	m.add(flowFrom("b", 14), later)
	m.add(told{node: "a", over: true, err: errors.New("it stopped")}, later)
	m.add(told{node: "b", over: true}, later)
	if got := flowsTaken(m, later); got != "[14]" || m.reading() {
		t.Errorf("got %s at the end, reading %v", got, m.reading())
	}
	if err := m.failed(); err == nil || !strings.Contains(err.Error(), "node a: it stopped") {
		t.Errorf("got %v", err)
	}
}

// TestFlowsHeldAreBounded: a node that never says how far it is does not make lab hold all that the other tells.
func TestFlowsHeldAreBounded(t *testing.T) {
	m := ofTwo(api.FlowFilter{Follow: true, Last: -1})
	now := time.Now()
	m.add(startOf("a"), now)
	m.add(startOf("b"), now)
	for n := range maxHeld + 10 {
		m.add(flowFrom("a", n), now)
	}
	m.take(now)
	if len(m.held) > maxHeld {
		t.Errorf("%d are held", len(m.held))
	}
	// All that is held is put in order each time, which must not be for each line that comes.
	if room := maxHeld - len(m.held); room < 1000 {
		t.Errorf("%d more make it full again", room)
	}
}

func TestFlowsOfNobody(t *testing.T) {
	m := ofTwo(api.FlowFilter{})
	m.add(startOf("a", "pod default/x", "namespace y"), time.Now())
	m.add(startOf("b", "pod default/x"), time.Now())
	if err := m.unknown(); err == nil || !strings.HasPrefix(err.Error(), "no node knows of pod default/x") {
		t.Errorf("got %v", err)
	}
	m.add(startOf("b"), time.Now())
	if err := m.unknown(); err != nil {
		t.Errorf("b knows it: %v", err)
	}
}

// agents are nodes whose agents tell what is sent to them, and stop when that is closed.
type agents struct {
	mu    sync.Mutex
	nodes []string
	asked map[string]chan api.FlowFilter
	tells map[string]chan api.FlowLine
}

func (a *agents) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked == nil {
		a.asked, a.tells = map[string]chan api.FlowFilter{}, map[string]chan api.FlowLine{}
	}
	a.nodes = append(a.nodes, name)
	a.asked[name], a.tells[name] = make(chan api.FlowFilter, 100), make(chan api.FlowLine, 100)
}

// stop ends what the agent tells, and begins anew with the next one who asks.
func (a *agents) stop(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.tells[name])
	a.tells[name] = make(chan api.FlowLine, 100)
}

func (a *agents) tell(name string, lines ...told) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range lines {
		a.tells[name] <- x.line
	}
}

func (a *agents) all() (nodes []Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.nodes {
		nodes = append(nodes, Node{Name: name, Ask: func(ctx context.Context, f api.FlowFilter, each func(api.FlowLine) bool) error {
			a.mu.Lock()
			asked, tells := a.asked[name], a.tells[name]
			a.mu.Unlock()
			asked <- f
			for {
				select {
				case line, ok := <-tells:
					if !ok {
						return errors.New("it stopped")
					}
					if !each(line) {
						return nil
					}
				case <-ctx.Done():
					return nil
				}
			}
		}})
	}
	return nodes
}

// TestFollowedNodesComeAndGo: a node that stopped to tell is asked again, for what it has not told, and one that is new is
// asked too; who follows hears once that a node stopped.
func TestFollowedNodesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a agents
		a.add("a")
		ctx, cancel := context.WithCancel(t.Context())
		var out, stopped []string
		ended := make(chan error, 1)
		go func() {
			g := Gathering{Nodes: a.all, Again: 5 * time.Second, Stopped: func(node string, err error) { stopped = append(stopped, node+" "+err.Error()) }}
			ended <- g.Flows(ctx, api.FlowFilter{Follow: true}, func(l api.FlowLine) error {
				if l.Flow != nil {
					out = append(out, fmt.Sprint(l.Flow.Node, l.Flow.Length))
				}
				return nil
			})
		}()
		if f := <-a.asked["a"]; f.Last != 0 || !f.Since.IsZero() {
			t.Errorf("a is asked for %+v", f)
		}
		a.tell("a", startOf("a"), upTo("a", 1), flowFrom("a", 2), upTo("a", 3))
		time.Sleep(time.Second)
		a.add("b")
		a.stop("a")
		time.Sleep(6 * time.Second)
		if f := <-a.asked["a"]; f.Last != -1 || !f.Since.Equal(flowsBegin.Add(3*time.Second)) {
			t.Errorf("a is asked again for %+v", f)
		}
		if f := <-a.asked["b"]; f.Last != -1 || f.Since.IsZero() {
			t.Errorf("b is asked for %+v", f)
		}
		a.stop("a") // again, before it has told anything
		a.tell("b", startOf("b"), flowFrom("b", 4), upTo("b", 5))
		time.Sleep(6 * time.Second)
		if f := <-a.asked["a"]; !f.Since.Equal(flowsBegin.Add(3 * time.Second)) {
			t.Errorf("a is asked the third time for %+v", f)
		}
		a.tell("a", startOf("a"), flowFrom("a", 6), upTo("a", 7))
		a.tell("b", upTo("b", 8))
		time.Sleep(6 * time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(out); got != "[a2 b4 a6]" {
			t.Errorf("told is %s", got)
		}
		if got := fmt.Sprint(stopped); got != "[a it stopped]" {
			t.Errorf("stopped are %s", got)
		}
	})
}

// TestNobodyTells: who follows nodes of which none answers is told so at once.
func TestNobodyTells(t *testing.T) {
	refuse := func(context.Context, api.FlowFilter, func(api.FlowLine) bool) error { return errors.New("it refuses") }
	g := Gathering{Nodes: func() []Node { return []Node{{"a", refuse}, {"b", refuse}} }, Again: time.Second}
	err := g.Flows(t.Context(), api.FlowFilter{Follow: true}, func(api.FlowLine) error { return nil })
	var f *Failures
	if !errors.As(err, &f) || !f.All || err.Error() != "node a: it refuses\nnode b: it refuses" {
		t.Errorf("got %v", err)
	}
}
