package field

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/verify/probe"
)

// Others' rules come and go in the same chain while a run reads and removes its own.
func TestRulesAreReadWholeWhileOthersChange(t *testing.T) {
	netnstest.RequireRoot(t)
	node := netnstest.New(t, "node")
	others := Tripwires{id: "OTHER"}
	own := Tripwires{id: "RUN"}
	for i := range 150 {
		own.Rules = append(own.Rules, Tripwire{Hook: RawPrerouting, match: fmt.Sprintf("-p udp --dport %d", 1000+i), key: fmt.Sprint(i)})
		others.Rules = append(others.Rules, Tripwire{Hook: RawPrerouting, match: fmt.Sprintf("-p tcp --dport %d", 1000+i), key: fmt.Sprint(i)})
	}
	add, remove := others.script("-I"), others.script("-D")
	stop, stopped := make(chan struct{}), make(chan error)
	change := func() error {
		for {
			for _, script := range []string{add, remove} {
				if _, err := node.TryRun("sh", "-c", script); err != nil {
					return err
				}
				select {
				case <-stop:
					return nil
				case <-time.After(50 * time.Millisecond): // a look between two changes
				}
			}
		}
	}
	go func() { stopped <- change() }()
	at := &Node{Peer: Peer{Name: "node", Prober: runsIn{node}}}
	for i := range 15 {
		node.Run("sh", "-c", own.script("-I"))
		if counts, err := own.counts(t.Context(), at); err != nil || len(counts) != len(own.Rules) {
			t.Errorf("%d of %d rules, %v", len(counts), len(own.Rules), err)
		}
		if i%2 == 0 { // half of them are gone already
			half := own
			half.Rules = own.Rules[:len(own.Rules)/2]
			if out, err := node.TryRun("sh", "-c", half.script("-D")); err != nil {
				t.Logf("remove half of the rules: %v %s", err, out)
			}
		}
		if err := own.remove(t.Context(), at); err != nil {
			t.Errorf("remove the rules: %v", err)
		}
		if left := node.Run("iptables-save", "-t", "raw"); strings.Contains(left, own.tag()) {
			t.Errorf("rules are left:\n%s", left)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// runsIn runs the commands that it is asked for in a network namespace.
type runsIn struct{ *netnstest.NS }

func (r runsIn) Probe(_ context.Context, request probe.Request) (probe.Reply, error) {
	out, err := r.TryRun(request.Exec.Argv...)
	reply := &probe.ExecResult{Stdout: out}
	if err != nil {
		reply = &probe.ExecResult{Code: 1, Stderr: fmt.Sprint(err, out)}
	}
	return probe.Reply{Exec: reply}, nil
}

func (runsIn) Start(context.Context, probe.Request) (Running, error) {
	return nil, errors.New("not here")
}
