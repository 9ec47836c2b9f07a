package checks

import (
	"net/netip"
	"strings"
	"testing"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

// pathFaults are those of the way that packets take, and of who sees them there.
func pathFaults() []fault {
	return []fault{
		{"frames between nodes have a stranger's MAC", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "node worker eth0" && p.Protocol == "tcp" && p.Direction == probe.Out {
					stranger := "02:00:00:00:00:77"
					if p.DestMAC = stranger; p.Outer != nil {
						p.Outer.DestMAC = stranger
					}
				}
			}
		}, []string{"paths/hops-across-nodes"}, []string{"to 02:00:00:00:00:77"}},
		{"a node's pods are outside the pool", func(w *world) {
			w.env.Pool = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("10.244.2.0/23")}
		}, []string{"nodes/pod-cidrs"}, []string{"10.244.1.0/24"}},
		{"a NIC shows packets that stay on the node", replies("node worker", func(p *place, r probe.Request, reply *probe.Reply) {
			own := func(packet probe.Packet) bool { return packet.Source == p.addr }
			if packets := captured(reply); r.Capture != nil && r.Capture.Interface == "eth0" && len(packets) > 0 && own(packets[0]) {
				reply.Capture.Packets = append(packets, probe.Packet{Protocol: "tcp", Source: p.node.Client.Addr, Destination: p.node.Server.Addr, TTL: 63})
			}
		}), []string{"paths/hops-same-node"}, []string{"R[63]"}},
		{"a host-side veth shows what it should not, or nothing", replies("node worker2", func(p *place, r probe.Request, reply *probe.Reply) {
			if reply.Capture == nil || r.Capture.Interface != p.w.places["pod server-worker2"].veth || len(r.Capture.Also) == 0 {
				return
			}
			for i, packet := range reply.Capture.Packets {
				if packet.Source == p.w.env.Nodes[0].Client.Addr || packet.Destination == p.w.env.Nodes[0].Client.Addr {
					reply.Capture.Packets[i].TTL = 61
				}
			}
		}), []string{"paths/hops-across-nodes"}, []string{"[61]"}},
		{"the nodes' stacks carry what they should not", func(w *world) {
			w.stacks.carries = func(from, _ *place) bool { return w.env.Mode != verify.ModeEBPF || from.name == "pod client-worker" }
		}, []string{"host/conntrack-empty", "host/counters-still", "host/drops-bypassed"}, []string{"lost (not answered)", "1 packets to the server", "the entry"}},
		{"something bypasses the nodes' stacks", func(w *world) {
			w.stacks.carries = func(from, _ *place) bool { return from.name != "pod client-worker" }
		}, []string{"host/conntrack-pods", "host/counters-move", "host/drops-apply"}, []string{"counted 0 packets", "0 packets to the server", "no entry"}},
		{"a rule for masquerading is left in nft alone", prints("node worker", "sh -c", func(p *place, text string) string {
			return text + "### nft list ruleset\nip saddr " + p.node.PodCIDR.String() + " ip daddr != 10.0.0.0/8 masquerade fully-random\n"
		}), []string{"rules/no-masquerade"}, []string{"masquerade fully-random"}},
		{"conntrack forgets what is masqueraded", replies("node worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.Exec != nil && r.Exec.Argv[0] == "conntrack" && strings.HasSuffix(strings.Join(r.Exec.Argv, " "), p.node.Client.Addr.String()) {
				reply.Exec.Stdout = ""
			}
		}), []string{"host/conntrack-outside"}, []string{"no entry"}},
	}
}

// nativeFaults are those of networks without a tunnel.
func nativeFaults() []fault {
	return []fault{
		{"traffic to a node is masqueraded", prints("node worker", "sh -c", func(_ *place, text string) string {
			return strings.ReplaceAll(text, "-d 172.18.0.4/32", "-d 172.18.0.44/32")
		}), []string{"rules/masquerade-chain"}, []string{"-d 172.18.0.44/32 -j RETURN"}},
		{"a node's route leads to the wrong node", prints("node worker", "ip -j -4 route", func(_ *place, text string) string {
			return strings.Replace(text, `"gateway":"172.18.0.4"`, `"gateway":"172.18.0.2"`, 1)
		}), []string{"nodes/routes"}, []string{"via 172.18.0.2"}},
	}
}

// TestControlsMustBeSeen takes away what shows that absence would be noticed.
func TestControlsMustBeSeen(t *testing.T) {
	tests := map[string]struct {
		apply  func(*world)
		group  string
		tunnel string
	}{
		"rules that count nothing":     {func(w *world) { w.stacks.deaf = true }, "host/drops-bypassed", ""},
		"counters that stand still":    {func(w *world) { w.stacks.deaf = true }, "host/counters-still", ""},
		"conntrack that shows nothing": {prints("node *", "conntrack", func(*place, string) string { return "" }), "host/conntrack-empty", ""},
		"captures that see nothing": {replies("node *", func(_ *place, r probe.Request, reply *probe.Reply) {
			if r.Capture != nil && r.Capture.Interface == "eth0" {
				reply.Capture.Packets = nil
			}
		}), "paths/hops-same-node", ""},
		"captures that lose packets":               {replies("node *", loses), "paths/hops-across-nodes", ""},
		"captures of the tunnel that lose packets": {replies("node *", loses), "tunnel/encapsulation", probe.VXLAN},
		"routes of which none leads out": {prints("node worker", "ip -j -4 route", func(_ *place, text string) string {
			return strings.ReplaceAll(text, `"dev":"eth0"`, `"dev":"eth7"`)
		}), "nodes/routes", probe.VXLAN},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, network{verify.ModeEBPF, tt.tunnel})
			tt.apply(w)
			for _, check := range checksOf(w) {
				if check.Name != tt.group {
					continue
				}
				if got := runIn(t, w, check); got.Status != verify.Error {
					t.Errorf("%s: %s, want error; wrong: %v", check.Name, got.Status, got.Wrong)
				}
			}
		})
	}
}

func loses(_ *place, r probe.Request, reply *probe.Reply) {
	if r.Capture != nil {
		reply.Capture.Lost = 1
	}
}

// TestRulesAreRemoved cancels the check while its rules are in place.
func TestRulesAreRemoved(t *testing.T) {
	for _, run := range []string{"host/drops-apply", "host/counters-move"} {
		w := newWorld(t, network{mode: verify.ModeKubeProxy})
		laid := 0
		w.spoil = func(p *place, request probe.Request, reply *probe.Reply) {
			laid = max(laid, len(w.stacks.rules[p.node]))
			if request.UDP != nil {
				reply.Error = "canceled"
			}
		}
		for _, check := range checksOf(w) {
			if check.Name == run {
				runIn(t, w, check)
			}
		}
		if laid == 0 {
			t.Errorf("%s: no rule was ever there", run)
		}
		for node, rules := range w.stacks.rules {
			if len(rules) > 0 {
				t.Errorf("%s: %d rules are left on %s", run, len(rules), node.Name)
			}
		}
	}
}
