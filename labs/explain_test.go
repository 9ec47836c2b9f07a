package labs

import (
	"errors"
	"fmt"
	"testing"

	"wirelab.dev/wirelab/verify/probe"
)

// TestWithFreePort: only a port that is taken is a reason to try again, and not for ever.
func TestWithFreePort(t *testing.T) {
	taken, other := fmt.Errorf("send: %w: 40000", probe.ErrPortTaken), errors.New("no such pod")
	for _, c := range []struct {
		name  string
		fails []error
		want  error
		tries int
	}{
		{"free at once", nil, nil, 1},
		{"taken once", []error{taken}, nil, 2},
		{"taken each time", []error{taken, taken, taken, taken}, taken, 3},
		{"another error", []error{other, nil}, other, 1},
		{"taken, then another error", []error{taken, other}, other, 2},
	} {
		tries := 0
		err := withFreePort(func() error {
			tries++
			if tries > len(c.fails) {
				return nil
			}
			return c.fails[tries-1]
		})
		if !errors.Is(err, c.want) || tries != c.tries {
			t.Errorf("%s: %v after %d tries, want %v after %d", c.name, err, tries, c.want, c.tries)
		}
	}
}
