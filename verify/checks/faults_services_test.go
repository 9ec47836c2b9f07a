package checks

import (
	"net/netip"
	"strings"

	"wirelab.dev/wirelab/verify/probe"
)

// serviceFaults are those of Services' policies, of who serves them, and of the
// maps they are served from.
func serviceFaults() []fault {
	elsewhere := netip.MustParseAddr("192.0.2.1")
	return []fault{
		{"packets to a ClusterIP are answered from the backend's address", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "pod client-worker eth0" && p.DestinationPort == packetPort && p.Direction == probe.In {
					p.Source = elsewhere
				}
			}
		}, []string{"services/clusterip-by-packets"}, []string{"0 answers"}},
		{"a client changes its backend", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.HTTP != nil && strings.Contains(r.HTTP.URL, p.w.env.Sticky.At().String()) {
				reply.HTTP.AnsweredBy["another"]++
			}
		}), []string{"services/affinity"}, []string{"another:1"}},
		{"a local nodePort hides its clients", replies("outside host", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.UDP != nil && r.UDP.Address.Port() == p.w.env.Local.NodePortUDP && reply.UDP != nil {
				reply.UDP.Identity.Client = netip.AddrPortFrom(elsewhere, 1)
			}
		}), []string{"services/local-external"}, []string{"saw client 192.0.2.1"}},
		{"a node without local backend passes a local nodePort on", replies("outside host", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.UDP != nil && r.UDP.Address.Port() == p.w.env.Local.NodePortUDP && reply.UDP == nil {
				*reply = probe.Reply{UDP: &probe.UDPResult{Identity: &probe.Identity{Pod: "somebody"}}}
			}
		}), []string{"services/local-external"}, []string{"answered by somebody"}},
		{"a local ClusterIP leads to another node", replies("pod server-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.HTTP != nil && strings.Contains(r.HTTP.URL, p.w.env.Local.At().String()) {
				*reply = probe.Reply{HTTP: &probe.HTTPResult{Identity: &probe.Identity{Pod: "somebody"}}}
			}
		}), []string{"services/local-internal"}, []string{"answered by somebody"}},
		{"a local ClusterIP answers nobody", replies("pod server-worker2", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.HTTP != nil && strings.Contains(r.HTTP.URL, p.w.env.Local.At().String()) {
				*reply = probe.Reply{Failure: "no answer within 3s"}
			}
		}), []string{"services/local-internal"}, []string{"no answer within 3s"}},
		{"every node claims a local backend", replies("outside host", func(_ *place, _ probe.Request, reply *probe.Reply) {
			if reply.HTTP != nil && reply.HTTP.Status == 503 {
				reply.HTTP.Status = 200
			}
		}), []string{"services/health-port"}, []string{"status 200"}},
		{"nobody answers at the health port", replies("outside host", func(_ *place, _ probe.Request, reply *probe.Reply) {
			if reply.HTTP != nil && reply.HTTP.Status != 0 {
				*reply = probe.Reply{Failure: "connection refused"}
			}
		}), []string{"services/health-port"}, []string{"connection refused"}},
		{"a Service without endpoints lets pods wait", replies("pod client-worker", func(_ *place, _ probe.Request, reply *probe.Reply) {
			if strings.Contains(reply.Failure, "refused") {
				reply.Failure = "no answer within 3s"
			}
		}), []string{"services/no-endpoints"}, []string{"no answer within 3s"}},
		{"a Service without endpoints refuses late", replies("outside host", func(_ *place, _ probe.Request, reply *probe.Reply) {
			if strings.Contains(reply.Failure, "refused") {
				reply.Elapsed = askTimeoutLate
			}
		}), []string{"services/no-endpoints"}, []string{"refused after 1.2s"}},
		{"a Service without endpoints has one", replies("node worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.UDP != nil && r.UDP.Address == p.w.env.Empty.At() {
				*reply = probe.Reply{UDP: &probe.UDPResult{Identity: &probe.Identity{Pod: "somebody"}}}
			}
		}), []string{"services/no-endpoints"}, []string{"answered by somebody"}},
		{"kube-proxy has stopped on a node", prints("node worker", "sh -c", func(_ *place, text string) string {
			return strings.ReplaceAll(text, "kube-proxy\n", "")
		}), []string{"rules/kube-proxy"}, []string{"its processes []"}},
		{"kube-proxy runs on a node", prints("node worker", "sh -c", func(p *place, text string) string {
			return strings.Replace(text, "nettool\n", "nettool\nkube-proxy\n", 1)
		}), []string{"rules/no-kube-proxy"}, []string{"its processes [kube-proxy]"}},
		{"a chain of kube-proxy's is left on a node", prints("node worker", "sh -c", func(p *place, text string) string {
			return text + ":KUBE-SVC-AAAA - [0:0]\n"
		}), []string{"rules/no-service"}, []string{"KUBE-SVC-AAAA"}},
		{"a rule speaks of a nodePort", prints("node worker", "sh -c", func(p *place, text string) string {
			return text + "-A PREROUTING -p tcp -m tcp --dport 32000 -j ACCEPT\n"
		}), []string{"rules/no-service"}, []string{"--dport 32000"}},
		{"another tool knows a rule of the run's own Service", prints("node worker", "sh -c", func(p *place, text string) string {
			return text + "### iptables-legacy-save\n-A PREROUTING -d " + p.w.env.Every.Addr.String() + "/32 -j ACCEPT\n"
		}), []string{"rules/no-service"}, []string{"-d 10.96.0.100/32"}},
		{"a node's maps lack a frontend", replies("node worker", func(_ *place, _ probe.Request, reply *probe.Reply) {
			editMaps(reply, `"port":31000`, `"port":30999`)
		}), []string{"maps/services"}, []string{"4 other frontends"}},
		{"a node's maps have a stale backend", replies("node worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.BPFMap == nil || strings.HasSuffix(r.BPFMap.Path, "/lab_ipcache") {
				return
			}
			editMaps(reply, addrInMap(p.w.env.Nodes[2].Server.Addr)["b"].(string), addrInMap(elsewhere)["b"].(string))
		}), []string{"maps/services"}, []string{"192.0.2.1:80"}},
		{"maps do not follow", func(w *world) { w.immortal = true }, []string{"maps/follow"}, []string{"still have it"}},
	}
}

// editMaps replaces text in a reply's map entries.
func editMaps(reply *probe.Reply, was, is string) {
	if reply.BPFMap == nil {
		return
	}
	for i, e := range reply.BPFMap.Entries {
		reply.BPFMap.Entries[i].Key = []byte(strings.ReplaceAll(string(e.Key), was, is))
		reply.BPFMap.Entries[i].Value = []byte(strings.ReplaceAll(string(e.Value), was, is))
	}
}

// askTimeoutLate is later than at once.
const askTimeoutLate = probe.Duration(2 * atOnce)
