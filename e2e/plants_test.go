//go:build e2e

package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const bpffs = "/sys/fs/bpf/wirelab"

// acrossNodes lists the checks that need every pod to reach those of the other nodes.
func acrossNodes() []string {
	return []string{
		"pods/*-across-nodes", "paths/hops-across-nodes", "paths/frame-source", "services/every-backend", "services/headless",
		"host/drops-*", "host/counters-*", "host/conntrack-*",
	}
}

// viaServices lists the checks of Services whose backends are on all nodes. A Service picks one for each
// connection, so of a fault between two nodes they may or may not see something.
func viaServices() []string { return []string{"services/*", "demo/answers", "dns/*", "maps/follow"} }

func faults() []fault {
	ofPackets := []string{"outside/*", "paths/spoofed-source", "pods/to-nodes", "nodes/to-pods"}
	ofNodes := []string{"nodes/routes", "nodes/to-pods", "pods/to-nodes"}
	// Pods go by the tunnel. What is too large for it the node's stack refuses, by the MTU of that route.
	ofNodesInTunnels := append(slices.Clone(ofNodes), "pods/mtu-across-nodes")
	astray := []string{"which is no node's MAC: the node's route leads out of the lab\n", "way out: ip route get "}
	unmasqueraded := []string{"note: it left eth0 of node worker with the pod's own address", "nothing masqueraded it; lab status says what is to"}
	notForwarded := []string{
		"the stack of node worker had it, and it came out nowhere\n", "why: it passed PREROUTING and came to no other hook: the node does not forward",
		"way out: sysctl net.ipv4.ip_forward",
	}
	noBackend := "note: Service kube-system/kube-dns has no backend that is ready: lab service list"
	return []fault{
		{
			// What comes from the node's stack reaches no pod any more.
			name: "program detached", plant: detach("lab_host"),
			red: inKernelModes(append(acrossNodes(), "nodes/to-pods", "pods/to-nodes")...),
			may: append(viaServices(), "outside/*", "paths/spoofed-source"),
			passport: in("kubeproxy", concerned{
				"far", "pod", []string{"it was last seen at lab_host of node worker\n", "why: lab_to_pod is not attached to lab_host\n", "way out: the agent attaches it anew"},
			}),
		},
		{
			// Pods still reach each other, as the node's stack steps in: it is seen to.
			name: "program detached", plant: detach("eth0_in"),
			red:      map[string][]string{"ebpf": {"paths/hops-across-nodes", "host/drops-bypassed", "host/counters-still", "host/conntrack-empty", "outside/masquerade"}},
			may:      viaServices(),
			passport: in("ebpf", concerned{"far", "pod", []string{"unknown: lab_from_network is not attached to eth0: the agent attaches it anew"}}),
		},
		{
			name: "node route removed", plant: removeRoute,
			red: map[string][]string{
				"":      append(acrossNodes(), ofNodes...),
				"vxlan": ofNodesInTunnels, "geneve": ofNodesInTunnels,
			},
			may: append(viaServices(), "paths/spoofed-source"),
			passport: map[string]concerned{
				"kubeproxy-replacement": {"pod", "far", astray}, "vxlan": {"node", "far", astray},
			},
		},
		{
			name: "masquerade off", plant: flushMasquerade,
			red:      inKernelModes("outside/masquerade", "rules/masquerade-chain"),
			passport: in("kubeproxy-replacement", concerned{"pod", "gateway", unmasqueraded}),
		},
		{
			// The same program answers for Services to clients outside.
			name: "masquerade off", plant: detach("eth0_out"),
			red:      map[string][]string{"ebpf": {"outside/masquerade"}},
			may:      viaServices(),
			passport: in("ebpf", concerned{"pod", "gateway", append([]string{"unknown: lab_to_network is not attached to eth0"}, unmasqueraded...)}),
		},
		{
			name: "wrong MAC in the endpoint map", plant: spoilMAC,
			red: map[string][]string{"": {"demo/answers"}},
			passport: in("ebpf", concerned{
				"far", "pod", []string{"did not take it\n", "why: the frame is for ", "way out: lab endpoint list has the MAC that the node's map has"},
			}),
		},
		{
			name: "FORWARD policy DROP", plant: dropForward,
			red: inKernelModes(append(acrossNodes(), "outside/*")...),
			may: append(viaServices(), ofPackets...),
			passport: in("kubeproxy", concerned{
				"pod", "far", []string{"the stack of node worker dropped it at FORWARD\n", "why: a rule or the policy of a chain at that hook", "way out: iptables-save -c"},
			}),
		},
		{
			name: "FORWARD policy DROP", plant: dropForward,
			red:      map[string][]string{"ebpf": {}},
			passport: in("ebpf", concerned{"pod", "far", []string{"icmp: answered\n", "worker by PREROUTING, FORWARD", ": the FIB lookup of lab_from_pod at "}}),
		},
		{
			name: "forwarding off", plant: stopForwarding,
			red:      inKernelModes(append(acrossNodes(), "outside/*")...),
			may:      append(viaServices(), ofPackets...),
			passport: in("kubeproxy-replacement", concerned{"pod", "far", notForwarded}),
		},
		{
			// Pods that come later, as those of verify, do not notice: their veths forward. The checks that look at the stack's
			// rules cannot: it forwards nothing to see.
			name: "forwarding off", plant: stopForwarding,
			red:      map[string][]string{"ebpf": {"host/drops-bypassed", "host/counters-still"}},
			may:      viaServices(),
			passport: in("ebpf", concerned{"pod", "far", notForwarded}),
		},
		{
			name: "tunnel device down", plant: stopTunnel,
			red: inTunnels(append(acrossNodes(), "nodes/to-pods", "pods/to-nodes", "tunnel/encapsulation")...),
			may: append(viaServices(), "paths/spoofed-source"),
			passport: in("vxlan", concerned{
				"pod", "far", []string{"why: the tunnel's device did not send it: it is down, or gone\n", "way out: ip link on the node says which"},
			}),
		},
		{
			// Pods that the node has heard of have entries of their own: those astray are new ones, as checks have them.
			name: "tunnel entry to a wrong node", plant: misleadTunnel,
			red: inTunnels(append(acrossNodes(), "nodes/to-pods", "pods/to-nodes", "tunnel/encapsulation", "tunnel/map", unheard)...),
			may: append(viaServices(), "paths/spoofed-source"),
			passport: in("vxlan", concerned{
				"pod", "router", []string{
					"(node worker2) dropped it\n", "why: forged-source: the node that sent it has not got the source's address", "way out: lab bpf ipcache list says who has it",
				},
			}),
		},
		{
			name: "wrong identity in the ipcache", plant: mistakePod,
			red:      inTunnels("identities/as-told", unheard),
			passport: in("vxlan", concerned{"pod", "far", []string{"note: node worker2 takes who gets it for identity ", "lab bpf ipcache list has what nodes know of addresses"}}),
		},
		{
			name: "CoreDNS gone", plant: stopCoreDNS,
			red: map[string][]string{"": {"dns/*", "demo/answers", "services/headless"}},
			passport: map[string]concerned{
				"kubeproxy": {"pod", "dns", []string{"the stack of node worker dropped it at FORWARD\n", noBackend}},
				"ebpf":      {"pod", "dns", []string{"dropped it\n", "why: no-backend: ", "way out: lab service list names its backends", noBackend}},
			},
		},
	}
}

// inKernelModes is a fault's red where the node's stack routes.
func inKernelModes(patterns ...string) map[string][]string {
	return map[string][]string{"kubeproxy": patterns, "kubeproxy-replacement": patterns}
}

// inTunnels is a fault's red where there is a tunnel.
func inTunnels(patterns ...string) map[string][]string {
	return map[string][]string{"vxlan": patterns, "geneve": patterns}
}

// unheard is the check that sees of a node that it hears nothing of new pods, while who has which address there is left as
// a fault has made it.
const unheard = "identities/by-labels"

// detach takes a program off where its link is pinned.
func detach(link string) func(*testing.T, faulty) planted {
	return func(t *testing.T, f faulty) planted {
		pinned := "pinned " + bpffs + "/links/" + link
		return keep(t, f, "devices", "! bpftool link show "+pinned+" | grep -q detached && bpftool link detach "+pinned)
	}
}

// removeRoute removes the node's route to the other node's pods.
func removeRoute(t *testing.T, f faulty) planted {
	cidr := kubectl(t, f.lab, "get", "labnode", f.other, "-o", "jsonpath={.spec.podCIDRs[0]}")
	return keep(t, f, "routes", "ip route del "+cidr)
}

// flushMasquerade empties the chain that masquerades.
func flushMasquerade(t *testing.T, f faulty) planted {
	return keep(t, f, "masquerade", "iptables -w -t nat -S LAB-MASQUERADE | grep -q ^-A && iptables -w -t nat -F LAB-MASQUERADE")
}

// spoilMAC changes what the map of endpoints says of the demo's pod on the node.
func spoilMAC(t *testing.T, f faulty) planted {
	demo := podsOf(t, f.lab, "default", "app=demo")
	i := slices.IndexFunc(demo, func(p pod) bool { return p.Node == f.node })
	if i < 0 {
		t.Fatalf("no pod of the demo is on %s: %v", f.node, demo)
	}
	mac := strings.Split(kubectl(t, f.lab, "exec", demo[i].Name, "--", "cat", "/sys/class/net/eth0/address"), ":")
	endpoints := onNode(t, f.node, "sh", "-c", "echo "+bpffs+"/maps/*/lab_endpoints")
	var entries []struct{ Key, Value []string }
	if err := json.Unmarshal([]byte(onNode(t, f.node, "bpftool", "-j", "map", "dump", "pinned", endpoints)), &entries); err != nil {
		t.Fatalf("read the map of endpoints: %v", err)
	}
	for _, e := range entries {
		for at := range e.Value {
			found := at+len(mac) <= len(e.Value) && slices.EqualFunc(e.Value[at:at+len(mac)], mac, func(a, b string) bool { return strings.TrimPrefix(a, "0x") == b })
			if !found {
				continue
			}
			old := slices.Clone(e.Value)
			e.Value[at+len(mac)-1] = map[bool]string{true: "0x01", false: "0x00"}[e.Value[at+len(mac)-1] == "0x00"]
			key := fmt.Sprintf("pinned %s key %s", endpoints, strings.Join(e.Key, " "))
			update := func(value []string) string {
				return "bpftool map update " + key + " value " + strings.Join(value, " ")
			}
			p := keep(t, f, "endpoints", fmt.Sprintf(`bpftool -j map lookup %s | grep -qF '"%s"' && %s`, key, strings.Join(old, `","`), update(e.Value)))
			stop := p.mend
			p.mend = func() {
				stop()
				onNode(t, f.node, "sh", "-c", update(old))
			}
			return p
		}
	}
	t.Fatalf("the map of endpoints has no entry with MAC %v: %v", mac, entries)
	return planted{}
}

// stopTunnel switches the tunnel's device off.
func stopTunnel(t *testing.T, f faulty) planted {
	for _, device := range strings.Fields(onNode(t, f.node, "ls", "/sys/class/net")) {
		if device == "lab_vxlan" || device == "lab_geneve" {
			return keep(t, f, "devices", fmt.Sprintf(`[ -n "$(ip link show %s up)" ] && ip link set %s down`, device, device))
		}
	}
	t.Fatal(f.node + " has no tunnel's device")
	return planted{}
}

// misleadTunnel has what goes to the other node's pods go to the control plane.
func misleadTunnel(t *testing.T, f faulty) planted {
	cidr := netip.MustParsePrefix(kubectl(t, f.lab, "get", "labnode", f.other, "-o", "jsonpath={.spec.podCIDRs[0]}"))
	wrong := netip.MustParseAddr(kubectl(t, f.lab, "get", "labnode", f.lab+"-control-plane", "-o", "jsonpath={.spec.addresses[0]}")).As16()
	return spoilHolder(t, f, cidr, func(entry []byte) { copy(entry, wrong[:]) })
}

// mistakePod has the node take the demo's pod on the other node for somebody else.
func mistakePod(t *testing.T, f faulty) planted {
	demo := podsOf(t, f.lab, "default", "app=demo")
	i := slices.IndexFunc(demo, func(p pod) bool { return p.Node == f.other })
	if i < 0 {
		t.Fatalf("no pod of the demo is on %s: %v", f.other, demo)
	}
	addr := netip.MustParseAddr(kubectl(t, f.lab, "get", "pod", demo[i].Name, "-o", "jsonpath={.status.podIP}"))
	return spoilHolder(t, f, netip.PrefixFrom(addr, 32), func(entry []byte) { entry[16] ^= 1 }) // the identity, behind the node's address
}

// spoilHolder changes the entry that the node's map of addresses has of a prefix.
func spoilHolder(t *testing.T, f faulty, of netip.Prefix, spoil func(entry []byte)) planted {
	t.Helper()
	addr := of.Addr().As16()
	key := append([]byte{byte(32 + 96 + of.Bits()), 0, 0, 0, 0, 0, 0, 0}, addr[:]...)
	at := fmt.Sprintf("pinned %s key %s", onNode(t, f.node, "sh", "-c", "echo "+bpffs+"/maps/*/lab_ipcache"), inHex(key))
	var found struct{ Value []string }
	if err := json.Unmarshal([]byte(onNode(t, f.node, "sh", "-c", "bpftool -j map lookup "+at)), &found); err != nil {
		t.Fatalf("read what the map has of %s: %v", of, err)
	}
	entry, err := hex.DecodeString(strings.ReplaceAll(strings.Join(found.Value, ""), "0x", ""))
	if err != nil || len(entry) < 20 {
		t.Fatalf("what the map has of %s: %v, %v", of, found.Value, err)
	}
	right := inHex(entry)
	spoil(entry)
	p := keep(t, f, "ipcache", fmt.Sprintf(`bpftool -j map lookup %s | grep -qF '"%s"' && bpftool map update %s value %s`, at, strings.Join(found.Value, `","`), at, inHex(entry)))
	stop := p.mend
	p.mend = func() {
		stop()
		onNode(t, f.node, "sh", "-c", "bpftool map update "+at+" value "+right)
	}
	return p
}

// inHex writes bytes as bpftool reads them.
func inHex(b []byte) string {
	var words []string
	for _, each := range b {
		words = append(words, fmt.Sprintf("0x%02x", each))
	}
	return strings.Join(words, " ")
}

// dropForward makes the node drop what it forwards.
func dropForward(t *testing.T, f faulty) planted {
	onNode(t, f.node, "iptables", "-w", "-P", "FORWARD", "DROP")
	return planted{mend: func() { onNode(t, f.node, "iptables", "-w", "-P", "FORWARD", "ACCEPT") }}
}

// stopForwarding switches forwarding off for all the node's devices.
func stopForwarding(t *testing.T, f faulty) planted {
	return keep(t, f, "sysctls devices endpoints", "grep -q 1 /proc/sys/net/ipv4/ip_forward && echo 0 >/proc/sys/net/ipv4/ip_forward")
}

// stopCoreDNS takes away all that resolve names.
func stopCoreDNS(t *testing.T, f faulty) planted {
	scale := func(n string) {
		kubectl(t, f.lab, "-n", "kube-system", "scale", "deployment", "coredns", "--replicas", n)
	}
	scale("0")
	eventually(t, time.Minute, "CoreDNS to be gone", func() string {
		var names []string
		for _, p := range podsOf(t, f.lab, "kube-system", "k8s-app=kube-dns") {
			names = append(names, p.Name)
		}
		return strings.Join(names, " ")
	})
	return planted{mend: func() {
		scale("2")
		kubectl(t, f.lab, "-n", "kube-system", "rollout", "status", "deployment", "coredns", "--timeout", "50s")
	}}
}
