package passport

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// absences are the places where one may look for the packet, and it was not: the devices of pods that it went to or came from,
// NICs and tunnels of the nodes it was on, and the hooks of their stacks. Nothing is said of a place where nothing follows from
// not having seen it.
func (j *joiner) absences(w Way, answer bool) (out []Absence) {
	for _, node := range nodesOf(w.Hops) {
		for _, p := range j.Points {
			if p.Node != node || p.Unproven != "" || seenAt(w.Hops, p) {
				continue
			}
			if reason := j.notAtDevice(w.Hops, p); reason != "" {
				out = append(out, Absence{Node: node, Device: p.Device, Pod: p.Pod, Reason: reason})
			}
		}
		n := j.node(node)
		if n == nil {
			continue
		}
		hops := onNode(w.Hops, node)
		var hooks []string
		for _, h := range n.Hooks {
			if h.Proven && h.count(answer).In == 0 && slices.Contains(throughStack(hops), h.Name) {
				hooks = append(hooks, h.Name)
			}
		}
		if reason := pastStack(hops); reason != "" && hooks != nil {
			out = append(out, Absence{Node: node, Hooks: hooks, Reason: reason})
		}
	}
	return out
}

// throughStack are the hooks that a packet passes that comes into a node and leaves it again by its stack.
func throughStack(hops []Hop) []string {
	if hops[0].Direction == "in" || hops[0].Pod != "" || hops[0].Socket != nil {
		return []string{prerouting, forward, postrouting}
	}
	return nil
}

func nodesOf(hops []Hop) (out []string) {
	for _, h := range hops {
		if !slices.Contains(out, h.Node) {
			out = append(out, h.Node)
		}
	}
	return out
}

func onNode(hops []Hop, node string) (out []Hop) {
	for _, h := range hops {
		if h.Node == node {
			out = append(out, h)
		}
	}
	return out
}

func seenAt(hops []Hop, p Point) bool {
	return slices.ContainsFunc(hops, func(h Hop) bool {
		return h.Packet != nil && h.Node == p.Node && h.Device == p.Device && (h.Pod != "") == inPod(p) && (h.Pod == "" || h.Pod == p.Pod)
	})
}

// decider is the program that sent the packet on, on a node; nil: none told.
func decider(hops []Hop) *Hop {
	for i := len(hops) - 1; i >= 0; i-- {
		if h := &hops[i]; h.Program != nil && !h.Program.Dropped && slices.Contains([]string{"delivered", "forwarded", "tunneled"}, h.Program.Verdict) && !h.Program.egress {
			return h
		}
	}
	return nil
}

// notAtDevice is why a packet did not cross a device; empty: it is not where one looks for it, or nobody knows.
func (j *joiner) notAtDevice(hops []Hop, p Point) string {
	here := onNode(hops, p.Node)
	n, by := j.node(p.Node), decider(here)
	last := here[len(here)-1]
	switch {
	case p.Device == labHost:
		if i := slices.IndexFunc(here, func(h Hop) bool { return h.Program != nil && h.Program.Name == toPod }); i >= 0 {
			does := "hands it on with " + here[i].Program.Helper
			if here[i].Program.Dropped {
				does = "drops it"
			}
			return fmt.Sprintf("%s at its %s %s before captures see it", toPod, here[i].Program.Hook, does)
		}
	case inPod(p):
	case p.Host:
		if last.Pod == p.Pod && last.Direction == "in" && by != nil && by.Program.Helper == "bpf_redirect_peer" {
			return fmt.Sprintf("bpf_redirect_peer in %s at %s puts it into the pod's eth0", by.Program.Name, by.Device)
		}
	case n != nil && p.Device == n.NIC:
		if by != nil && by.Program.Verdict == "delivered" && strings.HasPrefix(by.Device, "lxc") {
			return fmt.Sprintf("the pod is on the same node, and %s at %s delivers it", by.Program.Name, by.Device)
		}
	case n != nil && n.Tunnel != "" && p.Device == n.Tunnel:
		switch {
		case by != nil && by.Program.Verdict == "delivered" && strings.HasPrefix(by.Device, "lxc"):
			return fmt.Sprintf("the pod is on the same node, and %s at %s delivers it", by.Program.Name, by.Device)
		case by != nil && by.Program.Verdict == "forwarded":
			return fmt.Sprintf("no pod of another node has the address, and %s at %s sends it out of the NIC as it is", by.Program.Name, by.Device)
		}
	}
	return ""
}

// labHost is the device by which a node's stack reaches its pods.
const labHost = "lab_host"

// pastStack is why a node's stack did not get a packet; empty: it did, or nobody knows.
func pastStack(hops []Hop) string {
	by := decider(hops)
	if by == nil {
		return ""
	}
	p := by.Program
	switch p.Verdict {
	case "delivered":
		if p.Helper == "" {
			return ""
		}
		return fmt.Sprintf("%s at %s hands it to the pod with %s", p.Name, by.Device, p.Helper)
	case "tunneled":
		return fmt.Sprintf("%s at %s sends it into the tunnel", p.Name, by.Device)
	}
	device := ""
	for _, h := range hops {
		if h.Direction == "out" && h.Pod == "" && h.Device != "" {
			device = " out of " + h.Device
		}
	}
	if p.Cached {
		return fmt.Sprintf("%s at %s sends it%s, by a decision that rests on a FIB lookup", p.Name, by.Device, device)
	}
	return fmt.Sprintf("the FIB lookup of %s at %s sends it%s", p.Name, by.Device, device)
}

// notes are what the passport cannot tell.
func (j *joiner) notes(ways ...Way) (out []string) {
	out = slices.Clone(j.Notes)
	touched := map[string]bool{}
	for _, w := range ways {
		for _, h := range w.Hops {
			touched[h.Node] = true
		}
	}
	if request := ways[0]; request.Arrived && j.Failed != "" {
		if last := request.Hops[len(request.Hops)-1]; last.Packet != nil && j.Probe.To.Kind == Outside && j.Probe.From.Kind == Pod && !j.nodesAddress(last.Packet.Src.Addr()) {
			if j.Nobody != "" {
				out = append(out, j.Nobody)
			} else {
				out = append(out, fmt.Sprintf("it left %s of node %s with the pod's own address, which others cannot answer: nothing masqueraded it; lab status says what is to (Masquerading), and iptables-save -t nat on the node has rules that do", last.Device, last.Node))
			}
		}
	}
	if len(ways) > 1 && j.Failed != "" && strings.HasPrefix(ways[1].Kind, "RST") && (j.Probe.To.Kind == Pod || j.Probe.To.Kind == Node) {
		out = append(out, fmt.Sprintf("%s is reached and refuses: nothing listens at its port %d", j.Probe.To.Name, j.Probe.Target.Port()))
	}
	for _, w := range ways {
		out = append(out, disagreements(w.Hops)...)
	}
	for _, n := range j.Nodes {
		if n.Away != "" {
			out = append(out, fmt.Sprintf("node %s: %s", n.Name, n.Away))
		}
	}
	for _, p := range j.Points {
		if p.Unproven != "" && touched[p.Node] {
			out = append(out, fmt.Sprintf("nothing follows from what was not seen at %s of node %s: %s", p.Device, p.Node, p.Unproven))
		}
	}
	return out
}

func (j *joiner) nodesAddress(a netip.Addr) bool {
	return slices.ContainsFunc(j.Nodes, func(n OnNode) bool { return n.IP == a })
}

// disagreements are programs that take an end of the packet for somebody else than the program before them did that had the same
// address for it.
func disagreements(hops []Hop) (out []string) {
	var src, dst held
	if slices.ContainsFunc(hops, func(h Hop) bool {
		return h.Program != nil && (h.Program.OrigSrc.IsValid() || h.Program.OrigDst.IsValid())
	}) {
		return nil // an end became another
	}
	for _, h := range hops {
		if h.Program == nil {
			continue
		}
		for _, e := range []struct {
			who string
			was *held
			is  held
		}{
			{"sends", &src, held{h.told.Src.Addr(), h.Program.SrcIdentity}},
			{"gets", &dst, held{h.told.Dst.Addr(), h.Program.DstIdentity}},
		} {
			if e.is.identity == 0 {
				continue
			}
			if e.was.identity != 0 && e.was.addr == e.is.addr && e.was.identity != e.is.identity {
				out = append(out, fmt.Sprintf("node %s takes who %s it for identity %d, a program before it for %d: lab bpf ipcache list has what nodes know of addresses, and lab identity list who that is", h.Node, e.who, e.is.identity, e.was.identity))
			}
			*e.was = e.is
		}
	}
	return out
}

// held is whom a program takes an address for.
type held struct {
	addr     netip.Addr
	identity uint32
}
