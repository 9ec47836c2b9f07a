package passport

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// end says where a packet's way ended, and if that was not where it was to go, why.
func (j *joiner) end(w *Way, answer bool) {
	if len(w.Hops) == 0 {
		j.seenNowhere(w)
		return
	}
	last := w.Hops[len(w.Hops)-1]
	if i := slices.IndexFunc(w.Hops, func(h Hop) bool { return h.Program != nil && h.Program.Dropped }); i >= 0 {
		j.dropped(w, w.Hops[i])
		return
	}
	if w.Arrived = j.arrived(last, answer); w.Arrived {
		if last.Pod != "" && last.Packet != nil {
			j.notTaken(w, last)
		}
		return
	}
	if last.Device == "" && last.Socket == nil {
		j.endInStack(w, last, answer)
		return
	}
	w.End = fmt.Sprintf("it was last seen at %s of node %s", last.Device, last.Node)
	if last.Pod != "" {
		w.End = fmt.Sprintf("it was last seen at %s of pod %s", last.Device, last.Pod)
	}
	switch {
	case last.Program == nil && last.Unknown != "":
		w.Why, w.WayOut, _ = strings.Cut(last.Unknown, ": ")
	case last.Program != nil && last.Program.Verdict == "tunneled":
		w.Why = "the tunnel's device did not send it: it is down, or gone"
		w.WayOut = "ip link on the node says which; the agent sees to it, and lab status says whether its reconciler devices is well"
	case last.Direction == "out" && last.Pod == "":
		j.lost(w, last)
	}
}

// seenNowhere is the end of a packet that no device and no program has had.
func (j *joiner) seenNowhere(w *Way) {
	w.Kind, w.End = "nothing", "it was seen nowhere"
	i := slices.IndexFunc(j.Points, func(p Point) bool { return inPod(p) && p.Pod == j.Probe.From.Name })
	switch {
	case j.Failed != "":
		w.Why = "the sender's socket sent nothing: " + j.Failed
		w.WayOut = j.unsent()
	case j.Probe.From.Kind == Node:
		w.End = "it was answered, and not known again where it was seen"
		w.Why = "the sender's stack gave it another port before a device had it, as kube-proxy's rules do with what nodes send to Services"
		w.WayOut = "explain it from a pod"
	case i >= 0 && j.Points[i].Unproven == "":
		w.End = "it was answered, and did not leave the pod"
		w.Why = "the pod itself answered, as what was asked for or as the backend that its socket was given: what a pod sends to its own address goes by its lo"
		w.WayOut = "explain it from another pod, or, where there are other backends, again"
	}
}

// unsent is the way out where the sender's socket failed and nothing was seen.
func (j *joiner) unsent() string {
	from := cmp.Or(j.Probe.From.Name, "the sender")
	switch {
	case strings.Contains(j.Failed, unix.EPERM.Error()):
		return fmt.Sprintf("a rule at OUTPUT of %s drops it, or a program at its sockets refuses it: iptables-save -c there has the rules", from)
	case strings.Contains(j.Failed, unix.ENETUNREACH.Error()), strings.Contains(j.Failed, unix.EHOSTUNREACH.Error()):
		return fmt.Sprintf("%s has no way there: ip route get %s there says so", from, j.Probe.Target.Addr())
	case j.Probe.To.Kind == Service:
		return "lab service list says what the Service has; without a backend, programs at sockets refuse to connect"
	}
	return "lab monitor --type drop, while it is sent again, says what programs drop"
}

// notTaken is the end of a packet that came to a pod's device with the MAC of another.
func (j *joiner) notTaken(w *Way, last Hop) {
	for _, p := range j.Points {
		if !inPod(p) || p.Pod != last.Pod || p.Device != last.Device || p.MAC == "" || last.Packet.DstMAC.String() == p.MAC {
			continue
		}
		w.Arrived = false
		w.End = fmt.Sprintf("%s of pod %s did not take it", p.Device, p.Pod)
		w.Why = fmt.Sprintf("the frame is for %s, and the pod's MAC is %s", last.Packet.DstMAC, p.MAC)
		w.WayOut = "lab endpoint list has the MAC that the node's map has; a restart of the agent writes it anew"
	}
}

// lost is the end of a packet that left a node and came in nowhere.
func (j *joiner) lost(w *Way, last Hop) {
	w.Why = "it left, and came in nowhere else in the lab"
	w.WayOut = "ip route get on the node says where it was sent, and lab status which nodes reach each other"
	if last.Device == labHost {
		w.Why = "no " + toPod + " took it there: it is not attached, or did not tell"
		w.WayOut = "lab status --verbose says which programs are attached where"
		return
	}
	if last.Packet == nil {
		return
	}
	if n := j.unheard(last.Packet); n != nil {
		w.Why = fmt.Sprintf("it may have gone to node %s, where nobody listened: %s", n.Name, n.Away)
		w.WayOut = "lab status says how the node is; lab up starts or resumes it"
		return
	}
	if t := last.Packet.Tunnel; t != nil {
		w.Why = fmt.Sprintf("it went to %s, and came out of no tunnel", t.Dst)
		w.WayOut = "lab bpf ipcache list says to which node it should go"
		return
	}
	for _, p := range j.Points {
		if n := j.node(p.Node); n != nil && p.Device == n.NIC && p.Pod == "" && p.MAC == last.Packet.DstMAC.String() {
			return
		}
	}
	if j.Probe.To.Kind == Service && last.Packet.Dst.Addr() == j.Probe.Target.Addr() {
		w.Why = "nothing translated the Service's address, which led out of the lab: the Service has no such port, or who is to translate it did not"
		w.WayOut = "lab service list has the ports of Services and their backends, lab status --verbose the programs that translate"
		return
	}
	w.Why = fmt.Sprintf("it was sent to %s, which is no node's MAC: the node's route leads out of the lab", last.Packet.DstMAC)
	w.WayOut = fmt.Sprintf("ip route get %s on the node says which route it is; routes to other nodes' pods are in lab status --verbose", last.Packet.Dst.Addr())
}

// unheard is a node where nothing was listened at and that the packet may have gone to, as far as its addresses say; nil where there
// is none.
func (j *joiner) unheard(p *Packet) *OnNode {
	for i, n := range j.Nodes {
		listened := slices.ContainsFunc(j.Points, func(at Point) bool { return at.Node == n.Name && at.Pod == "" })
		if n.Away == "" || listened {
			continue
		}
		if p.Tunnel != nil && p.Tunnel.Dst == n.IP {
			return &j.Nodes[i]
		}
		of := func(at Point) bool { return at.Pod == "" && at.MAC == p.DstMAC.String() }
		if p.Tunnel == nil && !slices.ContainsFunc(j.Points, of) {
			return &j.Nodes[i]
		}
	}
	return nil
}

// dropped is the end of a packet that a program dropped.
func (j *joiner) dropped(w *Way, at Hop) {
	p := at.Program
	w.End = fmt.Sprintf("%s at %s of %s (node %s) dropped it", p.Name, p.Hook, at.Device, at.Node)
	words, known := drops()[p.Verdict]
	if !known {
		words = drop{why: "it is a case that programs drop", out: "docs/architecture.md says what it stands for"}
	}
	w.Why, w.WayOut = p.Verdict+": "+words.why, words.out
}

// drop is a reason in words, and what to do about it.
type drop struct{ why, out string }

// drops are the reasons of which a probe can be dropped.
func drops() map[string]drop {
	routes := "ip route get on the node says which route it is, and ip rule which rules there are"
	return map[string]drop{
		"source-address":       {"a pod may send with its own address alone", "send from the pod's own address"},
		"loopback":             {"addresses of 127.0.0.0/8 are valid inside a host alone", "ask for the pod's own address"},
		"no-endpoint":          {"no pod of the node has that address", "lab endpoint list says which addresses there are; the pod may be gone"},
		"no-node":              {"it came by the tunnel from an address that is no node's", "lab bpf ipcache list says which nodes there are"},
		"forged-source":        {"the node that sent it has not got the source's address", "lab bpf ipcache list says who has it"},
		"no-route":             {"the node has no route there", routes},
		"unreachable":          {"the node's route says that it cannot be reached", routes},
		"prohibited":           {"the node's route forbids it", routes},
		"blackhole":            {"the node's route drops it", routes},
		"too-big":              {"it is larger than the route's MTU and must not be cut up", "send less, or see lab status for the MTU"},
		"no-flow":              {"it belongs to no known flow and may not open one", "open a connection anew"},
		"not-masqueradable":    {"it would have left with the pod's own address", "the node's NIC needs an address"},
		"no-free-port":         {"all ports towards its destination are in use", "end connections to it, or wait until they are forgotten"},
		"no-backend":           {"the Service has no backend", "lab service list names its backends; its pods must be ready"},
		"no-local-backend":     {"the Service takes backends of this node alone, and has none here", "ask at a node that has one, or set its traffic policy to Cluster"},
		"source-range":         {"the Service does not accept the client", "spec.loadBalancerSourceRanges names whom it accepts"},
		"ttl-exceeded":         {"it had no hop left", "send it with a larger TTL"},
		"not-rewritable":       {"its headers could not be rewritten, or it could not be sent on", "lab logs and ip link on the node say whether the device is up"},
		"foreign-error":        {"it is an ICMP error about a packet that was not the pod's", "nothing is wrong with the network"},
		"no-first-fragment":    {"it is a fragment of which the first has not been seen", "send less at once"},
		"unsupported-protocol": {"it is neither IPv4 nor ARP", "send IPv4"},
	}
}

// arrived says whether the packet is where it was to go.
func (j *joiner) arrived(last Hop, answer bool) bool {
	end := j.Probe.To
	if answer {
		end = j.Probe.From
	}
	inStack := last.Device == "" && slices.Contains(last.Hooks, input) && j.stoppedAt(last.Node, answer) != input
	switch end.Kind {
	case Pod:
		return last.Pod == end.Name && last.Direction == "in"
	case Service: // a backend, whichever it is
		return last.Pod != "" && last.Direction == "in" || inStack
	case Node:
		return last.Node == end.Node && (inStack || last.Device == "" && last.Hooks == nil || last.Direction == "in" && last.Device != "" && last.Pod == "" && j.node(last.Node) != nil && j.node(last.Node).Hooks == nil)
	}
	n := j.node(last.Node)
	return n != nil && last.Device == n.NIC && last.Direction == "out"
}

// stoppedAt is the hook of a node's stack that the packet came to, and behind whose rules it was not left; empty where there is none.
func (j *joiner) stoppedAt(node string, answer bool) string {
	if n := j.node(node); n != nil {
		for _, h := range n.Hooks {
			if c := h.count(answer); c.In > c.Out {
				return h.Name
			}
		}
	}
	return ""
}

// Hooks of a node's stack.
const (
	prerouting  = "PREROUTING"
	input       = "INPUT"
	forward     = "FORWARD"
	postrouting = "POSTROUTING"
)

// endInStack is the end of a packet that a node's stack had and did not send on.
func (j *joiner) endInStack(w *Way, last Hop, answer bool) {
	w.End = fmt.Sprintf("the stack of node %s had it, and it came out nowhere", last.Node)
	if len(last.Hooks) == 0 {
		return
	}
	if hook := j.stoppedAt(last.Node, answer); hook != "" {
		w.End = fmt.Sprintf("the stack of node %s dropped it at %s", last.Node, hook)
		w.Why = fmt.Sprintf("a rule or the policy of a chain at that hook: it came to %s and was not left behind its rules", hook)
		w.WayOut = "iptables-save -c and nft list ruleset on the node show rules and policies with what they have counted"
		return
	}
	switch last.Hooks[len(last.Hooks)-1] {
	case prerouting:
		w.Why = "it passed PREROUTING and came to no other hook: the node does not forward, or has no route, or its reverse path filter drops it"
		w.WayOut = "sysctl net.ipv4.ip_forward, ip route get and sysctl net.ipv4.conf.all.rp_filter on the node say which"
	case forward:
		w.Why = "it passed FORWARD and not POSTROUTING: it is too large, or had no hop left"
		w.WayOut = "ip route get on the node has the MTU"
	case postrouting:
		w.Why = "it passed POSTROUTING and no device sent it: no neighbour answers for the next hop, or the device is down"
		w.WayOut = "ip route get, ip neigh and ip link on the node say which"
	}
}
