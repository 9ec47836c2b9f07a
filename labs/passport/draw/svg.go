package draw

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"strings"

	"wirelab.dev/wirelab/labs/passport"
)

// style has the colours, in light and dark. It says nothing of what is not in a picture, so that a page may have it in it.
//
//go:embed style.css
var style string

// svg writes what was drawn.
func (d *picture) svg(p passport.Passport) []byte {
	var b bytes.Buffer
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w(`<svg xmlns="http://www.w3.org/2000/svg" class="passport" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="passport-title passport-desc">`, d.width, d.height)
	w(`<title id="passport-title">%s</title>`, escape(title(p)))
	w(`<desc id="passport-desc">%s</desc>`, escape(d.description()))
	w("<style>\n%s</style>", style)
	w(`<defs>`)
	for _, class := range []string{"request", "answer"} {
		w(`<marker id="passport-%s" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse" orient="auto"><path class="%[1]s-head" d="M0 0 10 5 0 10z"/></marker>`, class)
	}
	w(`</defs>`)
	w(`<rect class="paper" width="%d" height="%d" rx="10"/>`, d.width, d.height)
	for _, o := range d.boxes {
		place := ""
		if o.place != "" {
			place = fmt.Sprintf(` data-place="%s"`, escape(o.place))
		}
		w(`<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="%d"%s/>`, o.class, o.x, o.y, o.w, o.h, radius(o.class), place)
	}
	for _, l := range d.lines {
		w(`<path class="%s" d="%s"%s/>`, l.class, l.curve(), l.head())
	}
	for _, k := range d.keys {
		w(`<path class="%s" d="M%d %d h26" marker-end="url(#passport-%[1]s)"/>`, k.class, k.x, k.y)
	}
	for _, y := range d.rules {
		w(`<path class="rule" d="M%d %d H%d"/>`, margin, y, d.width-margin)
	}
	for _, m := range d.marks {
		d.mark(w, m)
	}
	for _, t := range d.texts {
		row := ""
		if t.row != 0 {
			row = fmt.Sprintf(` data-row="%d"`, t.row)
		}
		w(`<text class="%s" x="%d" y="%d" font-size="%d"%s>%s</text>`, t.class, t.x, t.y, t.size, row, escape(t.s))
	}
	w(`</svg>`)
	return b.Bytes()
}

func (d *picture) mark(w func(string, ...any), m mark) {
	if m.number == 0 {
		w(`<path class="cross" d="M%d %d l12 12 m0 -12 l-12 12"/>`, m.x-6, m.y-6)
		return
	}
	class, step := m.class, "step"
	if m.ended {
		class = "drop"
	}
	if m.legend {
		step = "legend"
	}
	w(`<circle class="%s-stop" cx="%d" cy="%d" r="%d" data-%s="%d"/>`, class, m.x, m.y, stopRadius, step, m.number)
	w(`<text class="number" x="%d" y="%d" font-size="%d" text-anchor="middle">%d</text>`, m.x, m.y+4, wordSize, m.number)
}

func radius(class string) int {
	switch class {
	case "node", "network":
		return 10
	case "pod":
		return 8
	}
	return 5
}

// description is the picture in words, for who does not see it.
func (d *picture) description() string {
	var out []string
	for _, w := range d.ways {
		var places []string
		for _, s := range w.stops {
			if s.number != 0 {
				places = append(places, fmt.Sprintf("%d %s of node %s", s.number, s.hop.Place(), short(s.hop.Node)))
			}
		}
		s := fmt.Sprintf("The %s, %s, passes %s.", w.class, w.Kind, strings.Join(places, ", "))
		if !w.Arrived && w.End != "" {
			s += fmt.Sprintf(" It does not arrive: %s.", shortened(strings.TrimSuffix(w.End+", "+w.Why, ", ")))
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func (l path) head() string {
	if !l.arrow {
		return ""
	}
	return fmt.Sprintf(` marker-end="url(#passport-%s)"`, l.class)
}

// curve is the line with round corners. One that ends at a stop ends at the stop's edge.
func (l path) curve() string {
	at := append([]point(nil), l.at...)
	if n := len(at) - 1; l.arrow {
		at[n] = toward(at[n], at[n-1], stopRadius+1)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "M%d %d", at[0].x, at[0].y)
	for i := 1; i < len(at); i++ {
		if i == len(at)-1 || at[i] == at[i-1] {
			fmt.Fprintf(&b, " L%d %d", at[i].x, at[i].y)
			continue
		}
		in, out := toward(at[i], at[i-1], 8), toward(at[i], at[i+1], 8)
		fmt.Fprintf(&b, " L%d %d Q%d %d %d %d", in.x, in.y, at[i].x, at[i].y, out.x, out.y)
	}
	return b.String()
}

// toward is the point so many pixels from a towards b, but no further than half way.
func toward(a, b point, by int) point {
	step := func(a, b int) int {
		switch {
		case b > a:
			return a + min(by, (b-a)/2)
		case b < a:
			return a - min(by, (a-b)/2)
		}
		return a
	}
	return point{step(a.x, b.x), step(a.y, b.y)}
}

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return "" // a builder takes all that it is given
	}
	return b.String()
}
