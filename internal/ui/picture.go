package ui

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// What a picture holds at most. What is too much takes the place of what has been quiet for longest.
const (
	maxGroups = 1000
	maxPods   = 4000
	maxEdges  = 3000
	maxRows   = 2000
	maxGone   = 4000
)

const (
	// redFor is how long an edge or a pod is red after a drop.
	redFor = 10 * time.Second
	// quietFor is how long something is kept of which no flow tells.
	quietFor = 5 * time.Minute
)

// picture is who talks with whom, put together from flow records, in bounded memory. Each change has a version, so that each
// browser is told of what has changed since it was last told.
type picture struct {
	mu      sync.Mutex
	version uint64
	ids     uint64
	groups  kept[groupKey, group]
	edges   kept[edgeKey, edge]
	rows    kept[rowKey, row]
	pods    int               // of all groups
	active  map[edgeKey]bool  // edges whose rate may change without a record
	red     map[groupKey]bool // groups with a pod that is red
	gone    []goneID          // what was removed, in the order of versions
	forgot  uint64            // up to this version gone is incomplete
	nodes   []node
	// services are known by their addresses: in packets that still have one, or have it again.
	services map[netip.Addr]Service
	seen     rate
	lost     uint64
	swept    time.Time
}

type goneID struct {
	version uint64
	id      string
}

// node is one whose agent is asked.
type node struct {
	Name string `json:"name"`
	Away string `json:"away,omitempty"` // why it tells nothing
}

// group is a workload with its pods, or what else may be the end of a flow.
type group struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Pods      []*pod `json:"pods"`
	seen      time.Time
}

type pod struct {
	Name string `json:"name"`
	Node string `json:"node,omitempty"` // empty where only another node has told of it
	Red  bool   `json:"red,omitempty"`
	seen time.Time
	drop time.Time
}

// edgeKey is from who begins to who answers.
type edgeKey struct {
	from, to groupKey
	protocol string
	port     uint16
}

// edge is all that one group sends to a port of another, and the answers.
type edge struct {
	ID       string `json:"id"`
	From     string `json:"from"`
	To       string `json:"to"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port,omitempty"`
	// Rate is packets a second that nodes have reported as let pass, and DropRate as dropped. A packet that two nodes report
	// counts once.
	Rate     float64 `json:"rate"`
	DropRate float64 `json:"dropRate"`
	Dropped  uint64  `json:"dropped"` // since the edge is there
	Reason   string  `json:"reason,omitempty"`
	Red      bool    `json:"red,omitempty"`
	Seen     int64   `json:"seen"` // milliseconds since 1970

	seen, drop time.Time
	passed     [3]rate // delivered, forwarded to another node, and what else became of it
	drops      rate
}

type rowKey struct {
	from, to end
	protocol string
	port     uint16
	dropped  string // why; empty for what passed
}

// end is one end of a row.
type end struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Addr      string `json:"addr,omitempty"` // of what is no pod
	Name      string `json:"name,omitempty"`
}

// row is a line of the table: what one pod or address sends to a port of another.
type row struct {
	ID       string `json:"id"`
	Edge     string `json:"edge"`
	From     end    `json:"from"`
	To       end    `json:"to"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port,omitempty"`
	Verdict  string `json:"verdict"`
	Reason   string `json:"reason"`
	Node     string `json:"node"` // that told last
	Count    uint64 `json:"count"`
	Time     int64  `json:"time"` // of the latest, in milliseconds since 1970
	seen     time.Time
}

func newPicture(nodes []string) *picture {
	p := &picture{
		groups: newKept[groupKey, group](maxGroups), edges: newKept[edgeKey, edge](maxEdges), rows: newKept[rowKey, row](maxRows),
		active: map[edgeKey]bool{}, red: map[groupKey]bool{},
	}
	for _, n := range nodes {
		p.nodes = append(p.nodes, node{Name: n})
	}
	return p
}

// heard notes that a node tells, or why it does not.
func (p *picture) heard(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.nodes {
		switch {
		case p.nodes[i].Name != name:
		case err != nil:
			p.nodes[i].Away = err.Error()
		default:
			p.nodes[i].Away = ""
		}
	}
}

// add takes a line of what nodes tell.
func (p *picture) add(line api.FlowLine, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case line.Lost != nil:
		p.lost += line.Lost.Count
	case line.Flow != nil:
		p.version++
		p.record(line.Flow, now)
	}
}

func (p *picture) record(r *api.FlowRecord, now time.Time) {
	from, to, icmp := r.Source, r.Destination, r.Protocol == "icmp"
	key := edgeKey{p.groupOf(&from), p.groupOf(&to), r.Protocol, to.Port}
	back := p.answers(r, key)
	if back {
		from, to = to, from
		key = edgeKey{key.to, key.from, r.Protocol, to.Port}
	}
	if icmp {
		key.port = 0
	}
	second := min(r.Time.Unix(), now.Unix())
	p.seen.count(second)
	dropped := r.Verdict == api.FlowDropped

	begins, ends := p.group(key.from, now), p.group(key.to, now)
	p.pod(begins, &from, r, dropped && !back, now) // whose packet is dropped is red
	p.pod(ends, &to, r, dropped && back, now)

	e := p.edges.get(key)
	if e == nil {
		if p.edges.full() {
			p.removeEdge(p.edges.oldest())
		}
		e = p.edges.add(key, edge{ID: p.id("e"), From: begins.value.ID, To: ends.value.ID, Protocol: key.protocol, Port: key.port})
	}
	v := &e.value
	v.seen, v.Seen = now, r.Time.UnixMilli()
	if dropped {
		v.drop, v.Dropped, v.Reason = r.Time, v.Dropped+1, r.Reason
		v.drops.count(second)
		v.Red = now.Sub(v.drop) < redFor
	} else {
		v.passed[placeOf(r.Reason)].count(second)
	}
	p.active[key] = true
	p.edges.change(e, p.version)
	p.row(r, &from, &to, key, v.ID, dropped, now)
}

func placeOf(reason string) int {
	switch reason {
	case "delivered":
		return 0
	case "forwarded":
		return 1
	}
	return 2
}

// answers says whether a record is of the way back, as far as anybody can tell.
func (p *picture) answers(r *api.FlowRecord, as edgeKey) bool {
	switch {
	case r.Reply != nil:
		return *r.Reply
	case r.Protocol == "icmp":
		return r.ICMPType == 0 // an echo reply
	case p.edges.get(as) != nil:
		return false
	case p.edges.get(edgeKey{as.to, as.from, as.protocol, r.Source.Port}) != nil:
		return true
	}
	const synAck = 0x12
	return r.Protocol == "tcp" && r.TCPFlags&synAck == synAck
}

func (p *picture) id(kind string) string {
	p.ids++
	return kind + strconv.FormatUint(p.ids, 10)
}

func (p *picture) group(key groupKey, now time.Time) *entry[groupKey, group] {
	g := p.groups.get(key)
	if g == nil {
		if p.groups.full() {
			p.removeGroup(p.quietest())
		}
		g = p.groups.add(key, group{ID: p.id("g"), Kind: key.Kind, Namespace: key.Namespace, Name: key.Name, Pods: []*pod{}})
		p.groups.change(g, p.version)
	}
	g.value.seen = now
	return g
}

// quietest is the group of which no flow has told for longest.
func (p *picture) quietest() (least *entry[groupKey, group]) {
	p.groups.all(func(g *entry[groupKey, group]) {
		if least == nil || g.value.seen.Before(least.value.seen) {
			least = g
		}
	})
	return least
}

// pod notes one end of a record, if it is a pod.
func (p *picture) pod(g *entry[groupKey, group], e *api.FlowEnd, r *api.FlowRecord, dropped bool, now time.Time) {
	if e.Pod == "" {
		return
	}
	at, there := slices.BinarySearchFunc(g.value.Pods, e.Pod, func(x *pod, name string) int { return cmp.Compare(x.Name, name) })
	if !there {
		if p.pods >= maxPods {
			return // those that have gone make room when they are swept
		}
		p.pods++
		g.value.Pods = slices.Insert(g.value.Pods, at, &pod{Name: e.Pod})
		p.groups.change(g, p.version)
	}
	x := g.value.Pods[at]
	x.seen = now
	if e.Endpoint != 0 && x.Node != r.Node {
		x.Node = r.Node
		p.groups.change(g, p.version)
	}
	if dropped && now.Sub(r.Time) < redFor {
		x.drop = r.Time
		if !x.Red {
			x.Red = true
			p.red[g.key] = true
			p.groups.change(g, p.version)
		}
	}
}

func (p *picture) row(r *api.FlowRecord, from, to *api.FlowEnd, of edgeKey, edge string, dropped bool, now time.Time) {
	key := rowKey{from: p.endOf(from), to: p.endOf(to), protocol: of.protocol, port: of.port}
	if dropped {
		key.dropped = r.Reason
	}
	e := p.rows.get(key)
	if e == nil {
		if p.rows.full() {
			oldest := p.rows.oldest()
			p.leave(oldest.value.ID)
			p.rows.remove(oldest.key)
		}
		e = p.rows.add(key, row{ID: p.id("f"), From: key.from, To: key.to, Protocol: key.protocol, Port: key.port, Verdict: r.Verdict})
	}
	v := &e.value
	v.Edge, v.Reason, v.Node, v.Time, v.seen = edge, r.Reason, r.Node, r.Time.UnixMilli(), now
	v.Count++
	p.rows.change(e, p.version)
}

func (p *picture) endOf(e *api.FlowEnd) end {
	if e.Pod != "" {
		return end{Namespace: e.Namespace, Pod: e.Pod}
	}
	out := end{Name: e.Name}
	if e.Addr.IsValid() {
		out.Addr = e.Addr.Unmap().String()
	}
	if s, is := p.services[e.Addr.Unmap()]; is {
		out.Name = "Service " + s.Namespace + "/" + s.Name
	}
	return out
}

func (p *picture) groupOf(e *api.FlowEnd) groupKey {
	if s, is := p.services[e.Addr.Unmap()]; is && e.Pod == "" {
		return groupKey{kindService, s.Namespace, s.Name}
	}
	return groupOf(e)
}

// knowServices is told which Services there are now.
func (p *picture) knowServices(services map[netip.Addr]Service) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.services = services
}

func (p *picture) removeEdge(e *entry[edgeKey, edge]) {
	p.leave(e.value.ID)
	delete(p.active, e.key)
	p.edges.remove(e.key)
}

// removeGroup removes a group with its edges.
func (p *picture) removeGroup(g *entry[groupKey, group]) {
	p.edges.all(func(e *entry[edgeKey, edge]) {
		if e.key.from == g.key || e.key.to == g.key {
			p.removeEdge(e)
		}
	})
	p.leave(g.value.ID)
	p.pods -= len(g.value.Pods)
	delete(p.red, g.key)
	p.groups.remove(g.key)
}

// leave notes that what had an id has gone.
func (p *picture) leave(id string) {
	if len(p.gone) >= maxGone {
		half := len(p.gone) / 2
		p.forgot = p.gone[half-1].version
		p.gone = slices.Delete(p.gone, 0, half)
	}
	p.gone = append(p.gone, goneID{p.version, id})
}

// tick brings up to date what changes as time passes.
func (p *picture) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version++
	second := now.Unix()
	for key := range p.active {
		e := p.edges.get(key)
		v := &e.value
		was := *v
		v.Rate, v.DropRate, v.Red = 0, oneDecimal(v.drops.perSecond(second)), now.Sub(v.drop) < redFor
		for i := range v.passed {
			v.Rate = max(v.Rate, oneDecimal(v.passed[i].perSecond(second)))
		}
		if v.Rate != was.Rate || v.DropRate != was.DropRate || v.Red != was.Red {
			p.edges.change(e, p.version)
		}
		if !v.Red && now.Sub(v.seen) > 2*rateSeconds*time.Second {
			delete(p.active, key)
		}
	}
	for key := range p.red {
		g := p.groups.get(key)
		still := false
		for _, x := range g.value.Pods {
			if x.Red && now.Sub(x.drop) >= redFor {
				x.Red = false
				p.groups.change(g, p.version)
			}
			still = still || x.Red
		}
		if !still {
			delete(p.red, key)
		}
	}
	if now.Sub(p.swept) > quietFor/30 {
		p.swept = now
		p.sweep(now)
	}
}

func oneDecimal(x float64) float64 { return math.Round(x*10) / 10 }

// sweep removes what has been quiet for long.
func (p *picture) sweep(now time.Time) {
	quiet := func(seen time.Time) bool { return now.Sub(seen) > quietFor }
	p.rows.all(func(r *entry[rowKey, row]) {
		if quiet(r.value.seen) {
			p.leave(r.value.ID)
			p.rows.remove(r.key)
		}
	})
	p.edges.all(func(e *entry[edgeKey, edge]) {
		if quiet(e.value.seen) {
			p.removeEdge(e)
		}
	})
	p.groups.all(func(g *entry[groupKey, group]) {
		if quiet(g.value.seen) {
			p.removeGroup(g)
			return
		}
		had := len(g.value.Pods)
		g.value.Pods = slices.DeleteFunc(g.value.Pods, func(x *pod) bool { return quiet(x.seen) })
		if left := len(g.value.Pods); left < had {
			p.pods -= had - left
			p.groups.change(g, p.version)
		}
	})
}

// update is what a browser is told.
type update struct {
	Version uint64  `json:"version"`
	Reset   bool    `json:"reset,omitempty"` // what was told before is forgotten
	Now     int64   `json:"now"`
	Lab     string  `json:"lab"`
	Rate    float64 `json:"rate"` // records a second, of all nodes
	Lost    uint64  `json:"lost,omitempty"`
	Nodes   []node  `json:"nodes"`

	Groups []group  `json:"groups,omitempty"`
	Edges  []edge   `json:"edges,omitempty"`
	Rows   []row    `json:"rows,omitempty"`
	Gone   []string `json:"gone,omitempty"`
}

// since is what has changed after a version, 0 for everything.
func (p *picture) since(version uint64, now time.Time) update {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := update{Version: p.version, Now: now.UnixMilli(), Rate: oneDecimal(p.seen.perSecond(now.Unix())), Lost: p.lost, Nodes: slices.Clone(p.nodes)}
	if version == 0 || version < p.forgot {
		version, u.Reset = 0, true
	}
	p.groups.since(version, func(g *group) {
		told := *g
		told.Pods = make([]*pod, len(g.Pods)) // its own, as they change while they are written
		for i, x := range g.Pods {
			told.Pods[i] = new(*x)
		}
		u.Groups = append(u.Groups, told)
	})
	p.edges.since(version, func(e *edge) { u.Edges = append(u.Edges, *e) })
	p.rows.since(version, func(r *row) { u.Rows = append(u.Rows, *r) })
	for _, g := range slices.Backward(p.gone) {
		if version == 0 || g.version <= version {
			break
		}
		u.Gone = append(u.Gone, g.id)
	}
	return u
}
