package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/verify"
)

// timings is how long a command and its parts took, as --timings writes it. All times are in seconds.
type timings struct {
	Command string    `json:"command"`
	Lab     string    `json:"lab"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"` // the whole command
	Steps   []timed   `json:"steps"`
	Checks  []timed   `json:"checks"`
	Budgets []spent   `json:"budgets"`
}

// timed is one part of a command.
type timed struct {
	Name    string  `json:"name"`
	State   string  `json:"state"` // of a step as its events have it, of a check its status
	Seconds float64 `json:"seconds"`
}

// spent is a budget and what became of it.
type spent struct {
	Name     string  `json:"name"`
	Budget   float64 `json:"budget"`
	Seconds  float64 `json:"seconds"`
	Exceeded bool    `json:"exceeded"`
}

// budget is how long a command, or a step of it, may take.
type budget struct {
	name  string
	limit time.Duration
}

// budgets is the flag --budget. Its names are those of the command and of its steps.
type budgets struct {
	names []string
	all   []budget
}

func (b *budgets) Type() string { return "name=time" }

func (b *budgets) String() string {
	var words []string
	for _, one := range b.all {
		words = append(words, one.name+"="+one.limit.String())
	}
	return strings.Join(words, ",")
}

// Set reads one budget, as in up=90s.
func (b *budgets) Set(value string) error {
	if blank(value) {
		return errors.New("its value is empty: give one, or leave the flag out")
	}
	name, text, _ := strings.Cut(value, "=")
	if !slices.Contains(b.names, name) {
		return fmt.Errorf("no step is called %q: there are %s", name, strings.Join(b.names, ", "))
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit <= 0 {
		return fmt.Errorf("want a time above zero behind the name, as in %s=90s", name)
	}
	if b.of(name) > 0 {
		return fmt.Errorf("%s has a budget already", name)
	}
	b.all = append(b.all, budget{name, limit})
	return nil
}

// of is the budget of a name; 0: none.
func (b *budgets) of(name string) time.Duration {
	i := slices.IndexFunc(b.all, func(one budget) bool { return one.name == name })
	if i < 0 {
		return 0
	}
	return b.all[i].limit
}

// clock measures a command.
type clock struct {
	command string
	file    string
	budgets budgets
	began   time.Time
}

// flags adds --timings and --budget. steps are the names that a budget may have beside the command's.
func (c *clock) flags(cmd *cobra.Command, steps ...string) {
	c.command = cmd.Name()
	c.budgets.names = append([]string{c.command}, steps...)
	cmd.Flags().StringVar(&c.file, "timings", "", "write how long each step and each check took to this file, as JSON")
	cmd.Flags().Var(&c.budgets, "budget", "how long the command, or a step of it, may take: "+c.command+"=90s (repeat for more)")
	must(cmd.MarkFlagFilename("timings", "json"))
	must(cmd.RegisterFlagCompletionFunc("budget", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var words []string
		for _, name := range c.budgets.names {
			words = append(words, name+"=")
		}
		return words, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}))
}

// start is called before anything is made.
func (c *clock) start() error {
	c.began = time.Now()
	return canWrite(c.file)
}

// stop writes the timings. failed is how the command ended: the budgets of one that could do its work are claims, which the
// error says of each that was exceeded.
func (c *clock) stop(lab string, steps []labs.StepResult, report *verify.Report, failed error) error {
	took := time.Since(c.began)
	t := timings{Command: c.command, Lab: lab, Started: c.began, Seconds: took.Seconds(), Steps: []timed{}, Checks: []timed{}, Budgets: []spent{}}
	for _, s := range steps {
		t.Steps = append(t.Steps, timed{s.Name, string(s.State), s.Duration.Seconds()})
	}
	if report != nil {
		for _, r := range report.Results {
			t.Checks = append(t.Checks, timed{r.Name, string(r.Status), r.Duration.Seconds()})
		}
	}
	var over []string
	for _, b := range c.budgets.all {
		d := took
		if b.name != c.command {
			i := slices.IndexFunc(steps, func(s labs.StepResult) bool { return s.Name == b.name })
			if i < 0 {
				continue // it has not begun
			}
			d = steps[i].Duration
		}
		t.Budgets = append(t.Budgets, spent{b.name, b.limit.Seconds(), d.Seconds(), d > b.limit})
		if d > b.limit {
			over = append(over, fmt.Sprintf("%s took %.1fs, more than its budget of %s", b.name, d.Seconds(), b.limit))
		}
	}
	var err error
	if len(over) > 0 && (failed == nil || exitCode(failed) == exitClaim) {
		err = claimError{fmt.Errorf("lab %s: %s", lab, strings.Join(over, "; "))}
	}
	return errors.Join(err, c.write(t))
}

func (c *clock) write(t timings) error {
	if c.file == "" {
		return nil
	}
	content, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(c.file, append(content, '\n'))
}

// Steps of lab verify, which has no other ones.
const (
	stepSetUp  = "setup"
	stepChecks = "checks"
)

// verifySteps are the steps of a run of the checks.
func verifySteps(report *verify.Report) []labs.StepResult {
	if report == nil || report.Setup == 0 { // it has not come to run any
		return nil
	}
	return []labs.StepResult{
		{Name: stepSetUp, State: labs.StepDone, Duration: report.Setup},
		{Name: stepChecks, State: labs.StepDone, Duration: report.Duration - report.Setup},
	}
}
