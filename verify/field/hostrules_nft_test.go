package field

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/netnstest"
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
	add, remove := others.script(), strings.ReplaceAll(others.script(), "-I ", "-D ")
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
	for range 15 {
		node.Run("sh", "-c", own.script())
		_, rules, err := readCounts(node.Run("sh", "-c", CountsScript), own.tag())
		if err != nil || rules != len(own.Rules) {
			t.Errorf("%d of %d rules, %v", rules, len(own.Rules), err)
		}
		if out, err := node.TryRun("sh", "-c", removeRulesScript(own.tag())); err != nil {
			t.Errorf("remove the rules: %v %s", err, out)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if left := node.Run("iptables-save", "-t", "raw"); strings.Contains(left, own.tag()) {
		t.Errorf("rules are left:\n%s", left)
	}
}
