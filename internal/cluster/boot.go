package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// ErrTooBusy means that kind gave a node up that was still booting.
var ErrTooBusy = errors.New("the machine is too busy to boot a node in time")

// lateBoot is what kind says when a node's log has not shown in 30 s that it has booted: a regular expression follows.
const lateBoot = "could not find a log line that matches"

// boot makes a cluster once more when its nodes were late the first time: by then what they need is in memory, and what
// kept the machine busy may be over.
type boot struct {
	// create makes it; remove takes away what it left.
	create, remove func(context.Context) error
	// ended names the nodes whose containers do not run any more.
	ended func(context.Context) ([]string, error)
	say   func(string)
}

func (b boot) run(ctx context.Context) error {
	err := b.create(ctx)
	for tries := 1; isLate(err) && ctx.Err() == nil; tries++ {
		ended, lookErr := b.ended(ctx)
		switch {
		case lookErr != nil:
			return errors.Join(err, lookErr)
		case len(ended) > 0:
			return fmt.Errorf("%s ended while booting: docker logs %s says why, after lab up --retain", strings.Join(ended, ", "), ended[0])
		case tries == 2:
			return fmt.Errorf("%w: kind waits 30 s, and has waited twice%s: stop what else runs on it, or make a smaller lab (--set cluster.workers=1)", ErrTooBusy, load())
		}
		b.say("a node did not boot within 30 s: once more")
		if err := b.remove(ctx); err != nil {
			return err
		}
		err = b.create(ctx)
	}
	return err
}

func isLate(err error) bool { return err != nil && strings.Contains(err.Error(), lateBoot) }

// load says how busy this machine is; empty where that is not to be had. Docker may be on another one.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	average, _, ok := strings.Cut(string(data), " ")
	if err != nil || !ok {
		return ""
	}
	return fmt.Sprintf(" (load %s on %d CPUs)", average, runtime.NumCPU())
}

// endedNodes are the nodes of a cluster that do not run.
func (c *Clusters) endedNodes(ctx context.Context, name string) ([]string, error) {
	cl, err := c.Find(ctx, name)
	if err != nil || cl == nil {
		return nil, err
	}
	var names []string
	for _, n := range cl.Down() {
		names = append(names, n.Name)
	}
	return names, nil
}

// afterBoot wraps say, so that booted is called when kind goes on to a step that has all nodes booted.
func afterBoot(say func(string), booted func()) func(string) {
	done := false // kind's steps come one after the other
	return func(step string) {
		if !done && !strings.HasPrefix(step, "ensuring node image") && !strings.HasPrefix(step, "preparing nodes") {
			done = true
			booted()
		}
		say(step)
	}
}
