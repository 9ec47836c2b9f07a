package checks

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// stacks model what the nodes' own network stacks do and remember.
type stacks struct {
	servers map[netip.AddrPort]*place // that a run has started
	rules   map[*field.Node][]*modelRule
	tracked map[*field.Node][]string // what conntrack prints
	routes  map[netip.Addr]*place

	// carries, if set, tells whether the nodes' stacks carry what goes from one
	// pod to another, whatever the mode.
	carries func(from, to *place) bool
	// deaf rules count and drop nothing.
	deaf bool
}

func newStacks() stacks {
	return stacks{
		servers: map[netip.AddrPort]*place{}, rules: map[*field.Node][]*modelRule{}, tracked: map[*field.Node][]string{}, routes: map[netip.Addr]*place{},
	}
}

// modelRule is a rule that a run has added to a node's iptables.
type modelRule struct {
	field.Hook
	match, comment, target string
	packets                int
}

// matches knows the few matches that checks use.
func (r *modelRule) matches(p probe.Packet) bool {
	words := strings.Fields(r.match)
	for i := 0; i+1 < len(words); i++ {
		value := words[i+1]
		var fits bool
		switch words[i] {
		case "-p":
			fits = value == p.Protocol
		case "-s":
			fits = value == p.Source.String()
		case "-d":
			fits = value == p.Destination.String()
		case "--sport":
			fits = value == fmt.Sprint(p.SourcePort)
		case "--dport":
			fits = value == fmt.Sprint(p.DestinationPort)
		case "--icmp-type":
			fits = value == fmt.Sprint(p.ICMPType)
		case "--string":
			fits = strings.Contains(p.Payload, value)
		default:
			continue
		}
		if !fits {
			return false
		}
	}
	return true
}

// serving is a server that a run has started.
type serving struct{ address netip.AddrPort }

func (s serving) Ready() probe.Reply {
	return probe.Reply{Ready: true, Serve: &probe.ServeResult{Address: s.address}}
}
func (s serving) Wait(context.Context) (probe.Reply, error) { return s.Ready(), nil }
func (s serving) Stop(context.Context) (probe.Reply, error) { return s.Ready(), nil }

// startServer gives each server a port of its own.
func (p *place) startServer() field.Running {
	s := serving{netip.AddrPortFrom(p.addr, uint16(20000+len(p.w.stacks.servers)))}
	p.w.stacks.servers[s.address] = p
	return s
}

// byStack tells whether the nodes' stacks carry packets from one place to another.
func (w *world) byStack(from, to *place) bool {
	switch {
	case from.node == to.node:
		return !from.isPod() || !to.isPod()
	case w.stacks.carries != nil && from.isPod() && to.isPod():
		return w.stacks.carries(from, to)
	case w.tunneled(from, to):
		return false
	default:
		return w.env.Mode != verify.ModeEBPF || from.isNode || to.isNode
	}
}

// forwarded passes a packet through a node's rules and tells whether it comes out.
func (w *world) forwarded(node *field.Node, p probe.Packet) bool {
	for _, at := range []field.Hook{field.RawPrerouting, field.ManglePrerouting, field.MangleForward, field.FilterForward, field.ManglePostrouting} {
		for _, rule := range w.stacks.rules[node] {
			if rule.Hook == at && rule.matches(p) && !w.stacks.deaf {
				rule.packets++
				if rule.target == field.Drop {
					return false
				}
			}
		}
	}
	return true
}

// exchange carries a request and its reply between two places. It returns why
// there is no answer, empty when there is one.
func (w *world) exchange(from, to *place, p probe.Packet) string {
	reply := p
	reply.Source, reply.Destination = p.Destination, p.Source
	reply.SourcePort, reply.DestinationPort = p.DestinationPort, p.SourcePort
	if p.ICMPType == field.ICMPEchoRequest {
		reply.ICMPType = field.ICMPEchoReply
	}
	if !w.travel(from, to, p) || !w.travel(to, from, reply) {
		return "not answered"
	}
	return ""
}

// ask is one TCP or UDP exchange with a server that a run has started; it does
// nothing about other addresses.
func (p *place) ask(protocol string, to netip.AddrPort) (local netip.AddrPort, why string) {
	server := p.w.stacks.servers[to]
	if to == p.w.env.Outside.At() {
		server = p.w.places["outside host"]
	}
	local = netip.AddrPortFrom(p.addr, 50000)
	if server == nil {
		return local, ""
	}
	packet := probe.Packet{Protocol: protocol, Source: p.addr, Destination: to.Addr(), SourcePort: local.Port(), DestinationPort: to.Port()}
	p.w.track(p, server, fmt.Sprintf("%s 17 29 src=%%s dst=%%s sport=%d dport=%d [UNREPLIED]", protocol, local.Port(), to.Port()))
	return local, p.w.exchange(p, server, packet)
}

// track adds what conntrack would print, with the addresses filled in.
func (w *world) track(from, to *place, format string) {
	line := fmt.Sprintf(format, from.addr, to.addr)
	switch {
	case to.node == nil && (from.isNode || w.env.Mode != verify.ModeEBPF):
		w.stacks.tracked[from.node] = append(w.stacks.tracked[from.node], line)
	case from.isPod() && to.isPod() && from.node != to.node && w.byStack(from, to) && w.env.Mode != verify.ModeKubeProxyReplacement:
		for _, node := range []*field.Node{from.node, to.node} {
			w.stacks.tracked[node] = append(w.stacks.tracked[node], line)
		}
	}
}

// sendControl forwards a packet that the outside host has a route for.
func (p *place) sendControl(packet probe.Packet) bool {
	through := p.w.stacks.routes[packet.Destination]
	if p.node != nil || through == nil {
		return false
	}
	p.w.forwarded(through.node, packet)
	return true
}

var (
	changedRule = regexp.MustCompile(`^-([ID]) (\S+) (.*) -m comment --comment "([^"]*)"(?: -j (\S+))?$`)
	addedRoute  = regexp.MustCompile(`^ip route (replace|del) (\S+)/32 via (\S+)$`)
	removedTag  = regexp.MustCompile(`/"([^/]*) /s/`)
)

// runScript runs the scripts that add and remove rules and routes.
func (p *place) runScript(script string) (string, bool) {
	table := ""
	switch {
	case strings.HasPrefix(script, "iptables-restore"):
		for line := range strings.Lines(script) {
			line = strings.TrimSpace(line)
			if name, ok := strings.CutPrefix(line, "*"); ok {
				table = name
			}
			m := changedRule.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			hook := field.Hook(table + " " + m[2])
			if m[1] == "I" {
				p.w.stacks.rules[p.node] = append(p.w.stacks.rules[p.node], &modelRule{Hook: hook, match: m[3], comment: m[4], target: m[5]})
				continue
			}
			p.w.stacks.rules[p.node] = slices.DeleteFunc(p.w.stacks.rules[p.node], func(r *modelRule) bool {
				return r.Hook == hook && r.match == m[3] && r.comment == m[4] && r.target == m[5]
			})
		}
	case strings.Contains(script, "found=$("):
		tag := removedTag.FindStringSubmatch(script)[1]
		p.w.stacks.rules[p.node] = slices.DeleteFunc(p.w.stacks.rules[p.node], func(r *modelRule) bool { return strings.HasPrefix(r.comment, tag) })
	case strings.HasPrefix(script, "set -e\nip route"):
		for line := range strings.Lines(script) {
			if m := addedRoute.FindStringSubmatch(strings.TrimSpace(line)); m != nil && m[1] == "replace" {
				p.w.stacks.routes[netip.MustParseAddr(m[2])] = p.w.at(netip.MustParseAddr(m[3]))
			} else if m != nil {
				delete(p.w.stacks.routes, netip.MustParseAddr(m[2]))
			}
		}
	default:
		return "", false
	}
	return "", true
}

// countsText is what iptables-save -c prints.
func (p *place) countsText() string {
	var b strings.Builder
	for _, table := range []string{"raw", "mangle", "filter"} {
		fmt.Fprintf(&b, "*%s\n:PREROUTING ACCEPT [7:900]\n[3:180] -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n", table)
		for _, r := range p.w.stacks.rules[p.node] {
			if r.Table() == table {
				fmt.Fprintf(&b, "[%d:%d] -A %s %s -m comment --comment %q\n", r.packets, 60*r.packets, r.Chain(), r.match, r.comment)
			}
		}
		fmt.Fprintln(&b, "COMMIT")
	}
	return b.String()
}
