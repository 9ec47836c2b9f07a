package checks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// watch is a capture of the model.
type watch struct {
	at      *place
	spec    probe.Capture
	packets []probe.Packet
}

// Start implements [Prober] for captures and servers.
func (p *place) Start(_ context.Context, request probe.Request) (field.Running, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if request.Serve != nil {
		return p.startServer(), nil
	}
	if request.Capture == nil {
		return nil, errors.New("the model starts captures and servers only")
	}
	started := &watch{at: p, spec: *request.Capture}
	p.w.captures = append(p.w.captures, started)
	return started, nil
}

func (c *watch) Ready() probe.Reply { return probe.Reply{Ready: true} }

func (c *watch) Stop(ctx context.Context) (probe.Reply, error) { return c.end(false), nil }

func (c *watch) Wait(ctx context.Context) (probe.Reply, error) { return c.end(true), nil }

// end fails a capture that waited for a packet which did not come.
func (c *watch) end(waited bool) probe.Reply {
	c.at.w.mu.Lock()
	defer c.at.w.mu.Unlock()
	reply := probe.Reply{Capture: &probe.CaptureResult{Packets: c.packets}}
	if waited && c.spec.Until != nil && (len(c.packets) == 0 || !c.spec.Until.Match(c.packets[len(c.packets)-1])) {
		reply.Failure = "no answer within the time"
	}
	if c.at.w.spoil != nil {
		c.at.w.spoil(c.at, probe.Request{Capture: &c.spec}, &reply)
	}
	return reply
}

// pass shows a packet to every capture at a device.
func (w *world) pass(at *place, device string, p probe.Packet) {
	if at == nil {
		return
	}
	if w.hop != nil {
		w.hop(at.name+" "+device, &p)
	}
	if p.TTL == 0 {
		return // the test took it away
	}
	for _, c := range w.captures {
		if c.at == at && c.spec.Interface == device && c.spec.Picks(p) {
			c.packets = append(c.packets, p)
		}
	}
}

// travel shows a packet at each device on its way with the TTL it has there.
// It returns whether the packet arrives.
func (w *world) travel(from, to *place, p probe.Packet) bool {
	node := func(at *place) *place {
		if at.node == nil {
			return nil
		}
		return w.places[at.node.Name]
	}
	nic := func(at *place) string {
		if n := node(at); n != nil {
			return n.eth0
		}
		return at.eth0
	}
	p.TTL = 64
	if from.isPod() {
		w.pass(from, "eth0", moving(p, probe.Out, from.eth0, from.mac))
		w.pass(node(from), from.veth, moving(p, probe.In, from.eth0, from.mac))
		p.TTL--
	}
	if from.node != to.node {
		byStack := w.byStack(from, to)
		if byStack && from.isPod() && !w.forwarded(from.node, p) {
			return false
		}
		out, in := moving(p, probe.Out, nic(from), nic(to)), moving(p, probe.In, nic(from), nic(to))
		if w.tunneled(from, to) {
			p.TTL = 64 // the tunnel is no hop
			w.pass(node(from), w.env.Tunnel.Device, moving(p, probe.Out, "", ""))
			w.pass(node(to), w.env.Tunnel.Device, moving(p, probe.In, "", ""))
			out, in = w.wrapped(from, to, out), w.wrapped(from, to, in)
		}
		w.pass(node(from), "eth0", out)
		w.pass(node(to), "eth0", in)
		if byStack && to.isPod() && !w.forwarded(to.node, p) {
			return false
		}
		if to.isPod() {
			p.TTL--
		}
	}
	if to.isPod() && (w.env.Mode != verify.ModeEBPF || !from.isPod()) {
		w.pass(node(to), to.veth, moving(p, probe.Out, to.mac, to.eth0))
	}
	w.pass(to, "eth0", moving(p, probe.In, to.mac, to.eth0))
	return true
}

// tunneled tells whether packets between two places go through the tunnel.
func (w *world) tunneled(from, to *place) bool {
	return w.env.Tunnel != nil && from.node != nil && to.node != nil && from.node != to.node && (from.isPod() || to.isPod())
}

// wrapped is a packet as NICs show it in one of the tunnel's.
func (w *world) wrapped(from, to *place, p probe.Packet) probe.Packet {
	outer := probe.Packet{
		Direction: p.Direction, Protocol: "udp", SourceMAC: p.SourceMAC, DestMAC: p.DestMAC, Source: from.node.Addr, Destination: to.node.Addr,
		SourcePort: 50000, DestinationPort: w.env.Tunnel.Port, TTL: 64, Length: p.Length + field.TunnelOverhead,
	}
	p.SourceMAC, p.DestMAC, p.TTL = "", "", 64
	p.Outer = &probe.Outer{Packet: outer, Network: identityOf(from)}
	return p
}

func moving(p probe.Packet, d probe.Direction, source, dest string) probe.Packet {
	p.Direction, p.SourceMAC, p.DestMAC = d, source, dest
	return p
}

func (p *place) answerICMP(spec *probe.ICMP) probe.Reply {
	to := p.w.at(spec.Address)
	if to == nil {
		return probe.Reply{Failure: "nobody answers"}
	}
	if fits := 1500 - field.TunnelOverhead; spec.DF && spec.Size+headers > fits && p.w.tunneled(p, to) {
		return probe.Reply{Failure: "more than the MTU", ICMP: &probe.ICMPResult{MTU: fits}}
	}
	if spec.DF && spec.Size+headers > 1500 {
		return probe.Reply{Failure: "does not fit"}
	}
	source := p.addr
	if p.isPod() && to.node == nil && spec.Address == to.addr {
		source = p.node.Addr
	}
	packet := probe.Packet{Protocol: "icmp", Source: source, Destination: spec.Address, ICMPType: field.ICMPEchoRequest, Payload: spec.Marker}
	if why := p.w.exchange(p, to, packet); why != "" {
		return probe.Reply{Failure: why}
	}
	n := max(spec.Count, 1)
	return probe.Reply{ICMP: &probe.ICMPResult{Sent: n, Received: n, From: spec.Address, TTL: 64}}
}

// send drops what is forged after the host-side veth has seen it.
func (p *place) send(spec *probe.Send) {
	packet := probe.Packet{Protocol: spec.Protocol, Source: spec.Source, Destination: spec.Destination, Payload: spec.Payload, TTL: 64}
	if service, _ := p.w.serviceAt(netip.AddrPortFrom(spec.Destination, spec.DestinationPort), true); service != nil {
		p.w.pass(p, "eth0", moving(probe.Packet{
			Protocol: "udp", Source: spec.Destination, SourcePort: spec.DestinationPort, Destination: p.addr, DestinationPort: spec.SourcePort, TTL: 62,
		}, probe.In, p.mac, p.eth0))
		return
	}
	packet.SourcePort, packet.DestinationPort = spec.SourcePort, spec.DestinationPort
	if p.sendControl(packet) {
		return
	}
	to := p.w.at(spec.Destination)
	if spec.Protocol == "icmp" {
		p.w.track(p, to, fmt.Sprintf("icmp 1 29 src=%%s dst=%%s type=8 code=0 id=%d src=", spec.SourcePort))
	}
	if spec.Source == p.addr || p.w.forward {
		p.w.travel(p, to, packet)
		return
	}
	p.w.pass(p.w.places[p.node.Name], p.veth, moving(packet, probe.In, p.eth0, p.mac))
}

// run prints what the commands that checks use would.
func (p *place) run(argv []string) string {
	switch command := strings.Join(argv, " "); {
	case strings.HasPrefix(command, "ip -j -d addr"):
		return p.addrJSON()
	case strings.HasPrefix(command, "ip -j -4 route"):
		return p.routeJSON()
	case command == "cat /etc/resolv.conf":
		return "search x\nnameserver 10.96.0.10\noptions ndots:5\n"
	case argv[0] == "sh" && argv[2] == processScript:
		return p.processes()
	case argv[0] == "sh" && argv[2] == field.DumpScript:
		return p.rulesText()
	case slices.Equal(argv, field.CountsCommand):
		return p.countsText()
	case argv[0] == "conntrack":
		return strings.Join(p.w.stacks.tracked[p.node], "\n")
	case argv[0] == "sh":
		if text, known := p.runScript(argv[2]); known {
			return text
		}
	}
	return "the model cannot run " + strings.Join(argv, " ")
}

func deviceJSON(index, peer int, name, mac string, addresses ...netip.Prefix) map[string]any {
	info := []map[string]any{}
	for _, a := range addresses {
		info = append(info, map[string]any{"family": "inet", "local": a.Addr().String(), "prefixlen": a.Bits()})
	}
	return map[string]any{"ifindex": index, "link_index": peer, "ifname": name, "mtu": 1500, "address": mac, "addr_info": info}
}

func (p *place) addrJSON() string {
	all := []map[string]any{deviceJSON(1, 0, "lo", "00:00:00:00:00:00")}
	switch {
	case p.isPod():
		all = append(all, deviceJSON(2, p.index, "eth0", p.eth0, netip.PrefixFrom(p.addr, 32)))
	default:
		all = append(all, deviceJSON(2, 99, "eth0", p.eth0, netip.PrefixFrom(p.addr, 16)))
	}
	if p.isNode {
		all = append(all, deviceJSON(3, 4, field.RouterDevice, "02:00:00:00:00:01", netip.PrefixFrom(p.router(), 32)))
		for _, pod := range p.w.places {
			if pod.isPod() && pod.node == p.node {
				all = append(all, deviceJSON(pod.index, 2, pod.veth, pod.mac))
			}
		}
	}
	return toJSON(all)
}

func (p *place) routeJSON() string {
	if p.isPod() {
		return toJSON([]map[string]any{
			p.w.through(map[string]any{"dst": "default", "gateway": p.router(), "dev": "eth0"}),
			{"dst": p.router(), "dev": "eth0", "scope": "link"},
		})
	}
	all := []map[string]any{{"dst": "172.18.0.0/16", "dev": "eth0", "scope": "link", "prefsrc": p.addr}}
	for _, n := range p.w.env.Nodes {
		if n == p.node {
			all = append(all, map[string]any{"dst": n.PodCIDR, "gateway": p.router(), "dev": field.RouterDevice})
		} else if p.w.env.Tunnel != nil {
			all = append(all, p.w.through(map[string]any{"dst": n.PodCIDR, "gateway": p.router(), "dev": field.RouterDevice}))
		} else {
			all = append(all, map[string]any{"dst": n.PodCIDR, "gateway": n.Addr, "dev": "eth0"})
		}
	}
	return toJSON(all)
}

// through gives a route the MTU of the tunnel, if there is one.
func (w *world) through(route map[string]any) map[string]any {
	if w.env.Tunnel != nil {
		route["metrics"] = []map[string]int{{"mtu": 1500 - field.TunnelOverhead}}
	}
	return route
}

func (p *place) rulesText() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("### iptables-save\n*nat\n:KUBE-KUBELET-CANARY - [0:0]")
	if p.w.env.Settings["network.bpf.masquerade"] == "true" {
		return b.String()
	}
	line(":LAB-MASQUERADE - [0:0]")
	line(`-A POSTROUTING -m comment --comment "wirelab: pods leave as their node" -j LAB-MASQUERADE`)
	for _, n := range p.w.env.Nodes {
		if p.w.env.Tunnel == nil {
			line("-A LAB-MASQUERADE -d %s/32 -j RETURN", n.Addr)
		}
	}
	line("-A LAB-MASQUERADE -s %s ! -d %s ! -o lab_+ -j MASQUERADE --random-fully", p.node.PodCIDR, p.w.env.NativeCIDR)
	if p.w.env.KubeProxyReplacement() {
		return b.String()
	}
	line(":KUBE-SERVICES - [0:0]")
	line(`-A KUBE-SERVICES -d 10.96.0.200/32 -p tcp -m comment --comment "default/demo cluster IP" -m tcp --dport 8080 -j KUBE-SVC-AAAA`)
	line(`-A KUBE-NODEPORTS -p tcp -m comment --comment "default/demo" -m tcp --dport 32000 -j KUBE-EXT-AAAA`)
	for i, backend := range p.w.env.Every.Backends {
		line("-A KUBE-SEP-%d -p tcp -m tcp -j DNAT --to-destination %s:80", i, backend.Addr)
	}
	return b.String()
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
