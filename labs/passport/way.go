package passport

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// Make joins what was seen and told.
func Make(in Input) Passport {
	j := &joiner{Input: in}
	out := Passport{Probe: in.Probe, Failed: in.Failed}
	sights, runs := sightsOf(in), runsOf(in.Events)
	j.matcher = newMatcher(in.Probe, packetsOf(sights, runs))
	if in.Probe.Watched != nil {
		j.Nodes = j.matcher.countHooks(in.Nodes)
	}
	request := j.way(j.keepSights(sights, j.matcher.request), j.keepRuns(runs, j.matcher.request), false)
	answer := j.way(j.keepSights(sights, j.matcher.answer), j.keepRuns(runs, j.matcher.answer), true)
	out.Request = &request
	if len(answer.Hops) > 0 {
		out.Answer = &answer
	}
	out.Notes = j.notes(request, answer)
	return out
}

type joiner struct {
	Input
	matcher *matcher
}

// sighted is a packet where it was captured.
type sighted struct {
	point  Point
	out    bool
	packet Packet
}

// sightsOf are the packets that were captured.
func sightsOf(in Input) []sighted {
	sights := make([]sighted, 0, len(in.Sights))
	for _, s := range in.Sights {
		if p, ok := read(s.Data, in.Points[s.Point].Raw); ok {
			p.at = s.Time
			sights = append(sights, sighted{point: in.Points[s.Point], out: s.Out, packet: p})
		}
	}
	return sights
}

// rank is where a sight comes among those of one time: the kernel stamps a packet once while it is in one context.
func (s sighted) rank() int {
	switch tunneled := s.packet.Tunnel != nil; {
	case inPod(s.point) && s.out:
		return 0
	case s.point.Host && !s.out:
		return 1
	case inPod(s.point):
		return 7
	case s.point.Host:
		return 6
	case s.out && !tunneled:
		return 2
	case s.out:
		return 3
	case tunneled:
		return 4
	}
	return 5
}

// run is what one program told of one packet.
type run struct {
	node   string
	events []api.Event
	packet Packet // as it came, or, where that is not told, as it left
	known  bool
}

func (r run) first() api.Event { return r.events[0] }

// last is the event that says what became of the packet; nil: none does.
func (r run) last() *api.Event {
	for i := len(r.events) - 1; i >= 0; i-- {
		if e := &r.events[i]; e.Type != api.EventStep && (e.Reason != "" || isTo(e.Point)) {
			return e
		}
	}
	return nil
}

func isTo(p api.Point) bool { return strings.HasPrefix(string(p), "to-") }

// device is where the program ran.
func (r run) device() string {
	for _, e := range r.events {
		if e.Iface != "" {
			return e.Iface
		}
	}
	return ""
}

// name is the program's, by where it is attached.
func (r run) name() string {
	for _, e := range r.events {
		if e.Type == api.EventStep {
			continue
		}
		if e.Point == api.FromTunnel || strings.HasPrefix(e.Iface, "lab_vxlan") || strings.HasPrefix(e.Iface, "lab_geneve") {
			return fromTunnel
		}
		return "lab_" + strings.ReplaceAll(e.Direction, "-", "_")
	}
	return ""
}

// Programs.
const (
	fromPod     = "lab_from_pod"
	toPod       = "lab_to_pod"
	fromNetwork = "lab_from_network"
	toNetwork   = "lab_to_network"
	fromTunnel  = "lab_from_tunnel"
)

func (r run) egress() bool { return r.name() == toPod || r.name() == toNetwork }

// runsOf puts events together that one program told of one packet, in the order of time.
func runsOf(events []api.Event) (out []run) {
	type key struct {
		node   string
		cpu    int
		packet uint64
	}
	at := map[key]int{}
	for _, e := range events {
		if e.Type == api.EventLost {
			continue
		}
		k := key{e.Node, e.CPU, e.Packet}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, run{node: e.Node})
		}
		out[i].events = append(out[i].events, e)
		if p, ok := read(e.Data, false); ok && !out[i].known {
			p.at = e.Time
			out[i].packet, out[i].known = p, true
		}
	}
	return out
}

func packetsOf(sights []sighted, runs []run) (out []Packet) {
	for _, s := range sights {
		out = append(out, s.packet)
	}
	for _, r := range runs {
		if r.known {
			out = append(out, r.packet)
		}
	}
	return out
}

func (j *joiner) keepSights(all []sighted, is func(Packet) bool) (out []sighted) {
	for _, s := range all {
		if is(s.packet) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b sighted) int {
		return cmp.Or(a.packet.at.Compare(b.packet.at), cmp.Compare(a.rank(), b.rank()))
	})
	if j.Probe.Watched != nil {
		type place struct {
			Point
			out, tunneled bool
		}
		out = firstOfEach(out, func(s sighted) place { return place{s.point, s.out, s.packet.Tunnel != nil} })
	}
	return out
}

func (j *joiner) keepRuns(all []run, is func(Packet) bool) (out []run) {
	for _, r := range all {
		if r.known && is(r.packet) && r.name() != "" {
			out = append(out, r)
		}
	}
	if j.Probe.Watched != nil {
		out = firstOfEach(out, func(r run) [3]string { return [3]string{r.node, r.device(), r.name()} })
	}
	return out
}

// way is a packet's, of what was seen and told of it.
func (j *joiner) way(sights []sighted, runs []run, answer bool) Way {
	var w Way
	for _, s := range sights {
		h := Hop{Node: s.point.Node, Device: s.point.Device, Pod: s.point.Pod, Direction: "in", Packet: &s.packet, at: s.packet.at}
		if s.out {
			h.Direction = "out"
		}
		if !inPod(s.point) {
			h.Pod = ""
		}
		w.Hops = append(w.Hops, h)
		w.Kind = s.packet.Kind
	}
	for _, r := range runs {
		w.Hops = j.addRun(w.Hops, r)
		w.Kind = cmp.Or(w.Kind, r.packet.Kind)
	}
	w.Hops = j.addStacks(w.Hops, answer)
	j.helpers(w.Hops)
	if answer {
		changes(w.Hops, netip.AddrPort{})
	} else {
		changes(w.Hops, j.Probe.Target)
		j.socket(&w)
	}
	j.unknown(w.Hops)
	j.end(&w, answer)
	w.Absences = j.absences(w, answer)
	return w
}

func inPod(p Point) bool { return p.Pod != "" && !p.Host }

// addRun puts what a program told where it ran: to the device where the packet was captured, or, where captures do not see it, in
// front of what happened later.
func (j *joiner) addRun(hops []Hop, r run) []Hop {
	p := j.programOf(r)
	direction := "in"
	if r.egress() {
		direction = "out"
	}
	for i := range hops {
		h := &hops[i]
		if h.Node == r.node && h.Program == nil && h.Pod == "" && h.Device == r.device() && h.Direction == direction {
			h.Program, h.told = p, r.packet
			return hops
		}
	}
	h := Hop{Node: r.node, Device: r.device(), Direction: direction, Program: p, at: r.first().Time, told: r.packet}
	at := len(hops)
	for i, later := range hops {
		if later.at.After(h.at) && later.Node == r.node {
			at = i
			break
		}
	}
	// Behind what the node has already got, and in front of the pod.
	return slices.Insert(hops, at, h)
}

func (j *joiner) programOf(r run) *Program {
	p := &Program{Name: r.name(), Hook: "tcx ingress", egress: r.egress()}
	if p.egress {
		p.Hook = "tcx egress"
	}
	if n := j.node(r.node); n != nil { // kernels before 6.6 have another
		for _, attached := range n.Programs {
			if attached.Name == p.Name && attached.Hook != "" {
				p.Hook = attached.Hook
			}
		}
	}
	for _, e := range r.events {
		if e.Step != nil {
			p.Steps = append(p.Steps, *e.Step)
			continue
		}
		p.SrcIdentity, p.DstIdentity = cmp.Or(e.SrcIdentity, p.SrcIdentity), cmp.Or(e.DstIdentity, p.DstIdentity)
	}
	last := r.last()
	if last == nil {
		return p
	}
	p.Verdict, p.Dropped, p.State, p.Service, p.Cached = last.Reason, last.Type == api.EventDrop, last.State, last.Service, last.Cached
	if last.OrigSrc.IsValid() && last.OrigSrc != last.Src {
		p.OrigSrc = last.OrigSrc
	}
	if last.OrigDst.IsValid() && last.OrigDst != last.Dst {
		p.OrigDst = last.OrigDst
	}
	return p
}

// toStack says whether the packet went on to the node's stack behind this hop, as far as the hop tells.
func toStack(h Hop) bool {
	if h.Direction != "in" || h.Pod != "" || h.Device == "" {
		return false
	}
	return h.Program == nil || h.Program.Verdict == "to-kernel" || h.Program.Verdict == "" && !h.Program.Dropped
}

// addStacks adds the stacks of nodes where they had the packet: between a device that gave it to them and one that it left by.
func (j *joiner) addStacks(hops []Hop, answer bool) (out []Hop) {
	for i, h := range hops {
		node := j.node(h.Node)
		origin := i == 0 && h.Direction == "out" && h.Pod == "" && h.Device != ""
		if origin { // a process of the node has sent it
			out = append(out, Hop{Node: h.Node, Hooks: passed(node, answer), at: h.at})
		}
		out = append(out, h)
		if !toStack(h) {
			continue
		}
		last, next := i == len(hops)-1, Hop{}
		if !last {
			next = hops[i+1]
		}
		hooks := passed(node, answer)
		switch {
		case !last && next.Node == h.Node && next.Direction == "in" && next.Pod == "" && next.Device != "": // a device of its own below: the tunnel's
			continue
		case len(hooks) == 0 && node != nil && (node.Hooks != nil || node.Away != ""): // the stack did not get it, or nobody knows
			continue
		case len(hooks) == 0 && last && h.Program == nil: // nothing says that it did
			continue
		}
		out = append(out, Hop{Node: h.Node, Hooks: hooks, at: h.at})
	}
	return out
}

func (j *joiner) node(name string) *OnNode {
	for i := range j.Nodes {
		if j.Nodes[i].Name == name {
			return &j.Nodes[i]
		}
	}
	return nil
}

// passed are the hooks of the node's stack that have counted the packet.
func passed(n *OnNode, answer bool) (out []string) {
	if n == nil {
		return nil
	}
	for _, h := range n.Hooks {
		if h.count(answer).In > 0 {
			out = append(out, h.Name)
		}
	}
	return out
}

func (h Hook) count(answer bool) Count {
	if answer {
		return h.Reply
	}
	return h.Request
}

// helpers says what programs handed the packet on with. Which one it was follows from where it was seen next, or from what the
// program did.
func (j *joiner) helpers(hops []Hop) {
	for i := range hops {
		p := hops[i].Program
		if p == nil || p.Dropped {
			continue
		}
		var next Hop
		if i+1 < len(hops) {
			next = hops[i+1]
		}
		cached := p.Cached || slices.ContainsFunc(p.Steps, func(s api.Step) bool { return s.Kind == api.StepCache })
		switch p.Verdict {
		case "delivered":
			switch {
			case next.Node != hops[i].Node:
			case next.Pod != "" && next.Direction == "in" && !p.egress && j.proven(next.Node, next.Pod):
				p.Helper = "bpf_redirect_peer"
			case next.Pod == "" && next.Direction == "out":
				p.Helper = "bpf_redirect"
			}
		case "forwarded":
			switch {
			case p.egress: // it is on its way out
			case cached:
				p.Helper = "bpf_redirect"
			default:
				p.Helper = "bpf_redirect_neigh"
			}
		case "tunneled":
			p.Helper = "bpf_redirect"
		}
	}
}

// proven says whether the other end of a pod's device was watched, so that what was not seen there was not there.
func (j *joiner) proven(node, pod string) bool {
	return slices.ContainsFunc(j.Points, func(p Point) bool {
		return p.Node == node && p.Pod == pod && p.Host && p.Unproven == ""
	})
}

// changes says of each place what the packet has that it had not at the one before.
func changes(hops []Hop, asked netip.AddrPort) {
	var was *Packet
	for i := range hops {
		is := hops[i].Packet
		if is == nil {
			continue
		}
		if was != nil {
			hops[i].Changes = between(*was, *is)
		} else if asked.IsValid() && !same(asked, is.Dst) {
			hops[i].Changes = []Change{{"destination", endText{asked}.String(), endText{is.Dst}.String()}}
		}
		was = is
	}
}

func between(was, is Packet) (out []Change) {
	add := func(field string, a, b fmt.Stringer) {
		if a.String() != b.String() {
			out = append(out, Change{field, a.String(), b.String()})
		}
	}
	add("source", endText{was.Src}, endText{is.Src})
	add("destination", endText{was.Dst}, endText{is.Dst})
	if was.TTL != is.TTL {
		out = append(out, Change{"TTL", fmt.Sprint(was.TTL), fmt.Sprint(is.TTL)})
	}
	add("source MAC", was.SrcMAC, is.SrcMAC)
	add("destination MAC", was.DstMAC, is.DstMAC)
	add("tunnel", was.Tunnel, is.Tunnel)
	return out
}

// String is what carries a packet; empty: nothing.
func (t *Tunnel) String() string {
	if t == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s > %s, VNI %d", t.Protocol, t.Src, t.Dst, t.VNI)
}

// same says whether a packet goes to where it was asked to be sent.
func same(asked, is netip.AddrPort) bool {
	return is.Addr() == asked.Addr() && (asked.Port() == 0 || is.Port() == asked.Port())
}

// socket says what a socket's program made of the address that was asked for. That it did is known of pods, out of whose network
// nothing else can have changed it.
func (j *joiner) socket(w *Way) {
	if len(w.Hops) == 0 || w.Hops[0].Pod == "" || w.Hops[0].Changes == nil {
		return
	}
	first := &w.Hops[0]
	h := Hop{Node: first.Node, Pod: first.Pod, at: first.at, Socket: &first.Changes[0]}
	h.Program = &Program{Name: "lab_connect4", Hook: "cgroup connect4", Verdict: "translated"}
	if j.Probe.To.Kind == Service {
		h.Program.Service = j.Probe.To.Name
	}
	first.Changes = nil
	w.Hops = slices.Insert(w.Hops, 0, h)
}

// unknown says of devices where a program is to be and told nothing, why.
func (j *joiner) unknown(hops []Hop) {
	for i := range hops {
		h := &hops[i]
		n := j.node(h.Node)
		if n == nil || h.Program != nil || h.Pod != "" || h.Device == "" {
			continue
		}
		if n.Away != "" {
			h.Unknown = n.Away
			continue
		}
		if name := j.programAt(*n, *h); name != "" && !attached(n.Programs, name, h.Device) {
			h.Unknown = fmt.Sprintf("%s is not attached to %s: the agent attaches it anew; lab status and lab logs say whether its reconciler devices is well", name, h.Device)
		}
	}
}

// programAt is the program that is to be at a device; empty: none is, or nobody says which programs there are.
func (j *joiner) programAt(n OnNode, h Hop) string {
	name := ""
	switch in := h.Direction == "in"; {
	case in && strings.HasPrefix(h.Device, "lxc"):
		name = fromPod
	case in && h.Device == n.NIC && h.Packet != nil && h.Packet.Tunnel == nil:
		name = fromNetwork
	case in && h.Device == n.Tunnel:
		name = fromTunnel
	case !in && h.Device == n.NIC && h.Packet != nil && h.Packet.Tunnel == nil:
		name = toNetwork
	case !in && h.Device == labHost:
		name = toPod
	}
	if n.Programs == nil {
		return ""
	}
	for _, each := range j.Nodes { // all nodes have the same programs
		if slices.ContainsFunc(each.Programs, func(p api.Program) bool { return p.Name == name }) {
			return name
		}
	}
	return ""
}

func attached(programs []api.Program, name, device string) bool {
	return slices.ContainsFunc(programs, func(p api.Program) bool { return p.Name == name && slices.Contains(p.AttachedTo, device) })
}
