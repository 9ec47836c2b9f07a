package draw

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"wirelab.dev/wirelab/labs/passport"
)

// Sizes, in pixels of a picture that is as wide as it says.
const (
	margin     = 16
	nodeGap    = 20
	nodePad    = 10 // between the frame of a node and its boxes
	podPad     = 8
	titleSize  = 15
	nameSize   = 13
	wordSize   = 11
	lineHeight = 17
	boxPad     = 6
	laneGap    = 26
	laneRoom   = 16 // between a lane and the edge of a box that it enters
	rowGap     = 24 // has room for an arrow, and the mark of an end
	turnGap    = 14
	stopRadius = 10
	stopGap    = 26
	chipPad    = 5
	chipGap    = 8 // between a chip and the words behind it
	moreGap    = 12
)

// line is one of the lines of text in a box.
type line struct {
	chip  string // the name of a program, in front
	words string
	class string // of the words
	size  int
	more  string // behind the words, muted
}

// layOut draws a passport's places and ways, so many pixels wide.
func layOut(p passport.Passport, width int) *picture {
	d := &picture{width: width}
	d.gather(p)
	top := d.head(p)
	d.columns()
	for _, n := range d.nodes {
		for _, b := range n.places {
			b.lines = b.content(n.textWidth(b))
		}
	}
	bottom := d.rows(top)
	d.stops()
	d.network(bottom)
	d.drawBoxes(top, bottom)
	d.drawWays()
	return d
}

// head writes the title and what the lines mean, and returns where the drawing begins.
func (d *picture) head(p passport.Passport) int {
	y := margin + titleSize
	for _, l := range wrap(title(p), titleSize, d.width-2*margin) {
		d.texts = append(d.texts, text{x: margin, y: y, size: titleSize, class: "strong", s: l})
		y += 20
	}
	y += 2
	x := margin
	for _, w := range d.ways {
		s := w.summary()
		if x > margin && x+36+textWidth(s, wordSize) > d.width-margin {
			x, y = margin, y+lineHeight
		}
		d.keys = append(d.keys, key{x: x, y: y - 4, class: w.class})
		d.texts = append(d.texts, text{x: x + 36, y: y, size: wordSize, class: w.class + "-text", s: s})
		x += 36 + textWidth(s, wordSize) + 28
	}
	return y + 14
}

func title(p passport.Passport) string {
	to := p.Probe.To.Name
	if p.Probe.To.Kind == passport.Service {
		to = "Service " + to
		if p.Probe.To.Node != "" {
			to += " at node " + short(p.Probe.To.Node)
		}
	}
	return fmt.Sprintf("%s to %s, %s: %s", short(p.Probe.From.Name), short(to), p.Probe.Protocol, p.Answered())
}

// summary is what a way is, in a few words.
func (w *way) summary() string {
	var first, last int
	for _, s := range w.stops {
		if s.number != 0 {
			first, last = cmp.Or(first, s.number), s.number
		}
	}
	switch {
	case last == 0:
		return fmt.Sprintf("%s: seen nowhere", w.class)
	case first == last:
		return fmt.Sprintf("%s: %s, %d", w.class, w.Kind, first)
	}
	return fmt.Sprintf("%s: %s, %d to %d", w.class, w.Kind, first, last)
}

// columns divides the width among nodes and their pods, and gives every way its lane in each column.
func (d *picture) columns() {
	parts := 0
	for _, n := range d.nodes {
		parts += n.parts()
	}
	room := d.width - 2*margin - nodeGap*(len(d.nodes)-1)
	x := margin
	for i, n := range d.nodes {
		n.x, n.w = x, room*n.parts()/parts
		if i == len(d.nodes)-1 {
			n.w = d.width - margin - x
		}
		x += n.w + nodeGap
		each := (n.w - nodePad) / len(n.columns)
		for j, c := range n.columns {
			c.x, c.w = n.x+nodePad+j*each, each-nodePad
			left, right := len(c.down), len(c.up)
			c.textX = c.x + podPad + boxPad + lanesWidth(left)
			c.textW = c.x + c.w - podPad - boxPad - lanesWidth(right) - c.textX
		}
	}
}

// parts is how wide a node is in relation to others.
func (n *node) parts() int {
	if n.outside {
		return 2
	}
	return 5 * len(n.columns)
}

func lanesWidth(lanes int) int {
	if lanes == 0 {
		return 0
	}
	return 2*laneRoom + (lanes-1)*laneGap
}

// lane is where a way goes down or up in a column.
func (c *column) lane(w *way, up bool) int {
	if up {
		return c.x + c.w - podPad - laneRoom - slices.Index(c.up, w)*laneGap
	}
	return c.x + podPad + laneRoom + slices.Index(c.down, w)*laneGap
}

// textWidth is how much room the text of a box has.
func (n *node) textWidth(b *place) int {
	if b.column >= 0 {
		return n.columns[b.column].textW
	}
	first, last := n.columns[0], n.columns[len(n.columns)-1]
	return last.textX + last.textW - first.textX
}

// content is what a box says.
func (b *place) content(width int) (out []line) {
	name, more := b.device, ""
	switch {
	case b.kind == rowSocket:
		name = "socket"
	case b.kind == rowStack && b.crossed:
		name = "the node's stack"
	case b.kind == rowStack:
		name, more = "the node's stack", "not crossed"
	case b.node.outside:
		name, more = b.device, "outside the lab"
	case b.address != "":
		more = b.address
	case !b.crossed:
		more = "not crossed"
	}
	add := func(l line) {
		for _, s := range wrap(l.words, l.size, width) {
			out = append(out, line{words: s, class: l.class, size: l.size})
		}
	}
	class := "name"
	if !b.crossed {
		class = "muted"
	}
	if textWidth(name, nameSize)+moreGap+textWidth(more, wordSize) <= width {
		out = append(out, line{words: name, class: class, size: nameSize, more: more})
	} else {
		add(line{words: name, class: class, size: nameSize})
		add(line{words: more, class: "muted", size: wordSize})
	}
	add(line{words: strings.Join(b.hooks, " "), class: "muted", size: wordSize})
	for i, p := range b.programs {
		if i == 0 || b.programs[i-1].Name != p.Name || b.programs[i-1].Hook != p.Hook {
			l := line{chip: p.Name, words: p.Hook, class: "muted", size: wordSize}
			if chipWidth(p.Name)+chipGap+textWidth(p.Hook, wordSize) > width {
				l.words = ""
			}
			out = append(out, l)
		}
		class := "words"
		if p.Dropped {
			class = "drop-text"
		}
		if n := len(out) - 1; out[n].chip != "" && out[n].words != "" && !p.Dropped &&
			chipWidth(out[n].chip)+chipGap+textWidth(out[n].words+": "+p.Outcome(), wordSize) <= width {
			out[n].words, out[n].class = out[n].words+": "+p.Outcome(), class
			continue
		}
		add(line{words: p.Outcome(), class: class, size: wordSize})
	}
	if b.unknown {
		add(line{words: "unknown what happened here", class: "drop-text", size: wordSize})
	}
	return out
}

func chipWidth(name string) int { return textWidth(name, wordSize) + 2*chipPad }

// turn says whether a way goes on from a stop in another lane of the same node.
func (w *way) turn(i int) bool {
	if i+1 >= len(w.stops) {
		return false
	}
	a, b := w.stops[i], w.stops[i+1]
	return a.place.node == b.place.node && (a.column != b.column || a.up != b.up)
}

// plan counts where ways turn: in the box where they stop, if it is the node's, otherwise below it.
func (d *picture) plan() {
	d.turns = map[row][]*way{}
	for _, w := range d.ways {
		for i, s := range w.stops {
			switch {
			case !w.turn(i):
			case !s.place.shared():
				d.turns[s.place.row] = append(d.turns[s.place.row], w)
			case w.stops[i+1].place.row < s.place.row:
				s.place.turnsDown = append(s.place.turnsDown, w)
			default:
				s.place.turnsUp = append(s.place.turnsUp, w)
			}
		}
	}
}

// rows says how high each row is, and where. It returns where the nodes end.
func (d *picture) rows(top int) int {
	d.plan()
	d.rowY, d.rowH = map[row]int{}, map[row]int{}
	for _, n := range d.nodes {
		for _, c := range n.columns {
			if c.pod != "" {
				d.rowH[rowTitle] = 24
			}
		}
		for _, b := range n.places {
			h := max(len(b.lines)*lineHeight+2*boxPad, d.crowd(b)*stopGap)
			h += (len(b.turnsUp) + len(b.turnsDown)) * stopGap
			d.rowH[b.row] = max(d.rowH[b.row], h)
		}
	}
	rows := slices.Sorted(maps.Keys(d.rowH))
	y := top + 28
	for i, r := range rows {
		d.rowY[r] = y
		y += d.rowH[r]
		switch {
		case r == rowTitle, i == len(rows)-1:
			continue
		case r <= rowPodDevice && rows[i+1] > rowPodDevice: // the frame of the pod ends here
			y += podPad
		}
		y += rowGap
		if n := len(d.turns[r]); n > 0 {
			y += n * turnGap
		}
	}
	for _, n := range d.nodes {
		for _, b := range n.places {
			b.y, b.h = d.rowY[b.row], d.rowH[b.row]
		}
	}
	return y + nodePad
}

// crowd is how many stops a box has in one lane.
func (d *picture) crowd(b *place) int {
	type lane struct {
		w      *way
		column int
		up     bool
	}
	n, most := map[lane]int{}, 0
	for _, w := range d.ways {
		for _, s := range w.stops {
			if s.place == b {
				l := lane{w, s.column, s.up}
				n[l]++
				most = max(most, n[l])
			}
		}
	}
	return most
}

// stops says where in its box each stop is, and how wide boxes are.
func (d *picture) stops() {
	for _, n := range d.nodes {
		for _, b := range n.places {
			first, last := n.columns[0], n.columns[len(n.columns)-1]
			if b.column >= 0 {
				first, last = n.columns[b.column], n.columns[b.column]
			}
			b.x = first.textX - boxPad
			b.w = last.textX + last.textW + boxPad - b.x
		}
	}
	for _, w := range d.ways {
		for i := range w.stops {
			s := &w.stops[i]
			b := s.place
			s.x = b.node.columns[s.column].lane(w, s.up)
			s.y = b.y + len(b.turnsUp)*stopGap + (b.h-(len(b.turnsUp)+len(b.turnsDown))*stopGap)/2
			b.reach(s.x)
			if b.node.outside {
				s.y = b.y + b.h - stopRadius - 1 // an arrow ends at its edge
			}
			if !w.turn(i) || !b.shared() {
				continue
			}
			next := w.stops[i+1]
			b.reach(next.place.node.columns[next.column].lane(w, next.up))
			if at := slices.Index(b.turnsDown, w); at >= 0 {
				s.y = b.y + b.h - stopGap*at - stopGap/2 - 2
			} else if at := slices.Index(b.turnsUp, w); at >= 0 {
				s.y = b.y + stopGap*at + stopGap/2 + 2
			}
		}
		w.spread()
	}
}

// reach makes a box wide enough for a lane.
func (b *place) reach(x int) {
	right := max(b.x+b.w, x+laneRoom)
	b.x = min(b.x, x-laneRoom)
	b.w = right - b.x
}

// spread parts stops that a way has at one spot.
func (w *way) spread() {
	for i := 0; i < len(w.stops); {
		j := i + 1
		for j < len(w.stops) && w.stops[j].place == w.stops[i].place && w.stops[j].x == w.stops[i].x {
			j++
		}
		for k := i; k < j && j-i > 1; k++ {
			off := (2*(k-i) - (j - i - 1)) * stopGap / 2
			if w.stops[k].up {
				off = -off
			}
			w.stops[k].y += off
		}
		i = j
	}
}
