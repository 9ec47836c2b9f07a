package labs

import (
	"context"
	"strings"
	"time"
)

// moment is how long a person waits without being told what for.
const moment = time.Second

// telling has say, which may be nil, told what is waited for when that takes longer than a moment. The caller calls over
// when it does not wait any more.
func telling(say func(string), what string) (over func()) {
	if say == nil {
		return func() {}
	}
	said := make(chan struct{})
	t := time.AfterFunc(moment, func() {
		defer close(said)
		say(what)
	})
	return func() {
		if !t.Stop() {
			<-said
		}
	}
}

// waitingFor has say, which may be nil, told the names of what is waited for whenever they change.
func waitingFor(say func(string)) func(missing []string) {
	if say == nil {
		return nil
	}
	return func(missing []string) { say("waiting for " + strings.Join(missing, ", ")) }
}

// toldWhenStarted is whenStarted for a person who waits for what.
func (l *Lab) toldWhenStarted(ctx context.Context, what string, do func() error) error {
	var over func()
	defer func() {
		if over != nil {
			over()
		}
	}()
	return whenStarted(ctx, agentPatience, func() error {
		err := do()
		if err != nil && over == nil {
			over = telling(l.say, "waiting for "+what)
		}
		return err
	})
}
