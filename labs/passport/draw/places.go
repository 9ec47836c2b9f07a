package draw

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"wirelab.dev/wirelab/labs/passport"
)

// row is where a place is in its node, from the pod's process down to the NIC.
type row int

const (
	rowTitle row = iota // of a pod
	rowSocket
	rowPodDevice
	rowVeth
	rowLabHost
	rowStack
	rowTunnel
	rowNIC // and those behind it, for a node with several
)

// place is a box: a device, a socket, or the stack of a node.
type place struct {
	node   *node
	pod    string
	device string
	kind   row
	row    row // that of its kind, but where that is taken
	column int // in its node; -1: it is as wide as the node

	hooks    []string           // of the stack
	programs []passport.Program // that were at work here, each once
	unknown  bool
	address  string // of a pod's device
	crossed  bool

	lines      []line
	x, y, w, h int

	turnsUp, turnsDown []*way // that turn in it, above its text or below
}

func (p *place) shared() bool { return p.column < 0 }

// column is what of a node belongs to a pod.
type column struct {
	pod      string
	down, up []*way // that pass it, by the lane that each has
	x, w     int
	textX    int
	textW    int
}

type node struct {
	name    string
	outside bool // it is none: whom the probe was for, and nobody knows
	places  []*place
	columns []*column
	x, w    int
}

// stop is where a way is marked.
type stop struct {
	place  *place
	number int // 0: none
	up     bool
	column int
	ended  bool // the packet went no further
	hop    passport.Hop
	x, y   int
}

type way struct {
	*passport.Way
	class string // of its colour
	stops []stop
}

// picture is a passport on its way to be drawn.
type picture struct {
	nodes         []*node
	ways          []*way
	width, height int

	rowY, rowH map[row]int
	turns      map[row][]*way // that turn in the gap below a row
	scene
}

func (d *picture) node(name string) *node {
	for _, n := range d.nodes {
		if n.name == name {
			return n
		}
	}
	n := &node{name: name}
	d.nodes = append(d.nodes, n)
	return n
}

func (n *node) columnOf(pod string) int {
	if i := slices.IndexFunc(n.columns, func(c *column) bool { return c.pod == pod }); i >= 0 {
		return i
	}
	n.columns = append(n.columns, &column{pod: pod})
	return len(n.columns) - 1
}

// place is the box of a device, which is made where there is none yet. Pod is the pod's whose device it is, or whose device is
// its other end.
func (n *node) place(at row, pod, device string) *place {
	for _, p := range n.places {
		if p.device == device && p.kind == at && (p.pod == pod || at >= rowVeth) {
			return p
		}
	}
	p := &place{node: n, pod: pod, device: device, kind: at, row: at, column: -1}
	if at <= rowVeth {
		p.column = n.columnOf(pod)
	}
	for slices.ContainsFunc(n.places, func(o *place) bool { return o.row == p.row && o.column == p.column }) {
		p.column, p.row = -1, max(rowNIC, p.row+1) // one more of a kind of which there is one: it gets a row of its own
	}
	n.places = append(n.places, p)
	return p
}

func rowOf(device string, inPod bool) row {
	switch {
	case inPod:
		return rowPodDevice
	case strings.HasPrefix(device, "lxc"):
		return rowVeth
	case device == "lab_host":
		return rowLabHost
	case device == "lab_vxlan" || device == "lab_geneve":
		return rowTunnel
	case device == "":
		return rowStack
	}
	return rowNIC
}

// podBehind is whose the other end of a veth is, as far as the passport says; empty: it does not.
func podBehind(p passport.Passport, nodeName, veth string) string {
	for _, w := range ways(p) {
		for i, h := range w.Hops {
			if h.Node != nodeName || h.Device != veth || h.Pod != "" {
				continue
			}
			if h.Direction == "in" && i > 0 && w.Hops[i-1].Pod != "" && w.Hops[i-1].Node == nodeName {
				return w.Hops[i-1].Pod
			}
			if h.Direction == "out" && i+1 < len(w.Hops) && w.Hops[i+1].Pod != "" && w.Hops[i+1].Node == nodeName {
				return w.Hops[i+1].Pod
			}
		}
		for _, a := range w.Absences {
			if a.Node == nodeName && a.Device == veth && a.Pod != "" {
				return a.Pod
			}
		}
	}
	return ""
}

func ways(p passport.Passport) []*passport.Way {
	return slices.DeleteFunc([]*passport.Way{p.Request, p.Answer}, func(w *passport.Way) bool { return w == nil })
}

// gather makes the boxes of all places that the passport names, and the stops of its ways.
func (d *picture) gather(p passport.Passport) {
	number := 0
	for i, w := range ways(p) {
		one := &way{Way: w, class: [...]string{"request", "answer"}[i]}
		d.ways = append(d.ways, one)
		if i == 1 && p.Probe.To.Kind == passport.Outside && len(w.Hops) > 0 && onWire(w.Hops[0], "in") {
			one.stops = append(one.stops, d.outside(p))
		}
		for _, h := range w.Hops {
			number++
			one.stops = append(one.stops, d.stopAt(p, h, number))
		}
		if i == 0 && p.Probe.To.Kind == passport.Outside && w.Arrived && onWire(w.Hops[len(w.Hops)-1], "out") {
			one.stops = append(one.stops, d.outside(p))
		}
		if len(w.Hops) > 0 && !w.Arrived {
			last := slices.IndexFunc(w.Hops, func(h passport.Hop) bool { return h.Program != nil && h.Program.Dropped })
			if last < 0 {
				last = len(w.Hops) - 1
			}
			one.stops[len(one.stops)-len(w.Hops)+last].ended = true
		}
	}
	for _, w := range d.ways {
		for _, a := range w.Absences {
			d.absent(p, a)
		}
	}
	slices.SortStableFunc(d.nodes, func(a, b *node) int { return cmp.Compare(rank(a), rank(b)) })
	for _, n := range d.nodes {
		if len(n.columns) == 0 {
			n.columns = append(n.columns, &column{})
		}
	}
	for _, w := range d.ways {
		w.direct()
	}
}

func rank(n *node) int {
	if n.outside {
		return 1
	}
	return 0
}

func onWire(h passport.Hop, direction string) bool {
	return h.Device != "" && h.Pod == "" && rowOf(h.Device, false) == rowNIC && h.Direction == direction
}

// outside is the stop at whom the probe was for and no node is.
func (d *picture) outside(p passport.Passport) stop {
	n := d.node(p.Probe.To.Name)
	n.outside = true
	at := n.place(rowNIC, "", p.Probe.Target.Addr().String())
	at.crossed = true
	return stop{place: at, up: true}
}

func (d *picture) stopAt(p passport.Passport, h passport.Hop, number int) stop {
	n := d.node(h.Node)
	at := rowOf(h.Device, h.Pod != "")
	pod := h.Pod
	switch {
	case h.Socket != nil:
		at = rowSocket
	case at == rowVeth:
		pod = podBehind(p, h.Node, h.Device)
	}
	b := n.place(at, pod, h.Device)
	b.crossed = true
	b.add(h.Hooks)
	b.unknown = b.unknown || h.Unknown != ""
	if g := h.Program; g != nil && !slices.ContainsFunc(b.programs, func(o passport.Program) bool {
		return o.Name == g.Name && o.Hook == g.Hook && o.Outcome() == g.Outcome()
	}) {
		b.programs = append(b.programs, *g)
	}
	if h.Packet != nil && h.Pod != "" {
		b.address = h.Packet.Dst.Addr().String()
		if h.Direction == "out" {
			b.address = h.Packet.Src.Addr().String()
		}
	}
	up := h.Direction == "in"
	if at == rowVeth || at == rowLabHost {
		up = h.Direction == "out"
	}
	return stop{place: b, number: number, up: up, column: b.column, hop: h}
}

func (b *place) add(hooks []string) {
	for _, h := range hooks {
		if !slices.Contains(b.hooks, h) {
			b.hooks = append(b.hooks, h)
		}
	}
	order := []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	slices.SortStableFunc(b.hooks, func(x, y string) int { return cmp.Compare(slices.Index(order, x), slices.Index(order, y)) })
}

func (d *picture) absent(p passport.Passport, a passport.Absence) {
	n := d.node(a.Node)
	at, pod := rowOf(a.Device, false), ""
	if at == rowVeth {
		pod = cmp.Or(a.Pod, podBehind(p, a.Node, a.Device))
	}
	b := n.place(at, pod, a.Device)
	if !b.crossed {
		b.add(a.Hooks)
	}
}

// direct says which way stops lead that do not say it themselves, and in which pod's column they are.
func (w *way) direct() {
	for i := range w.stops {
		s := &w.stops[i]
		if s.place.row == rowStack {
			switch {
			case i > 0 && w.stops[i-1].place.node == s.place.node:
				s.up = w.stops[i-1].up
			case i+1 < len(w.stops):
				s.up = w.stops[i+1].place.node == s.place.node && w.stops[i+1].up
			}
		}
	}
	for i := range w.stops {
		s := &w.stops[i]
		if s.column < 0 {
			s.column = w.nearColumn(i, s.up)
		}
	}
	for _, s := range w.stops {
		c := s.place.node.columns[s.column]
		lanes := &c.down
		if s.up {
			lanes = &c.up
		}
		if !slices.Contains(*lanes, w) {
			*lanes = append(*lanes, w)
		}
	}
}

// nearColumn is the pod's column that a stop at a place of the whole node belongs to: a packet that goes up is on its way to
// a pod, one that goes down comes from one.
func (w *way) nearColumn(i int, up bool) int {
	here := w.stops[i].place.node
	look := func(step int) int {
		for j := i + step; j >= 0 && j < len(w.stops) && w.stops[j].place.node == here; j += step {
			if s := w.stops[j]; s.place.column >= 0 {
				return s.place.column
			}
		}
		return -1
	}
	first, second := look(-1), look(1)
	if up {
		first, second = second, first
	}
	return max(0, cmp.Or(first+1, second+1)-1)
}

var ofNode = regexp.MustCompile(`^.*?-((?:control-plane|worker)\d*)$`)

// short is a node's name without its lab's.
func short(name string) string {
	if m := ofNode.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return name
}
