package draw

import (
	"strings"
	"unicode/utf8"
)

// advance is how wide a character of the monospace fonts is that the picture asks for, in hundredths of their size, rounded up:
// 60.2 of DejaVu Sans Mono, Menlo and SF Mono, 60 of Liberation Mono and Courier New.
const advance = 61

func textWidth(s string, size int) int { return (utf8.RuneCountInString(s)*size*advance + 99) / 100 }

// wrap breaks words into lines of at most so many pixels: behind a comma, if what is between two fits into a line. A word that is
// longer is broken.
func wrap(s string, size, width int) (out []string) {
	most := max(1, width*100/(size*advance))
	var now []rune
	for _, unit := range units(s, most) {
		w := []rune(unit)
		if len(now) > 0 && len(now)+1+len(w) > most {
			out, now = append(out, string(now)), nil
		}
		if len(now) > 0 {
			now = append(now, ' ')
		}
		now = append(now, w...)
		for len(now) > most {
			out, now = append(out, string(now[:most])), now[most:]
		}
	}
	if len(now) > 0 {
		out = append(out, string(now))
	}
	return out
}

// units are what wrap keeps on one line.
func units(s string, most int) (out []string) {
	for part := range strings.SplitAfterSeq(s, ", ") {
		if part = strings.TrimSpace(part); utf8.RuneCountInString(part) <= most*2/3 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}
