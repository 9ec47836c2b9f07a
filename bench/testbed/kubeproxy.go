package testbed

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/datapath/lb"
)

// kubeProxyRules is input for iptables-restore that makes Services of a cluster the way kube-proxy does in its
// iptables mode: the same chains, jumps and matches, in the same order, with comments of the same length. What
// Services of type ClusterIP do not use is left out.
func kubeProxyRules(services []lb.Service, pods netip.Prefix) string {
	var chains []string
	var entries, rules strings.Builder
	for _, s := range services {
		port := s.Frontends[0]
		comment := fmt.Sprintf("%s/%s:http cluster IP", s.Namespace, s.Name)
		to := fmt.Sprintf("-d %s/32 -p %s -m comment --comment %q -m %s --dport %d", port.Addr, s.Proto, comment, s.Proto, port.Port)
		svc := chainName("KUBE-SVC-", s.String())
		chains = append(chains, ":"+svc+" - [0:0]\n")
		fmt.Fprintf(&entries, "-A KUBE-SERVICES %s -j %s\n", to, svc)
		fmt.Fprintf(&rules, "-A %s ! -s %s %s -j KUBE-MARK-MASQ\n", svc, pods, to)
		for i, b := range s.Backends {
			sep := chainName("KUBE-SEP-", s.String()+b.Addr.String())
			comment := fmt.Sprintf("%s/%s:http", s.Namespace, s.Name)
			chains = append(chains, ":"+sep+" - [0:0]\n")
			chance := ""
			if left := len(s.Backends) - i; left > 1 {
				chance = fmt.Sprintf(" -m statistic --mode random --probability %.11f", 1/float64(left))
			}
			fmt.Fprintf(&rules, "-A %s -m comment --comment \"%s -> %s\"%s -j %s\n", svc, comment, b.Addr, chance, sep)
			fmt.Fprintf(&rules, "-A %s -s %s/32 -m comment --comment %q -j KUBE-MARK-MASQ\n", sep, b.Addr.Addr(), comment)
			fmt.Fprintf(&rules, "-A %s -p %s -m comment --comment %q -m %s -j DNAT --to-destination %s\n", sep, s.Proto, comment, s.Proto, b.Addr)
		}
	}
	slices.Sort(chains) // iptables-restore takes a fraction of the time then
	return filterTable + natHead + strings.Join(chains, "") + natJumps + entries.String() + natLast + rules.String() + "COMMIT\n"
}

// chainName is a prefix and 16 letters of a hash.
func chainName(prefix, of string) string {
	sum := sha256.Sum256([]byte(of))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:16]
}

const filterTable = `*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`

const natHead = `*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
`

const natJumps = `-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
`

// natLast ends KUBE-SERVICES.
const natLast = `-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
`
