package verify

import (
	"bufio"
	"fmt"
	"io"
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

func writeText(w io.Writer, r *Report, verbose bool) error {
	out := bufio.NewWriter(w)
	nameWidth := len("check")
	for _, result := range r.Results {
		nameWidth = max(nameWidth, len(result.Name))
	}
	claimColumn := len("ERROR  ") + nameWidth + len("  00.0s  ")
	fmt.Fprintf(out, "%-5s  %-*s  %5s  %s\n", "", nameWidth, "check", "time", "claim")
	for _, result := range r.Results {
		claim := screen.Wrap(result.Claim, max(width()-claimColumn, 20))
		fmt.Fprintf(out, "%-5s  %-*s  %5s  %s\n", result.Status.mark(), nameWidth, result.Name, seconds(result.Duration), claim[0])
		for _, line := range claim[1:] {
			fmt.Fprintf(out, "%*s%s\n", claimColumn, "", line)
		}
		if verbose || result.Status != Pass {
			writeEvidence(out, result)
		}
	}
	tableOf(r.Results).write(out)
	fmt.Fprintf(out, "\n%s\n", strings.Join(screen.Wrap(summary(r), width()), "\n"))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func writeEvidence(w io.Writer, result Result) {
	var lines []string
	for _, wrong := range result.Wrong {
		lines = append(lines, "wrong: "+wrong.About, "  want: "+wrong.Want, "  seen: "+strings.ReplaceAll(wrong.Seen, "\n", "\n  "))
	}
	if result.Error != "" {
		lines = append(lines, "error: "+result.Error)
	}
	for _, seen := range result.Seen {
		lines = append(lines, "seen: "+seen)
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
