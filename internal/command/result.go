// Package command is what commands leave behind that run elsewhere: in a
// container, or in a pod.
package command

import (
	"fmt"
	"strings"
)

// Result is what a command that ran to its end left behind. A Code other than 0 is no error of ours.
type Result struct {
	Stdout, Stderr []byte
	Code           int
}

// Err is nil for exit status 0, else an error with the command's last words.
func (r Result) Err(cmd ...string) error {
	if r.Code == 0 {
		return nil
	}
	words := strings.TrimSpace(string(r.Stderr))
	if words == "" {
		words = strings.TrimSpace(string(r.Stdout))
	}
	return fmt.Errorf("run %q: exit status %d: %s", strings.Join(cmd, " "), r.Code, words)
}
