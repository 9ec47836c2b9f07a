package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func runIn(t *testing.T, w *world, check verify.Check) verify.Result {
	t.Helper()
	return check.Look(t.Context(), 5*time.Second)
}

// inEachNetwork runs a test in each network as it is to be, with the checks that
// hold there.
func inEachNetwork(t *testing.T, test func(t *testing.T, w *world, checks []verify.Check)) {
	for _, n := range []network{
		{verify.ModeKubeProxy, ""}, {verify.ModeKubeProxyReplacement, ""}, {verify.ModeEBPF, ""},
		{verify.ModeKubeProxy, probe.Geneve}, {verify.ModeEBPF, probe.VXLAN},
	} {
		t.Run(n.String(), func(t *testing.T) {
			w := newWorld(t, n)
			test(t, w, checksOf(w))
		})
	}
}

func checksOf(w *world) []verify.Check {
	return slices.DeleteFunc(All(w.env), func(c verify.Check) bool { return !w.env.Claims(c) })
}

func TestEveryCheckPassesInARightNetwork(t *testing.T) {
	inEachNetwork(t, everyCheckPasses)
}

func everyCheckPasses(t *testing.T, w *world, checks []verify.Check) {
	for _, check := range checks {
		if got := runIn(t, w, check); got.Status != verify.Pass {
			t.Errorf("%s: %s %s\nwrong: %v", check.Name, got.Status, got.Error, got.Wrong)
		}
	}
}

func TestNoCheckPassesWhenNothingCanBeSent(t *testing.T) {
	inEachNetwork(t, noCheckPassesUnsent)
}

func noCheckPassesUnsent(t *testing.T, w *world, checks []verify.Check) {
	w.spoil = func(_ *place, _ probe.Request, reply *probe.Reply) { reply.Error = "no such command" }
	for _, check := range checks {
		if got := runIn(t, w, check); got.Status != verify.Error {
			t.Errorf("%s: %s, want error; wrong: %v", check.Name, got.Status, got.Wrong)
		}
	}
}

// TestNoCheckFailsForAPodWithoutAnAddress: who cannot be asked proves no claim false. It is said what is missing.
func TestNoCheckFailsForAPodWithoutAnAddress(t *testing.T) {
	inEachNetwork(t, noCheckFailsForAPodWithoutAnAddress)
}

func noCheckFailsForAPodWithoutAnAddress(t *testing.T, w *world, checks []verify.Check) {
	for _, pod := range []*field.Peer{&w.env.Nodes[1].Server, &w.env.Nodes[1].Client} {
		pod.Addr, pod.Prober = netip.Addr{}, notReady(pod.Name)
	}
	w.env.Headless.Backends[1] = w.env.Nodes[1].Server
	missing := 0
	for _, check := range checks {
		got := runIn(t, w, check)
		if got.Status == verify.Fail {
			t.Errorf("%s: %v, error %s", check.Name, got.Wrong, got.Error)
		}
		if got.Status == verify.Error {
			missing++
		}
	}
	if missing < 5 {
		t.Errorf("%d checks say that they could not look", missing)
	}
}

// notReady is the prober of a pod that has not become ready.
type notReady string

func (n notReady) Probe(context.Context, probe.Request) (probe.Reply, error) {
	return probe.Reply{}, errors.New(string(n) + " is not ready")
}

func (n notReady) Start(context.Context, probe.Request) (field.Running, error) {
	return nil, errors.New(string(n) + " is not ready")
}

func TestNoCheckOfPacketsPassesWhenNothingAnswers(t *testing.T) {
	inEachNetwork(t, noCheckPassesUnanswered)
}

func noCheckPassesUnanswered(t *testing.T, w *world, checks []verify.Check) {
	w.spoil = func(_ *place, request probe.Request, reply *probe.Reply) {
		if request.Exec == nil && request.Capture == nil && request.BPFMap == nil {
			*reply = probe.Reply{Failure: "no answer within 3s"}
		}
	}
	local := []string{"nodes/routes", "nodes/pod-cidrs", "paths/pod-address", "paths/spoofed-source", "rules/*", "maps/services", "identities/*", "tunnel/map"}
	for _, check := range checks {
		isLocal := slices.ContainsFunc(local, func(p string) bool { ok, _ := path.Match(p, check.Name); return ok })
		if got := runIn(t, w, check); !isLocal && got.Status != verify.Fail {
			t.Errorf("%s: %s, want fail; error: %s", check.Name, got.Status, got.Error)
		}
	}
}

// fault spoils one thing; exactly the named checks must fail for it, and each
// of them must have seen one of the things that then are there to be seen.
type fault struct {
	name   string
	apply  func(*world)
	breaks []string
	seen   []string
}

// replies returns a fault's apply that edits replies of one kind at matching places.
func replies(at string, edit func(p *place, request probe.Request, reply *probe.Reply)) func(*world) {
	return func(w *world) {
		w.spoil = func(p *place, request probe.Request, reply *probe.Reply) {
			if ok, _ := path.Match(at, p.name); ok {
				edit(p, request, reply)
			}
		}
	}
}

func prints(at, prefix string, edit func(p *place, text string) string) func(*world) {
	return replies(at, func(p *place, request probe.Request, reply *probe.Reply) {
		if request.Exec != nil && strings.HasPrefix(strings.Join(request.Exec.Argv, " "), prefix) {
			reply.Exec.Stdout = edit(p, reply.Exec.Stdout)
		}
	})
}

func faults() []fault {
	elsewhere := netip.MustParseAddr("192.0.2.1")
	return []fault{
		{"echo requests of one pod are lost", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.ICMP != nil && !r.ICMP.DF && r.ICMP.Marker == "" && p.w.at(r.ICMP.Address).node == p.node && p.w.at(r.ICMP.Address).isPod() {
				reply.Failure = "not answered"
			}
		}), []string{"pods/icmp-same-node"}, []string{"not answered"}},
		{"somebody else answers an echo", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if reply.ICMP != nil && p.w.at(r.ICMP.Address).node != p.node && p.w.at(r.ICMP.Address).isPod() {
				reply.ICMP.From = elsewhere
			}
		}), []string{"pods/icmp-across-nodes"}, []string{"answered by 192.0.2.1"}},
		{"a transfer comes back short", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.TCP != nil && p.w.at(r.TCP.Address.Addr()).node == p.node {
				reply.TCP.Down--
			}
		}), []string{"pods/tcp-same-node"}, []string{"1048575 came down"}},
		{"TCP between pods is masqueraded", replies("pod client-*", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.TCP != nil && p.w.at(r.TCP.Address.Addr()).node != p.node {
				reply.TCP.Identity.Client = netip.AddrPortFrom(p.node.Addr, 1)
			}
		}), []string{"pods/tcp-across-nodes"}, []string{"saw client 172.18.0."}},
		{"another pod answers datagrams", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.UDP != nil && r.UDP.Address == p.node.Server.At() {
				reply.UDP.Identity.Pod = "somebody"
			}
		}), []string{"pods/udp-same-node", "services/headless"}, []string{"answered by somebody"}},
		{"datagrams between nodes are masqueraded", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.UDP != nil && r.UDP.Address.Port() == field.PodPort && p.w.at(r.UDP.Address.Addr()).isPod() && p.w.at(r.UDP.Address.Addr()).node != p.node {
				reply.UDP.Identity.Client = netip.AddrPortFrom(p.node.Addr, 1)
			}
		}), []string{"pods/udp-across-nodes", "services/headless"}, []string{"saw client 172.18.0.3"}},
		{"full packets do not pass between nodes", replies("pod client-worker2", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.ICMP != nil && r.ICMP.DF && p.w.at(r.ICMP.Address).node != p.node {
				*reply = probe.Reply{Failure: "not answered"}
			}
		}), []string{"pods/mtu-across-nodes"}, []string{"not answered"}},
		{"more than the MTU passes on one node", replies("pod *-worker2", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.ICMP != nil && r.ICMP.DF && r.ICMP.Size+headers > 1500 && p.w.at(r.ICMP.Address).node == p.node {
				*reply = probe.Reply{ICMP: &probe.ICMPResult{Sent: 1, Received: 1}}
			}
		}), []string{"pods/mtu-same-node"}, []string{"answered"}},
		{"a pod has a smaller MTU than the NIC", prints("pod *-worker2", "ip -j -d addr", func(_ *place, text string) string {
			return strings.ReplaceAll(text, `"mtu":1500`, `"mtu":1400`)
		}), []string{"pods/mtu-across-nodes", "pods/mtu-same-node"}, []string{"1400"}},
		{"a node sees a pod's packets masqueraded", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if id := answerOf(*reply); id != nil && id.Pod == "control-plane" {
				id.Client = netip.AddrPortFrom(p.node.Addr, 1)
			}
		}), []string{"pods/to-nodes"}, []string{"saw client 172.18.0.3"}},
		{"a node's packets reach a pod from a strange address", replies("node worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.UDP != nil && r.UDP.Address == p.node.Server.At() {
				reply.UDP.Identity.Client = netip.AddrPortFrom(elsewhere, 1)
			}
		}), []string{"nodes/to-pods"}, []string{"saw client 192.0.2.1"}},
		{"a ClusterIP does not answer one pod", clusterIPFault("pod client-worker", func(reply *probe.Reply) { reply.Failure = "not answered" }),
			[]string{"services/clusterip-from-pods", "services/every-backend"}, []string{"not answered"}},
		{"a ClusterIP does not answer one node", clusterIPFault("node worker", func(reply *probe.Reply) { reply.Failure = "not answered" }),
			[]string{"services/clusterip-from-nodes"}, []string{"not answered"}},
		{"one backend never gets a request", replies("pod client-*", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.HTTP != nil && r.HTTP.Count > 1 && strings.Contains(r.HTTP.URL, p.w.env.Every.At().String()) {
				delete(reply.HTTP.AnsweredBy, field.PodName(field.RoleServer, "worker"))
			}
		}), []string{"services/every-backend"}, []string{"answered 0 times"}},
		{"a node without local backend does not pass nodePorts on, to pods", nodePortFault("pod *", "172.18.0.2:31002"), []string{"services/nodeport-from-pods"}, []string{"not answered"}},
		{"the same to nodes", nodePortFault("node *", "172.18.0.2:31003"), []string{"services/nodeport-from-nodes"}, []string{"not answered"}},
		{"the same to the outside", nodePortFault("outside host", "172.18.0.2:31002"), []string{"services/nodeport-from-outside"}, []string{"not answered"}},
		{"a backend sees a translated address that is not the node's", replies("outside host", func(_ *place, r probe.Request, reply *probe.Reply) {
			if id := answerOf(*reply); id != nil && r.UDP != nil && r.UDP.Address.Port() == 31001 {
				id.Client = netip.AddrPortFrom(elsewhere, 1)
			}
		}), []string{"services/nodeport-from-outside"}, []string{"saw client 192.0.2.1"}},
		{"a pod does not reach itself", replies("pod client-worker2", func(p *place, r probe.Request, reply *probe.Reply) {
			if id := answerOf(*reply); id != nil && id.Pod == field.PodName(field.RoleClient, "worker2") && strings.Contains(fmt.Sprint(r.HTTP, r.UDP), "10.96.0.101") {
				reply.Failure = "not answered"
			}
		}), []string{"services/hairpin"}, []string{"not answered"}},
		{"a headless name gives a stale address too", replies("pod client-*", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.DNS != nil && strings.HasPrefix(r.DNS.Name, field.HeadlessService+".") {
				reply.DNS.Addresses = append(reply.DNS.Addresses, elsewhere)
			}
		}), []string{"services/headless"}, []string{"192.0.2.1"}},
		{"a hostPort hides its clients", replies("outside host", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.HTTP != nil && strings.HasSuffix(r.HTTP.URL, ":28080/") {
				reply.HTTP.Identity.Client = netip.AddrPortFrom(p.w.env.Nodes[2].Addr, 1)
			}
		}), []string{"services/hostport"}, []string{"saw client 172.18.0.4"}},
		{"DNS gives a wrong address over TCP", replies("pod client-*", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.DNS != nil && r.DNS.TCP {
				reply.DNS.Addresses = []netip.Addr{elsewhere}
			}
		}), []string{"dns/service"}, []string{"192.0.2.1"}},
		{"pods leave with their own address", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.UDP != nil && r.UDP.Address.Addr() == p.w.env.Outside.Addr {
				reply.UDP.Identity.Client = netip.AddrPortFrom(p.addr, 1)
			}
		}), []string{"outside/masquerade"}, []string{"saw client 10.244.1.10"}},
		{"echo requests leave with the pod's own address", replies("outside host", func(p *place, r probe.Request, reply *probe.Reply) {
			for i, packet := range captured(reply) {
				if packet.Destination == p.addr {
					reply.Capture.Packets[i].Source = elsewhere
				}
			}
		}), []string{"outside/masquerade"}, []string{"a request from 192.0.2.1 arrived"}},
		{"the native-routing CIDR is masqueraded", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.HTTP != nil && strings.Contains(r.HTTP.URL, p.w.env.Native.String()) {
				reply.HTTP.Identity.Client = netip.AddrPortFrom(p.node.Addr, 1)
			}
		}), []string{"outside/native-cidr"}, []string{"saw client 172.18.0.3"}},
		{"one packet skips a hop", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "pod server-worker2 eth0" && p.ICMPType == field.ICMPEchoRequest && p.Source == w.env.Nodes[2].Client.Addr {
					p.TTL = 64
				}
			}
		}, []string{"paths/hops-same-node"}, []string{"R[64] P[64]"}},
		{"a reply takes another way than by the NIC", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "node worker eth0" && p.Protocol == "icmp" && p.ICMPType == field.ICMPEchoReply && p.Source == w.env.Nodes[1].Server.Addr {
					p.TTL = 0
				}
			}
		}, []string{"paths/hops-across-nodes", "tunnel/encapsulation"}, []string{"R[63]", "R[64 in ", "nothing of it"}},
		{"frames come from the router's MAC", func(w *world) {
			w.hop = func(at string, p *probe.Packet) {
				if at == "pod client-worker eth0" && p.Direction == probe.In {
					p.SourceMAC = "02:00:00:00:00:01"
				}
			}
		}, []string{"paths/frame-source", "paths/hops-across-nodes", "paths/hops-same-node"}, []string{"a frame from 02:00:00:00:00:01"}},
		{"a neighbour answers for itself", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.ARP != nil && r.ARP.Address == p.node.Server.Addr {
				reply.ARP.MAC = p.w.places[p.node.Server.Name].eth0
			}
		}), []string{"paths/arp"}, []string{"0e:00:00:00:01:01 answers"}},
		{"a pod's own address is answered", replies("pod client-worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.ARP != nil && r.ARP.Address == p.addr {
				*reply = probe.Reply{ARP: &probe.ARPResult{MAC: p.mac, FrameMAC: p.mac}}
			}
		}), []string{"paths/arp"}, []string{"0a:00:00:00:01:00 answers"}},
		{"forged packets pass", func(w *world) { w.forward = true }, []string{"paths/spoofed-source"}, []string{"it left the pod, and arrived"}},
		{"forged packets never leave the pod", replies("node *", func(_ *place, _ probe.Request, reply *probe.Reply) {
			if reply.Capture != nil {
				reply.Capture.Packets = slices.DeleteFunc(reply.Capture.Packets, func(p probe.Packet) bool { return strings.Contains(p.Payload, " forged") })
			}
		}), []string{"paths/spoofed-source"}, []string{"never seen at the host-side veth"}},
		{"a pod's own packets do not arrive", replies("pod server-*", func(_ *place, r probe.Request, reply *probe.Reply) {
			if r.Capture != nil && r.Capture.Until != nil {
				*reply = probe.Reply{Failure: "no answer within 4s", Capture: &probe.CaptureResult{}}
			}
		}), []string{"paths/spoofed-source"}, []string{"it did not arrive: no answer"}},
		{"a pod has a /24", prints("pod client-worker", "ip -j -d addr", func(_ *place, text string) string {
			return strings.ReplaceAll(text, `"prefixlen":32`, `"prefixlen":24`)
		}), []string{"paths/pod-address"}, []string{"/24"}},
		{"a pod has a third route", prints("pod client-worker", "ip -j -4 route", func(_ *place, text string) string {
			return strings.TrimSuffix(text, "]") + `,{"dst":"10.244.9.0/24","dev":"eth0","scope":"link"}]`
		}), []string{"paths/pod-address"}, []string{"3: ["}},
		{"a pod's gateway is somebody else", prints("pod client-worker", "ip -j -4 route", func(p *place, text string) string {
			return strings.Replace(text, p.router().String(), "10.244.1.7", 1)
		}), []string{"paths/pod-address"}, []string{"via 10.244.1.7"}},
		{"a node lacks a route", prints("node worker", "ip -j -4 route", func(_ *place, text string) string {
			return strings.Replace(text, "10.244.2.0/24", "10.244.77.0/24", 1)
		}), []string{"nodes/routes"}, []string{"none"}},
		{"the demo's rules lack a backend", prints("node worker", "sh -c", func(p *place, text string) string {
			return strings.Replace(text, "--to-destination 10.244.1.11:80", "--to-destination 10.244.1.111:80", 1)
		}), []string{"rules/service-in-iptables"}, []string{"2 of 3 backends"}},
		{"the demo's rules lack its nodePort", prints("node worker", "sh -c", func(_ *place, text string) string {
			return strings.ReplaceAll(text, "--dport 32000", "--dport 32001")
		}), []string{"rules/service-in-iptables"}, []string{"0 of its nodePorts"}},
		{"the masquerade chain is gone", prints("node worker", "sh -c", func(_ *place, text string) string {
			return strings.ReplaceAll(text, field.MasqueradeChain, "LAB-OTHER")
		}), []string{"rules/masquerade-chain"}, []string{"no such chain"}},
		{"nothing leads to the masquerade chain", prints("node worker", "sh -c", func(_ *place, text string) string {
			if !strings.Contains(text, "LAB-MASQUERADE") {
				return text
			}
			return strings.ReplaceAll(text, "-A POSTROUTING", "-A PREROUTING")
		}), []string{"rules/masquerade-chain"}, []string{"0 rules that lead elsewhere"}},
		{"the wrong pods are masqueraded", prints("node worker", "sh -c", func(_ *place, text string) string {
			return strings.ReplaceAll(text, "-s 10.244.1.0/24", "-s 10.244.2.0/24")
		}), []string{"rules/masquerade-chain"}, []string{"-s 10.244.2.0/24"}},
		{"the demo does not answer from outside", nodePortFault("outside host", "172.18.0.3:32000"), []string{"demo/answers"}, []string{"not answered"}},
	}
}

func captured(reply *probe.Reply) []probe.Packet {
	if reply.Capture == nil {
		return nil
	}
	return reply.Capture.Packets
}

func clusterIPFault(at string, edit func(*probe.Reply)) func(*world) {
	return replies(at, func(p *place, r probe.Request, reply *probe.Reply) {
		if r.HTTP != nil && strings.Contains(r.HTTP.URL, p.w.env.Every.At().String()) {
			edit(reply)
		}
	})
}

func nodePortFault(at, target string) func(*world) {
	return replies(at, func(_ *place, r probe.Request, reply *probe.Reply) {
		if r.HTTP != nil && strings.Contains(r.HTTP.URL, target) || r.UDP != nil && r.UDP.Address.String() == target {
			reply.Failure = "not answered"
		}
	})
}

func TestFaultsTurnExactlyTheRightChecksRed(t *testing.T) {
	inEachNetwork(t, func(t *testing.T, w *world, checks []verify.Check) {
		for _, f := range faultsIn(w.network) {
			breaks := slices.DeleteFunc(slices.Clone(f.breaks), func(name string) bool {
				return !slices.ContainsFunc(checks, func(c verify.Check) bool { return c.Name == name })
			})
			if len(breaks) > 0 { // else it is none in this mode
				f.breaks = breaks
				t.Run(f.name, func(t *testing.T) { // where a check waits, the clock goes on
					synctest.Test(t, func(t *testing.T) { turnsRed(t, newWorld(t, w.network), f) })
				})
			}
		}
	})
}

func turnsRed(t *testing.T, w *world, f fault) {
	right := map[string][]string{}
	for _, check := range checksOf(newWorld(t, w.network)) {
		if slices.Contains(f.breaks, check.Name) {
			right[check.Name] = runIn(t, w, check).Seen
		}
	}
	f.apply(w)
	var failed []string
	for _, check := range checksOf(w) {
		if got := runIn(t, w, check); got.Status != verify.Pass {
			failed = append(failed, check.Name)
			for _, finding := range got.Wrong {
				if line := finding.About + ": " + finding.Seen; slices.Contains(right[check.Name], line) {
					t.Errorf("%s: of what is wrong it says what it says when all is right: %s", check.Name, line)
				}
				if finding.About == "" || finding.Want == "" || finding.Seen == "" || finding.Want == finding.Seen {
					t.Errorf("%s: %+v does not say what was wanted and what was seen", check.Name, finding)
				}
			}
			if !f.wasSeen(got.Wrong) {
				t.Errorf("%s: want one of %q among what was seen: %v", check.Name, f.seen, got.Wrong)
			}
			if got.Status != verify.Fail {
				t.Errorf("%s: %s: %s", check.Name, got.Status, got.Error)
			}
		}
	}
	slices.Sort(failed)
	if !slices.Equal(failed, f.breaks) {
		t.Errorf("failed: %v, want %v", failed, f.breaks)
	}
}

func (f fault) wasSeen(findings []verify.Finding) bool {
	return slices.ContainsFunc(findings, func(finding verify.Finding) bool {
		return slices.ContainsFunc(f.seen, func(words string) bool { return strings.Contains(finding.Seen, words) })
	})
}

func faultsIn(n network) []fault {
	all := slices.Concat(faults(), pathFaults(), serviceFaults(), identityFaults())
	if n.tunnel != "" {
		return append(all, tunnelFaults()...)
	}
	return append(all, nativeFaults()...)
}

func TestEveryCheckHasAFaultItNotices(t *testing.T) {
	var noticed []string
	for _, f := range slices.Concat(faultsIn(network{}), tunnelFaults()) {
		noticed = append(noticed, f.breaks...)
	}
	for _, check := range All(nil) {
		if !slices.Contains(noticed, check.Name) {
			t.Errorf("no fault is known that %s fails for", check.Name)
		}
	}
}

func TestCheckNamesAndClaims(t *testing.T) {
	seen := map[string]bool{}
	for _, check := range All(nil) {
		group, name, ok := strings.Cut(check.Name, "/")
		if !ok || group == "" || name == "" || seen[check.Name] {
			t.Errorf("%q is no unique group/name", check.Name)
		}
		seen[check.Name] = true
		if !strings.HasSuffix(check.Claim, ".") {
			t.Errorf("%s: the claim is no sentence: %q", check.Name, check.Claim)
		}
	}
}
