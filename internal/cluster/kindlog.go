package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	kinderrors "sigs.k8s.io/kind/pkg/errors"
	"sigs.k8s.io/kind/pkg/exec"
	"sigs.k8s.io/kind/pkg/log"
)

// logger hands kind's progress lines on. Warnings are dropped: they repeat what the doctor says.
type logger struct {
	log.NoopLogger
	say func(string)
}

func newLogger(say func(string)) log.Logger { return logger{say: say} }

func (l logger) V(v log.Level) log.InfoLogger {
	if v != 0 {
		return log.NoopInfoLogger{}
	}
	return info(l)
}

type info logger

func (info) Enabled() bool     { return true }
func (i info) Info(msg string) { i.Infof("%s", msg) }

// Infof keeps the lines that announce a step and strips kind's decoration.
func (i info) Infof(format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	step, ok := strings.CutPrefix(line, "• ")
	if !ok {
		return
	}
	step = strings.TrimFunc(step, func(r rune) bool { return r > 127 || r == '.' || r == ' ' })
	i.say(strings.ToLower(strings.TrimRight(step, " \U0001F4E6")))
}

// explain puts the reason into an error of kind, whose own text is only the command line that failed.
func explain(err error) error {
	var run *exec.RunError
	if !errors.As(err, &run) {
		for _, e := range kinderrors.Errors(err) {
			if errors.As(e, &run) {
				break
			}
		}
	}
	if run == nil {
		return err
	}
	out := strings.TrimSpace(string(run.Output))
	if out == "" {
		return err
	}
	switch {
	case strings.Contains(out, "no space left on device"):
		return fmt.Errorf("no space left on the disk Docker uses: free some (docker system df shows what holds it): %s", lastLine(out))
	case strings.Contains(out, "port is already allocated") || strings.Contains(out, "address already in use"):
		return fmt.Errorf("a port of the cluster is taken on this machine: set cluster.apiServerPort to a free one or to 0: %s", lastLine(out))
	}
	return reasoned{fmt.Sprintf("%s: %s", firstWords(run.Command), lastLine(out)), err}
}

// reasoned is an error with a text of its own: kind's is a command line of several hundred characters.
type reasoned struct {
	text string
	error
}

func (r reasoned) Error() string { return r.text }
func (r reasoned) Unwrap() error { return r.error }

// firstWords is what a command is, without its flags.
func firstWords(command []string) string {
	if end := slices.IndexFunc(command, func(word string) bool { return strings.HasPrefix(word, "-") }); end > 0 {
		command = command[:end]
	}
	return strings.Join(command[:min(len(command), 3)], " ")
}

// lastLine is the last line of a command's output that says something, shortened.
func lastLine(out string) string {
	lines := strings.Split(out, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		l := strings.TrimSpace(lines[i])
		// docker and kubeadm end with advice; the reason is the line before.
		if l == "" || strings.HasPrefix(l, "To see the stack trace") || strings.HasPrefix(l, "Run 'docker") || strings.HasPrefix(l, "See 'docker") {
			continue
		}
		if len(l) > 300 {
			l = l[:300] + "..."
		}
		return l
	}
	return ""
}
