package verify

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/screen"
)

// textWidth is the widest line of a text report, in characters, and narrowest what the table needs to be read.
const (
	textWidth = 100
	narrowest = 60
)

// width is how wide a text report may be: COLUMNS, where somebody has less than usual.
func width() int { return max(screen.AtMost(textWidth), narrowest) }

// mark is how a report's table writes s: what did not pass stands out.
func (s Status) mark() string {
	if s == Pass {
		return "ok"
	}
	return strings.ToUpper(string(s))
}

// WriteText writes a table of at most 100 columns, with what did not pass first.
// What speaks against a claim follows it, and when verbose what speaks for it.
func (r *Report) WriteText(w io.Writer, verbose bool) error {
	out := bufio.NewWriter(w)
	nameWidth := len("check")
	for _, result := range r.Results {
		nameWidth = max(nameWidth, len(result.Name))
	}
	claimColumn := len("ERROR  ") + nameWidth + len("  00.0s  ")
	fmt.Fprintf(out, "%-5s  %-*s  %5s  %s\n", "", nameWidth, "check", "time", "claim")
	ran, idle := r.Results, []Result(nil)
	if !verbose {
		ran, idle = withoutIdle(r.Results)
	}
	for _, result := range WorstFirst(ran) {
		claim := screen.Wrap(result.Claim, max(width()-claimColumn, 20))
		fmt.Fprintf(out, "%-5s  %-*s  %5s  %s\n", result.Status.mark(), nameWidth, result.Name, seconds(result.Duration), claim[0])
		for _, line := range claim[1:] {
			fmt.Fprintf(out, "%*s%s\n", claimColumn, "", line)
		}
		writeEvidence(out, result, verbose)
	}
	writeIdle(out, idle)
	tableOf(r.Results).write(out)
	fmt.Fprintf(out, "\n%s\n", strings.Join(screen.Wrap(summary(r), width()), "\n"))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// fewIdle is how many checks that did not run, all for one reason, are written one by one.
const fewIdle = 3

// withoutIdle takes out what did not run, where that is many checks and they all have one reason, as when somebody interrupts.
func withoutIdle(results []Result) (ran, idle []Result) {
	for _, r := range results {
		if strings.HasPrefix(r.Error, notRunFor) && (len(idle) == 0 || r.Error == idle[0].Error) {
			idle = append(idle, r)
		} else {
			ran = append(ran, r)
		}
	}
	if len(idle) <= fewIdle {
		return results, nil
	}
	return ran, idle
}

// writeIdle writes what did not run with the reason, which is that of all.
func writeIdle(w io.Writer, idle []Result) {
	if len(idle) == 0 {
		return
	}
	var names []string
	for _, r := range idle {
		names = append(names, r.Name)
	}
	const indent = len("ERROR  ")
	for i, line := range screen.Wrap(fmt.Sprintf("%d checks were %s", len(idle), idle[0].Error), width()-indent) {
		fmt.Fprintf(w, "%-*s%s\n", indent, []string{Error.mark(), ""}[min(i, 1)], line)
	}
	for _, line := range screen.Wrap(strings.Join(names, ", "), width()-indent) {
		fmt.Fprintf(w, "%*s%s\n", indent, "", line)
	}
}

// WorstFirst are the results that are to be read first: what failed, what could not look, what passed, each in their order.
func WorstFirst(results []Result) []Result {
	rank := func(r Result) int { return slices.Index([]Status{Fail, Error, Pass}, r.Status) }
	return slices.SortedStableFunc(slices.Values(results), func(a, b Result) int { return cmp.Compare(rank(a), rank(b)) })
}

// writeEvidence writes what speaks against a claim, and with all also what speaks for it.
func writeEvidence(w io.Writer, result Result, all bool) {
	var lines []string
	for _, wrong := range result.Wrong {
		lines = append(lines, "wrong: "+wrong.About, "  want: "+wrong.Want, "  seen: "+strings.ReplaceAll(wrong.Seen, "\n", "\n  "))
	}
	if result.Error != "" {
		lines = append(lines, "error: "+result.Error)
	}
	if all {
		for _, seen := range result.Seen {
			lines = append(lines, "seen: "+seen)
		}
	}
	const indent = 7
	for _, line := range lines {
		for part := range strings.SplitSeq(line, "\n") {
			deeper := len(part) - len(strings.TrimLeft(part, " "))
			for i, piece := range screen.Wrap(strings.TrimSpace(part), width()-indent-deeper-2) {
				fmt.Fprintf(w, "%*s%s\n", indent+deeper+2*min(i, 1), "", piece)
			}
		}
	}
}

func summary(r *Report) string {
	parts := []string{fmt.Sprintf("%d passed", r.Count(Pass))}
	if n := r.Count(Fail); n > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n))
	}
	if n := r.Count(Error); n > 0 {
		parts = append(parts, fmt.Sprintf("%d could not look", n))
	}
	return fmt.Sprintf("lab %s, mode %s: %s in %s (%s of it to set up)", r.Lab, r.Mode,
		strings.Join(parts, ", "), seconds(r.Duration), seconds(r.Setup))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
