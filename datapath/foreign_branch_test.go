package datapath

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/bpf"
)

// quoted is what a router quotes of a frame.
func quoted(frame []byte) []byte { return frame[ethernetHeader:][:28] }

// Errors about masqueraded flows of every shape, in both directions: those that somebody can tell who has
// the quoted packet, to who has sent it, are translated; others of a pod are dropped, and others from outside
// are not ours.
func TestErrorsFitTheirFlows(t *testing.T) {
	m := router(t)
	pod, other, elsewhere := m.local[0], m.local[1], netip.MustParseAddr("198.51.100.7")
	client := netip.AddrPortFrom(pod, 40000)
	out, in := bpf.PodLabDirectionDIR_TO_NETWORK, bpf.PodLabDirectionDIR_FROM_NETWORK
	veth := func(addr netip.Addr) stage { return stage{m.d.progs.fromPod, m.ifindex(addr)} }
	nic := stage{m.d.progs.services.fromNetwork, m.nic()}
	type flow struct{ request, answer []byte }
	flows := map[string]flow{
		"TCP":  {packet(layers.IPProtocolTCP, client, far, synFlag), packet(layers.IPProtocolTCP, far, client, ackFlag)},
		"UDP":  {packet(layers.IPProtocolUDP, client, far, 0), packet(layers.IPProtocolUDP, far, client, 0)},
		"echo": {icmpPacket(pod, far.Addr(), layers.ICMPv4TypeEchoRequest, 7, []byte("data")), nil},
	}
	for name, f := range flows {
		_, sent := m.runOn(m.out().prog, m.nic(), f.request) // as the outside sees it
		for _, kind := range []uint8{layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem} {
			tell := func(by, to netip.Addr, about []byte) []byte { return icmpPacket(by, to, kind, 0, quoted(about)) }
			for what, b := range map[string]branch{
				"from a router":                   {frame: tell(elsewhere, m.ns.Addr, sent), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true, rewritten: true},
				"from the server":                 {frame: tell(far.Addr(), m.ns.Addr, sent), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true, rewritten: true},
				"from a router to another":        {frame: tell(elsewhere, elsewhere, sent), verdict: actNext, reason: pass},
				"from the server to another":      {frame: tell(far.Addr(), otherNode, sent), verdict: actNext, reason: pass},
				"to the pod, of what nobody sent": {frame: tell(far.Addr(), other, sent), verdict: actRedirect, reason: bpf.PodLabReasonREASON_DELIVERED, hop: true},
			} {
				t.Run(fmt.Sprint(name, " ", kind, "/in ", what), func(t *testing.T) {
					got := m.checkOne(t, in, nic, b)
					if src := netip.AddrFrom4([4]byte(got[ethernetHeader+28+12:])); (src == pod) != b.rewritten {
						t.Errorf("it quotes a packet from %s", src)
					}
				})
			}
			if f.answer == nil {
				continue // nobody asks the pod with an echo here
			}
			drop := bpf.PodLabReasonREASON_FOREIGN_ERROR
			for what, b := range map[string]struct {
				by netip.Addr
				branch
			}{
				"from the pod":               {pod, branch{frame: tell(pod, far.Addr(), f.answer), verdict: actRedirect, reason: bpf.PodLabReasonREASON_FORWARDED, hop: true}},
				"from another":               {other, branch{frame: tell(other, far.Addr(), f.answer), verdict: actShot, reason: drop}},
				"from another, to nobody":    {other, branch{frame: tell(other, elsewhere, f.answer), verdict: actShot, reason: drop}},
				"from the pod, to nobody":    {pod, branch{frame: tell(pod, elsewhere, f.answer), verdict: actShot, reason: drop}},
				"from another, to the pod":   {other, branch{frame: tell(other, pod, f.request), verdict: actShot, reason: drop}},
				"from another, with options": {other, branch{frame: edit(t, tell(other, pod, f.request), func(ip *layers.IPv4) { ip.Options = []layers.IPv4Option{{OptionType: 1, OptionLength: 1}} }), verdict: actShot, reason: drop}},
				"of half a header":           {pod, branch{frame: icmpPacket(pod, far.Addr(), kind, 0, quoted(f.answer)[:12]), verdict: actShot, reason: drop}},
			} {
				t.Run(fmt.Sprint(name, " ", kind, "/out ", what), func(t *testing.T) {
					m.checkOne(t, bpf.PodLabDirectionDIR_FROM_POD, veth(b.by), b.branch)
				})
			}
			t.Run(fmt.Sprint(name, " ", kind, "/out at the NIC"), func(t *testing.T) {
				m.checkOne(t, out, m.out(), branch{frame: tell(pod, far.Addr(), f.answer), verdict: actNext, reason: bpf.PodLabReasonREASON_FORWARDED, rewritten: true})
				m.checkOne(t, out, m.out(), branch{frame: tell(pod, elsewhere, f.answer), verdict: actShot, reason: bpf.PodLabReasonREASON_MASQUERADE})
			})
		}
	}
	for what, kind := range map[string]uint8{"source quench": layers.ICMPv4TypeSourceQuench, "redirect": layers.ICMPv4TypeRedirect} {
		t.Run("out "+what, func(t *testing.T) {
			frame := icmpPacket(other, pod, kind, 0, quoted(flows["UDP"].request))
			m.checkOne(t, bpf.PodLabDirectionDIR_FROM_POD, veth(other), branch{frame: frame, verdict: actShot, reason: bpf.PodLabReasonREASON_FOREIGN_ERROR})
		})
	}
}
