package draw

import (
	"regexp"
	"slices"
	"strings"

	"wirelab.dev/wirelab/labs/passport"
)

// legend writes below the drawing what became of the packet at each step, and where it was not seen.
func (d *picture) legend(p passport.Passport) {
	nodes, places := 0, 0
	for _, w := range d.ways {
		for _, h := range w.Hops {
			nodes, places = max(nodes, len(short(h.Node))), max(places, len(h.Place()))
		}
	}
	number := 0
	y := d.height
	for _, w := range d.ways {
		d.rules = append(d.rules, y)
		y += 24
		d.put(&y, margin, w.class+"-strong", 0, strings.ToUpper(w.class[:1])+w.class[1:]+": "+w.Kind)
		y += 4
		first := true
		for _, h := range w.Hops {
			number++
			ended := slices.ContainsFunc(w.stops, func(s stop) bool { return s.number == number && s.ended })
			d.marks = append(d.marks, mark{x: margin + stopRadius, y: y - 4, class: w.class, number: number, ended: ended, legend: true})
			x := margin + 2*stopRadius + 10
			d.texts = append(d.texts, text{x: x, y: y, size: wordSize, class: "words", s: short(h.Node), row: number})
			x += textWidth(strings.Repeat(" ", nodes+2), wordSize)
			d.texts = append(d.texts, text{x: x, y: y, size: wordSize, class: "strong", s: h.Place(), row: number})
			x += textWidth(strings.Repeat(" ", places+2), wordSize)
			if h.Direction != "" {
				d.texts = append(d.texts, text{x: x, y: y, size: wordSize, class: "muted", s: h.Direction, row: number})
			}
			x += textWidth("out  ", wordSize)
			was := y
			d.put(&y, x, "words", number, h.Words(first))
			if h.Program != nil {
				class := "muted"
				if h.Program.Dropped {
					class = "drop-text"
				}
				d.put(&y, x, class, number, h.Program.Words())
			}
			if h.Unknown != "" {
				d.put(&y, x, "drop-text", number, "unknown: "+h.Unknown)
			}
			if y == was {
				d.put(&y, x, "muted", number, "unchanged")
			}
			y += 5
			first = first && h.Packet == nil
		}
		for _, s := range []string{w.End, labelled("why: ", w.Why), labelled("way out: ", w.WayOut)} {
			d.put(&y, margin, "drop-text", 0, shortened(s))
		}
		if len(w.Absences) > 0 {
			y += 4
			d.put(&y, margin, "muted-strong", 0, "Not seen")
		}
		for _, a := range w.Absences {
			d.put(&y, margin, "muted", 0, short(a.Node)+" "+a.Place()+": "+a.Reason)
		}
	}
	if len(p.Notes) > 0 {
		d.rules = append(d.rules, y)
		y += 24
	}
	for _, n := range p.Notes {
		d.put(&y, margin, "words", 0, "Note: "+shortened(n))
	}
	d.height = y + margin/2
}

var named = regexp.MustCompile(`\bnode [-.\w]+`)

// shortened is a sentence with the names of nodes as the drawing has them.
func shortened(s string) string {
	return named.ReplaceAllStringFunc(s, func(n string) string { return "node " + short(strings.TrimPrefix(n, "node ")) })
}

func labelled(label, s string) string {
	if s == "" {
		return ""
	}
	return label + s
}

// put writes words from x on, on as many lines as they need, and moves y below them.
func (d *picture) put(y *int, x int, class string, number int, s string) {
	for _, l := range wrap(s, wordSize, d.width-margin-x) {
		d.texts = append(d.texts, text{x: x, y: *y, size: wordSize, class: class, s: l, row: number})
		*y += lineHeight
	}
}
