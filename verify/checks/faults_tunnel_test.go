package checks

import (
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify/probe"
)

// tunnelFaults are those of the tunnel between nodes.
func tunnelFaults() []fault {
	return []fault{
		{"a row of the tunnel leads to a wrong node", holders(`"flags":0,"identity":0,"node":{"b":"00000000000000000000ffffac120004"}`, `"flags":0,"identity":0,"node":{"b":"00000000000000000000ffffac120002"}`),
			[]string{"tunnel/map"}, []string{"a way to 172.18.0.2"}},
		{"a pod's address leads to a wrong node", holders(`"identity":301,"node":{"b":"00000000000000000000ffffac120004"}`, `"identity":301,"node":{"b":"00000000000000000000ffffac120002"}`),
			[]string{"tunnel/map"}, []string{"a way to 172.18.0.2"}},
		{"a node's own pod is looked for at another node", holders(`"identity":301,"node":{"b":"00000000000000000000000000000000"}`, `"identity":301,"node":{"b":"00000000000000000000ffffac120002"}`),
			[]string{"tunnel/map"}, []string{"it leads to 172.18.0.2"}},
		{"a row of the tunnel is not there", replies("node worker", func(_ *place, _ probe.Request, reply *probe.Reply) {
			if reply.BPFMap != nil {
				reply.BPFMap.Entries = slices.DeleteFunc(reply.BPFMap.Entries, func(e probe.BPFEntry) bool {
					return strings.Contains(string(e.Key), `"b":"00000000000000000000ffff0af40200"`)
				})
			}
		}), []string{"tunnel/map"}, []string{"it is not in the map"}},
		{"traffic to a node goes past the tunnel as a pod's", prints("node worker", "sh -c", func(_ *place, text string) string {
			return strings.Replace(text, "-A LAB-MASQUERADE -s", "-A LAB-MASQUERADE -d 172.18.0.4/32 -j RETURN\n-A LAB-MASQUERADE -s", 1)
		}), []string{"rules/masquerade-chain"}, []string{"-d 172.18.0.4/32 -j RETURN"}},
		{"the tunnel says somebody else's identity", onWire(func(o *probe.Outer) { o.Network = 302 }), []string{"tunnel/encapsulation"}, []string{"network 302"}},
		{"the tunnel's datagrams have a checksum", onWire(func(o *probe.Outer) { o.Checksum = 0xabcd }), []string{"tunnel/encapsulation"}, []string{"checksum 0xabcd"}},
		{"the tunnel's datagrams come from a stranger", onWire(func(o *probe.Outer) { o.Source = o.Source.Next() }), []string{"tunnel/encapsulation"}, []string{"from 172.18.0.4 to"}},
		{"the tunnel's headers are longer", onWire(func(o *probe.Outer) { o.Length += 8 }), []string{"tunnel/encapsulation"}, []string{"58 bytes longer"}},
		{"a flow has several ports in the tunnel", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "node worker eth0" && p.Outer != nil && p.Protocol == "tcp" {
					twin, outer := *p, *p.Outer
					outer.SourcePort++
					twin.Outer = &outer
					for _, c := range w.captures {
						if c.at == w.places["node worker"] && c.spec.Interface == "eth0" && c.spec.Picks(twin) {
							c.packets = append(c.packets, twin)
						}
					}
				}
			}
		}, []string{"tunnel/encapsulation"}, []string{"the source ports [50000 50001]"}},
		{"packets between nodes are in no tunnel", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "node worker eth0" && p.Outer != nil && p.Protocol == "icmp" {
					p.SourceMAC, p.DestMAC, p.Outer = p.Outer.SourceMAC, p.Outer.DestMAC, nil
				}
			}
		}, []string{"paths/hops-across-nodes", "tunnel/encapsulation"}, []string{"R[64]", "as it is"}},
		{"a third node sees packets of the tunnel", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "node worker eth0" && p.Outer != nil && p.Protocol == "udp" && p.Direction == probe.Out {
					for _, c := range w.captures {
						if c.at != w.places["node worker"] && c.at != w.at(p.Outer.Destination) && c.spec.Interface == "eth0" && c.spec.Picks(*p) {
							c.packets = append(c.packets, *p)
						}
					}
				}
			}
		}, []string{"tunnel/encapsulation"}, []string{"1 of them"}},
		{"frames in the tunnel are not those that went into it", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "node worker eth0" && p.Outer != nil && p.Protocol == "udp" {
					p.Length, p.Outer.Length = p.Length+4, p.Outer.Length+4
				}
			}
		}, []string{"tunnel/encapsulation"}, []string{"frames of [4] bytes"}},
		{"a pod is not told what fits through the tunnel", replies("pod client-worker2", func(_ *place, _ probe.Request, reply *probe.Reply) {
			if reply.ICMP != nil && reply.ICMP.MTU != 0 {
				reply.ICMP.MTU, reply.Failure = 0, "no answer"
			}
		}), []string{"pods/mtu-across-nodes"}, []string{"no answer"}},
		{"a pod's route does not say what fits through the tunnel", prints("pod client-worker", "ip -j -4 route", func(_ *place, text string) string {
			return strings.Replace(text, "1450", "1500", 1)
		}), []string{"paths/pod-address"}, []string{"mtu 1500"}},
		{"a node's route does not say what fits through the tunnel", prints("node worker", "ip -j -4 route", func(_ *place, text string) string {
			return strings.Replace(text, `"metrics":[{"mtu":1450}]`, `"metrics":[]`, 1)
		}), []string{"nodes/routes"}, []string{"dev lab_host"}},
		{"a node has a route to another node's pod", prints("node worker", "ip -j -4 route", func(_ *place, text string) string {
			return strings.TrimSuffix(text, "]") + `,{"dst":"10.244.2.11","gateway":"172.18.0.4","dev":"eth0"}]`
		}), []string{"nodes/routes"}, []string{"10.244.2.11 via 172.18.0.4"}},
	}
}

// holders edits what a node's map says of addresses.
func holders(was, is string) func(*world) {
	return replies("node worker", func(_ *place, r probe.Request, reply *probe.Reply) {
		if r.BPFMap != nil && strings.HasSuffix(r.BPFMap.Path, "/lab_ipcache") {
			editMaps(reply, was, is)
		}
	})
}

// onWire edits the tunnel's datagrams that leave a node, at its NIC.
func onWire(edit func(*probe.Outer)) func(*world) {
	return func(w *world) {
		w.hop = func(at string, p *probe.Packet) {
			if at == "node worker eth0" && p.Outer != nil && p.Direction == probe.Out {
				edit(p.Outer)
			}
		}
	}
}
