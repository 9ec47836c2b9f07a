package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/cluster"
)

var flowsBegin = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// flowFrom is what a node tells of second n.
func flowFrom(node string, n int) nodeFlow {
	return nodeFlow{node: node, line: api.FlowLine{Flow: &api.FlowRecord{Node: node, Time: flowsBegin.Add(time.Duration(n) * time.Second), Length: n}}}
}

func upTo(node string, n int) nodeFlow {
	return nodeFlow{node: node, line: api.FlowLine{UpTo: flowsBegin.Add(time.Duration(n) * time.Second)}}
}

func startOf(node string, unknown ...string) nodeFlow {
	return nodeFlow{node: node, line: api.FlowLine{Start: &api.FlowStart{Node: node, Unknown: unknown}}}
}

func flowsTaken(m *flowMerge, now time.Time) string {
	var out []int
	for _, l := range m.take(now) {
		out = append(out, l.Flow.Length)
	}
	return fmt.Sprint(out)
}

func twoNodes() []cluster.Node { return []cluster.Node{{Name: "a"}, {Name: "b"}} }

func TestFlowsInOrder(t *testing.T) {
	m := newFlowMerge(twoNodes(), api.FlowFilter{Last: 3, Follow: true})
	now := time.Now()
	for _, x := range []nodeFlow{startOf("a"), flowFrom("a", 1), flowFrom("a", 4), upTo("a", 5)} {
		m.add(x, now)
	}
	if m.starting() != 1 || flowsTaken(m, now) != "[]" {
		t.Error("it does not wait for b")
	}
	for _, x := range []nodeFlow{startOf("b"), flowFrom("b", 2), flowFrom("b", 3), upTo("b", 6)} {
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
	later := now.Add(flowsSilent + time.Second)
	m.add(upTo("a", 13), later)
	if got := flowsTaken(m, later); got != "[12]" {
		t.Errorf("got %s while b is silent", got)
	}
	m.add(flowFrom("b", 14), later)
	m.add(nodeFlow{node: "a", over: true, err: errors.New("it stopped")}, later)
	m.add(nodeFlow{node: "b", over: true}, later)
	if got := flowsTaken(m, later); got != "[14]" || m.reading() {
		t.Errorf("got %s at the end, reading %v", got, m.reading())
	}
	if err := m.failed(); err == nil || !strings.Contains(err.Error(), "node a: it stopped") {
		t.Errorf("got %v", err)
	}
}

// TestFlowsHeldAreBounded: a node that never says how far it is does not make lab hold all that the other tells.
func TestFlowsHeldAreBounded(t *testing.T) {
	m := newFlowMerge(twoNodes(), api.FlowFilter{Follow: true, Last: -1})
	now := time.Now()
	m.add(startOf("a"), now)
	m.add(startOf("b"), now)
	for n := range maxHeldFlows + 10 {
		m.add(flowFrom("a", n), now)
	}
	m.take(now)
	if len(m.held) > maxHeldFlows {
		t.Errorf("%d are held", len(m.held))
	}
	// All that is held is put in order each time, which must not be for each line that comes.
	if room := maxHeldFlows - len(m.held); room < 1000 {
		t.Errorf("%d more make it full again", room)
	}
}

// TestFlowsOfASilentAgent: an agent that does not begin to answer is given up. Once it has begun it may take its time.
func TestFlowsOfASilentAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(ctx context.Context, answer func(net.Conn)) (lines int, err error) {
			c := client.NewOver("a pod", func(context.Context) (net.Conn, error) {
				near, far := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, far) }()
				go answer(far)
				return near, nil
			})
			err = readFlows(ctx, c, api.FlowFilter{Last: -1}, func(api.FlowLine) bool { lines++; return true })
			return lines, err
		}
		began := time.Now()
		_, err := read(t.Context(), func(net.Conn) {})
		if err == nil || err.Error() != "its agent does not answer within 20s" || time.Since(began) != beginTimeout {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		lines, err := read(t.Context(), func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\n", `{"start":{"node":"a"}}`, "\n")
			time.Sleep(time.Hour)
			fmt.Fprintln(c, `{"flow":{}}`)
			c.Close()
		})
		if err != nil || lines != 2 {
			t.Errorf("of one that has begun: %d lines, %v", lines, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := read(ctx, func(net.Conn) {}); err != nil {
			t.Errorf("who waits no more is told %v", err)
		}
	})
}

func TestFlowsOfNobody(t *testing.T) {
	m := newFlowMerge(twoNodes(), api.FlowFilter{})
	m.add(startOf("a", "pod default/x", "namespace y"), time.Now())
	m.add(startOf("b", "pod default/x"), time.Now())
	if err := m.unknown(); err == nil || !strings.HasPrefix(err.Error(), "no node knows of pod default/x: ") {
		t.Errorf("got %v", err)
	}
	m.add(startOf("b"), time.Now())
	if err := m.unknown(); err != nil {
		t.Errorf("b knows it: %v", err)
	}
}
