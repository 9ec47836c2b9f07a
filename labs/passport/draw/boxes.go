package draw

// scene is what is drawn, in pixels.
type scene struct {
	boxes     []box
	lines     []path
	marks     []mark
	texts     []text
	keys      []key
	rules     []int // lines between the parts of the legend, by their height
	crossings []crossing
}

type box struct {
	x, y, w, h int
	class      string
	place      string // what it stands for
}

// text begins at x, with its base line at y.
type text struct {
	x, y, size int
	class, s   string
	row        int // the number of the step that it belongs to
}

// mark is a step's number, or, without one, a cross.
type mark struct {
	x, y   int
	class  string
	number int
	ended  bool
	legend bool
}

// key is a piece of line that says what the lines of a colour are.
type key struct {
	x, y  int
	class string
}

// drawBoxes draws nodes, pods and places with what they say.
func (d *picture) drawBoxes(top, bottom int) {
	for _, n := range d.nodes {
		if !n.outside {
			d.boxes = append(d.boxes, box{x: n.x, y: top, w: n.w, h: bottom - top, class: "node"})
			d.texts = append(d.texts, text{x: n.x + nodePad, y: top + 19, size: nameSize, class: "strong", s: cut("node "+short(n.name), nameSize, n.w-2*nodePad)})
		}
		for _, c := range n.columns {
			if c.pod == "" {
				continue
			}
			y, end := d.rowY[rowTitle], d.rowY[rowTitle]+d.rowH[rowTitle]
			for _, r := range []row{rowSocket, rowPodDevice} {
				if d.rowH[r] > 0 {
					end = d.rowY[r] + d.rowH[r]
				}
			}
			d.boxes = append(d.boxes, box{x: c.x, y: y, w: c.w, h: end + podPad - y, class: "pod"})
			d.texts = append(d.texts, text{x: c.x + podPad, y: y + 17, size: wordSize, class: "strong", s: cut("pod "+c.pod, wordSize, c.w-2*podPad)})
		}
		for _, b := range n.places {
			d.drawPlace(b)
		}
	}
}

func cut(s string, size, width int) string {
	if textWidth(s, size) <= width {
		return s
	}
	return wrap(s, size, width-textWidth("...", size))[0] + "..."
}

func (d *picture) drawPlace(b *place) {
	class := "device"
	switch {
	case !b.crossed:
		class = "absent"
	case b.kind == rowStack:
		class = "stack"
	case b.kind == rowSocket:
		class = "socket"
	}
	d.boxes = append(d.boxes, box{x: b.x, y: b.y, w: b.w, h: b.h, class: class, place: b.id()})
	first := b.node.columns[max(b.column, 0)]
	room := b.h - (len(b.turnsUp)+len(b.turnsDown))*stopGap
	x, y := first.textX, b.y+len(b.turnsUp)*stopGap+(room-len(b.lines)*lineHeight)/2
	for _, l := range b.lines {
		at := x
		if l.chip != "" {
			d.boxes = append(d.boxes, box{x: at, y: y, w: chipWidth(l.chip), h: lineHeight - 2, class: "chip"})
			d.texts = append(d.texts, text{x: at + chipPad, y: y + 12, size: wordSize, class: "chip-text", s: l.chip})
			at += chipWidth(l.chip) + chipGap
		}
		if l.words != "" {
			d.texts = append(d.texts, text{x: at, y: y + 12, size: l.size, class: l.class, s: l.words})
			at += textWidth(l.words, l.size) + moreGap
		}
		if l.more != "" {
			d.texts = append(d.texts, text{x: at, y: y + 12, size: wordSize, class: "muted", s: l.more})
		}
		y += lineHeight
	}
}

// id is what a place is called in the picture.
func (b *place) id() string {
	what := b.device
	switch b.kind {
	case rowSocket:
		what = "socket"
	case rowStack:
		what = "stack"
	}
	if b.pod != "" && b.kind <= rowPodDevice {
		what = b.pod + ":" + what
	}
	return b.node.name + " " + what
}
