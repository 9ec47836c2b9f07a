package verify

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// WriteMarkdown writes what a CI system shows of a job, in GitHub's Markdown: first what did not pass and what speaks against
// it, and folded away what passed, where packets were seen, and what was skipped and why.
func (r *Report) WriteMarkdown(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "## Lab %s: %s\n\n", plain(r.Lab), r.Verdict())
	about := []string{"mode " + r.Mode}
	for _, what := range slices.Sorted(maps.Keys(r.About)) {
		about = append(about, what+" "+r.About[what])
	}
	fmt.Fprintf(out, "%s; %s, %s of it to set up\n", plain(strings.Join(about, ", ")), seconds(r.Duration), seconds(r.Setup))
	sorted := WorstFirst(r.Results)
	first := slices.IndexFunc(sorted, func(result Result) bool { return result.Status == Pass })
	if first < 0 {
		first = len(sorted)
	}
	writeProblems(out, sorted[:first])
	writeFolded(out, fmt.Sprintf("%d passed", len(sorted)-first), []string{"check", "time", "claim"}, len(sorted)-first, func(i int) []string {
		result := sorted[first+i]
		return []string{code(result.Name), seconds(result.Duration), plain(result.Claim)}
	})
	if t := tableOf(r.Results); len(t.rows) > 0 {
		var text strings.Builder
		t.write(&text)
		fmt.Fprintf(out, "\n<details><summary>Where packets were seen</summary>\n\n%s\n</details>\n", fenced(strings.Trim(text.String(), "\n")))
	}
	writeFolded(out, fmt.Sprintf("%d skipped", len(r.Skipped)), []string{"check", "why", "claim"}, len(r.Skipped), func(i int) []string {
		s := r.Skipped[i]
		return []string{code(s.Name), plain(s.Why), plain(s.Claim)}
	})
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the report as Markdown: %w", err)
	}
	return nil
}

// writeProblems has a table of the checks that did not pass, and below it what speaks against each claim.
func writeProblems(w io.Writer, results []Result) {
	if len(results) == 0 {
		return
	}
	writeTable(w, []string{"", "check", "time", "claim"}, len(results), func(i int) []string {
		result := results[i]
		return []string{result.Status.mark(), code(result.Name), seconds(result.Duration), plain(result.Claim)}
	})
	for _, result := range results {
		evidence := findingsText(result.Wrong)
		if result.Error != "" {
			evidence = strings.Trim(evidence+"\nerror: "+result.Error, "\n")
		}
		fmt.Fprintf(w, "\n**%s** %s\n\n%s", result.Status.mark(), code(result.Name), fenced(evidence))
	}
}

// writeFolded has a table that is folded away, or nothing where it has no rows.
func writeFolded(w io.Writer, title string, head []string, rows int, row func(int) []string) {
	if rows == 0 {
		return
	}
	fmt.Fprintf(w, "\n<details><summary>%s</summary>\n", title)
	writeTable(w, head, rows, row)
	fmt.Fprint(w, "\n</details>\n")
}

func writeTable(w io.Writer, head []string, rows int, row func(int) []string) {
	fmt.Fprintf(w, "\n| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for i := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row(i), " | "))
	}
}

// marks are the characters that mean something in Markdown, or in a cell of a table.
var marks = regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|~&]")

// plain is text that reads as it is, in one line.
func plain(s string) string {
	return marks.ReplaceAllString(strings.Join(strings.Fields(s), " "), `\$0`)
}

// code is a name of ours, which has no backtick.
func code(name string) string { return "`" + strings.ReplaceAll(name, "|", `\|`) + "`" }

var backticks = regexp.MustCompile("`+")

// fenced is text as it is, whatever is in it, of which nothing is taken for Markdown.
func fenced(s string) string {
	fence := "```"
	for _, found := range backticks.FindAllString(s, -1) {
		if len(found) >= len(fence) {
			fence = found + "`"
		}
	}
	return fence + "text\n" + strings.ToValidUTF8(s, "\uFFFD") + "\n" + fence + "\n"
}
