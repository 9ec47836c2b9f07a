package draw

import (
	"cmp"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/labs/passport"
)

type point struct{ x, y int }

// path is a line of a way, from stop to stop, of pieces that are horizontal or vertical.
type path struct {
	class string
	at    []point
	arrow bool
}

// crossing is where a way goes from one node to another, or is lost between them.
type crossing struct {
	way  *way
	from int // the stop
	lost bool
	y    int
}

const crossingHeight = 30

// network draws the network between the nodes, below them, and a line in it for each packet that it carries.
func (d *picture) network(bottom int) {
	d.height = bottom + margin
	for _, w := range d.ways {
		for i, s := range w.stops {
			switch {
			case i+1 < len(w.stops) && w.stops[i+1].place.node != s.place.node:
				d.crossings = append(d.crossings, crossing{way: w, from: i})
			case s.ended && onWire(s.hop, "out") && (s.hop.Program == nil || !s.hop.Program.Dropped):
				d.crossings = append(d.crossings, crossing{way: w, from: i, lost: true})
			}
		}
	}
	if len(d.crossings) == 0 {
		return
	}
	y, n := bottom+rowGap, len(d.crossings)
	h := 10 + n*crossingHeight + lineHeight
	d.boxes = append(d.boxes, box{x: margin, y: y, w: d.width - 2*margin, h: h, class: "network"})
	s := "the network between the nodes"
	d.texts = append(d.texts, text{x: d.width - margin - 8 - textWidth(s, wordSize), y: y + h - 7, size: wordSize, class: "muted", s: s})
	for i := range d.crossings {
		d.crossings[i].y = y + crossingHeight*(n-i) // the first is the lowest, so that what begins and ends inside it is above it
	}
	d.height = y + h + margin
}

// drawWays draws lines from stop to stop, and the stops.
func (d *picture) drawWays() {
	for _, w := range d.ways {
		for i, s := range w.stops {
			if s.number != 0 {
				d.marks = append(d.marks, mark{x: s.x, y: s.y, class: w.class, number: s.number, ended: s.ended})
			}
			if s.ended {
				d.drawEnd(w, i)
			}
			if i+1 < len(w.stops) {
				d.drawStep(w, i)
			}
		}
	}
	for i := range d.crossings {
		d.label(i)
	}
}

func (d *picture) crossing(w *way, from int) *crossing {
	i := slices.IndexFunc(d.crossings, func(c crossing) bool { return c.way == w && c.from == from })
	if i < 0 {
		return nil
	}
	return &d.crossings[i]
}

func (d *picture) drawStep(w *way, i int) {
	a, b := w.stops[i], w.stops[i+1]
	at := []point{{a.x, a.y}}
	turn := w.turn(i)
	c := d.crossing(w, i)
	switch {
	case c != nil:
		at = append(at, point{a.x, c.y}, point{b.x, c.y})
	case turn && a.place.shared():
		at = append(at, point{b.x, a.y})
	case turn:
		lanes := d.turns[a.place.row]
		y := a.place.y + a.place.h + 12 + turnGap*(len(lanes)-1-slices.Index(lanes, w))
		if a.place.row <= rowPodDevice {
			y += podPad
		}
		at = append(at, point{a.x, y}, point{b.x, y})
	}
	at = append(at, point{b.x, b.y})
	if c != nil && a.hop.Packet != nil && a.hop.Packet.Tunnel != nil {
		d.lines = append(d.lines, path{class: "tunnel", at: at})
	}
	pieces := d.visible(at, a.place, b.place)
	for j, piece := range pieces {
		d.lines = append(d.lines, path{class: w.class, at: piece, arrow: j == len(pieces)-1})
	}
}

// visible are the pieces of a line that no box hides in which it does not stop.
func (d *picture) visible(at []point, from, to *place) (out [][]point) {
	now := []point{at[0]}
	for i := 1; i < len(at); i++ {
		a, b := at[i-1], at[i]
		for _, h := range d.hiding(a, b, from, to) {
			out = append(out, append(now, h[0]))
			now = []point{h[1]}
		}
		now = append(now, b)
	}
	return append(out, now)
}

// hiding are where boxes hide a vertical piece of a line, in the order of its way.
func (d *picture) hiding(a, b point, from, to *place) (out [][2]point) {
	for _, n := range d.nodes {
		for _, p := range n.places {
			if p == from || p == to || a.x != b.x || a.x <= p.x || a.x >= p.x+p.w || min(a.y, b.y) >= p.y || max(a.y, b.y) <= p.y+p.h {
				continue
			}
			top, low := point{a.x, p.y}, point{a.x, p.y + p.h}
			if a.y < b.y {
				out = append(out, [2]point{top, low})
			} else {
				out = append(out, [2]point{low, top})
			}
		}
	}
	slices.SortFunc(out, func(x, y [2]point) int {
		if a.y < b.y {
			return x[0].y - y[0].y
		}
		return y[0].y - x[0].y
	})
	return out
}

// drawEnd marks where a packet went no further: behind the stop, or in the network.
func (d *picture) drawEnd(w *way, i int) {
	s := w.stops[i]
	at := point{s.x, s.place.y + s.place.h + rowGap/2}
	if s.up {
		at.y = s.place.y - rowGap/2
	}
	if c := d.crossing(w, i); c != nil && c.lost {
		at.y = c.y
	}
	d.lines = append(d.lines, path{class: "drop", at: []point{{s.x, s.y}, at}})
	d.marks = append(d.marks, mark{x: at.x, y: at.y, class: "drop"})
}

// label says on its line in the network what the packet is there.
func (d *picture) label(i int) {
	c := d.crossings[i]
	s := c.way.stops[c.from]
	left, right := s.x, d.width-margin
	if !c.lost {
		left, right = min(s.x, c.way.stops[c.from+1].x), max(s.x, c.way.stops[c.from+1].x)
	}
	// Lines of those below come down through this one's.
	var bars []int
	for _, o := range d.crossings[:i] {
		bars = append(bars, o.way.stops[o.from].x)
		if !o.lost {
			bars = append(bars, o.way.stops[o.from+1].x)
		}
	}
	bars = append(bars, left, right)
	slices.Sort(bars)
	words := []string{"not seen again"}
	if !c.lost {
		words = onTheWire(c.way, s.hop, c.way.stops[c.from+1].hop)
	}
	put := func(x int, s string) {
		d.texts = append(d.texts, text{x: x, y: c.y - 8, size: wordSize, class: c.way.class + "-text", s: s})
	}
	for _, each := range words {
		for j := range len(bars) - 1 {
			from, to := bars[j], bars[j+1]
			if from < left || to > right || to-from < textWidth(each, wordSize)+24 {
				continue
			}
			put(from+12, each)
			return
		}
		// Beside it there is more room, up to the lines around it.
		outer := slices.MaxFunc(bars, func(a, b int) int { return cmp.Compare(before(a, left), before(b, left)) })
		if w := textWidth(each, wordSize); left-before(outer, left) > w+24 {
			put(left-12-w, each)
			return
		}
	}
}

// before is x, or the edge of the picture where x is not left of a line.
func before(x, line int) int {
	if x < line {
		return x
	}
	return margin
}

// onTheWire is what goes from one node to another, in fewer and fewer words.
func onTheWire(w *way, out, in passport.Hop) []string {
	p := out.Packet
	if p == nil {
		p = in.Packet
	}
	if p == nil {
		return []string{w.Kind}
	}
	if t := p.Tunnel; t != nil {
		return []string{
			fmt.Sprintf("%s %s, in %s %s > %s, VNI %d", w.Kind, p.Ends(), t.Protocol, t.Src, t.Dst, t.VNI),
			fmt.Sprintf("in %s %s > %s, VNI %d", t.Protocol, t.Src, t.Dst, t.VNI),
			fmt.Sprintf("in %s, VNI %d", t.Protocol, t.VNI),
			t.Protocol,
		}
	}
	return []string{fmt.Sprintf("%s %s, TTL %d", w.Kind, p.Ends(), p.TTL), p.Ends(), w.Kind}
}
