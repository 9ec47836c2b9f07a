package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/briandowns/spinner"
	"github.com/fatih/color"

	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/labs"
)

// progress shows the steps of a lab on standard error: on a terminal a line a step with a spinner below for those under
// way, elsewhere plain lines, for machines a JSON object a line.
type progress struct {
	mu      sync.Mutex
	w       io.Writer
	json    *json.Encoder    // nil unless for machines
	spin    *spinner.Spinner // nil unless on a terminal
	width   int              // of a line; 0: any
	good    *color.Color
	bad     *color.Color
	faint   *color.Color
	running []labs.Event // in the order they began, with their latest note
}

func newProgress(w io.Writer, machine bool) *progress {
	p := &progress{w: w, width: screen.Columns(), good: color.New(color.FgGreen), bad: color.New(color.FgRed), faint: color.New(color.Faint)}
	if machine {
		p.json = json.NewEncoder(w)
		return p
	}
	colors := false
	if f, _ := fileOf(w); isTerminal(w) && os.Getenv("TERM") != "dumb" {
		colors, p.width = screen.Terminal(f)
		p.spin = spinner.New(spinner.CharSets[14], 100*time.Millisecond, spinner.WithWriterFile(f))
		p.spin.Writer = w
	}
	for _, c := range []*color.Color{p.good, p.bad, p.faint} {
		if colors {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
	}
	return p
}

// event is a labs.Progress.
func (p *progress) event(e labs.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json != nil {
		// Nothing useful can be done when standard error is gone.
		_ = p.json.Encode(e)
		return
	}
	i := slices.IndexFunc(p.running, func(r labs.Event) bool { return r.Step == e.Step })
	switch {
	case e.State == labs.StepRunning && i < 0:
		p.running = append(p.running, e)
		if p.spin == nil {
			p.line(screen.Cut("  "+e.Step, p.width))
		}
	case e.State == labs.StepRunning:
		p.running[i].Note = e.Note
	case e.State == labs.StepUndoing:
		p.line(p.faint.Sprint(screen.Cut("  undoing "+e.Step+" (interrupt to stop at once)", p.width)))
	default:
		if i >= 0 {
			p.running = slices.Delete(p.running, i, i+1)
		}
		p.line(p.ended(e))
	}
	p.turn()
}

// ended is the line of a step that has ended.
func (p *progress) ended(e labs.Event) string {
	sign, shade := "✓", p.good
	switch e.State {
	case labs.StepFailed:
		sign, shade = "✗", p.bad
	case labs.StepCancelled:
		sign, shade = "-", p.faint
	}
	step := screen.Cut(fmt.Sprintf("%s %-14s %6.1fs", sign, e.Step, e.Duration.Seconds()), p.width)
	s := shade.Sprint(sign) + strings.TrimPrefix(step, sign)
	// The reason of a failure is the error that ends the command; it need not stand here, too.
	room := p.width - utf8.RuneCountInString(step) - 2
	if e.Note != "" && e.State == labs.StepDone && (p.width == 0 || room > 0) {
		s += "  " + p.faint.Sprint(screen.Cut(e.Note, room))
	}
	return s
}

func (p *progress) line(s string) {
	if p.spin != nil {
		p.spin.Stop()
	}
	fmt.Fprintln(p.w, s)
}

// turn shows what is under way next to the spinner.
func (p *progress) turn() {
	if p.spin == nil {
		return
	}
	if len(p.running) == 0 {
		p.spin.Stop()
		return
	}
	var parts []string
	for _, r := range p.running {
		s := r.Step
		if r.Note != "" {
			s += ": " + r.Note
		}
		parts = append(parts, s)
	}
	text := screen.Cut(" "+strings.Join(parts, " | "), max(p.width-3, 1))
	p.spin.Lock()
	p.spin.Suffix = text
	p.spin.Unlock()
	p.spin.Start()
}

// close clears the spinner.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spin != nil {
		p.spin.Stop()
	}
}

// waiting says what a command waits for.
func waiting(w io.Writer) func(what string) {
	return func(what string) { progressLine(w, "%s", what) }
}

// progressLine writes a line no longer than COLUMNS.
func progressLine(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, screen.Cut(fmt.Sprintf(format, args...), screen.Columns()))
}
