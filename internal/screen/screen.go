// Package screen fits text into the width of a screen.
package screen

import (
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// narrowest is what a screen has at least; narrower ones are not written for.
const narrowest = 40

// Columns is how wide output may be, as COLUMNS says; 0 where it does not.
func Columns() int {
	n, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err != nil || n <= 0 {
		return 0
	}
	return max(n, narrowest)
}

// Terminal says whether f is a terminal that shows colours, and how wide a line
// of it may be; 0 where it is none.
func Terminal(f *os.File) (colors bool, width int) {
	if !term.IsTerminal(int(f.Fd())) {
		return false, 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", AtMost(width)
}

// Width is how wide lines on f may be: as a terminal is, or as COLUMNS says; 0 where neither does, as in a pipe.
func Width(f *os.File) int {
	if _, width := Terminal(f); width > 0 {
		return width
	}
	return Columns()
}

// AtMost is usual, or what COLUMNS says where that is less.
func AtMost(usual int) int {
	if n := Columns(); n > 0 {
		return min(n, usual)
	}
	return usual
}

// Wrap breaks s at spaces into lines of at most width characters, and a word
// that is longer than a line where the line ends. Spaces are kept as they are
// where a line has room for all. It returns at least one line.
func Wrap(s string, width int) []string {
	if utf8.RuneCountInString(s) <= width {
		return []string{s}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for utf8.RuneCountInString(word) > width {
			runes := []rune(word)
			lines = append(lines, string(runes[:width]))
			word = string(runes[width:])
		}
		line = word
	}
	return append(lines, line)
}

// Paragraph is s in lines of at most as many characters as COLUMNS says; all
// lines but the first are indented.
func Paragraph(s, indent string) string {
	width := Columns()
	if width == 0 {
		return s + "\n"
	}
	return strings.Join(Wrap(s, width-len(indent)), "\n"+indent) + "\n"
}

// Cut shortens s to width characters, of which the last is an ellipsis then; 0
// is any width.
func Cut(s string, width int) string {
	runes := []rune(s)
	if width <= 0 || len(runes) <= width {
		return s
	}
	return string(runes[:width-1]) + "…"
}
