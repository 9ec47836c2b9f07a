package field

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Dump is everything one tool prints of a node's packet filter.
type Dump struct {
	Tool  string // "iptables-save", "iptables-legacy-save" or "nft list ruleset"
	Lines []string
}

// dumpMark heads each tool's part of what [DumpScript] prints.
const dumpMark = "### "

// DumpScript prints what every tool shows. The legacy tool makes empty tables
// by looking, so it only looks where there are some.
const DumpScript = savedRules + `set -e
echo "### iptables-save"; saved
if [ -s /proc/net/ip_tables_names ] && command -v iptables-legacy-save >/dev/null; then
	echo "### iptables-legacy-save"; iptables-legacy-save
fi
if command -v nft >/dev/null; then echo "### nft list ruleset"; nft list ruleset; fi`

// Dumps asks a node's own tools.
func Dumps(ctx context.Context, peer Peer) ([]Dump, error) {
	text, err := Output(ctx, peer, "sh", "-c", DumpScript)
	if err != nil {
		return nil, err
	}
	return splitDumps(text), nil
}

func splitDumps(text string) []Dump {
	var all []Dump
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if tool, ok := strings.CutPrefix(line, dumpMark); ok {
			all = append(all, Dump{Tool: tool})
		} else if len(all) > 0 {
			last := &all[len(all)-1]
			last.Lines = append(last.Lines, strings.TrimSpace(line))
		}
	}
	return all
}

// ServiceRules are the lines of one dump that speak of a Service. The same
// search says in one mode that they are there and in another that they are not.
type ServiceRules struct {
	Tool      string
	ClusterIP []string                // rules about the ClusterIP
	NodePort  []string                // rules about a nodePort
	Backends  map[netip.Addr][]string // rules that translate to a backend
	Chains    []string                // kube-proxy's chains and what leads to them
}

// Found tells whether anything is.
func (r ServiceRules) Found() bool {
	return len(r.ClusterIP)+len(r.NodePort)+len(r.Chains)+len(r.Backends) > 0
}

// kubeChain is one of the chains kube-proxy makes for Services, in iptables or
// nftables spelling. Its others, such as KUBE-FIREWALL, are the kubelet's too.
var kubeChain = regexp.MustCompile(`\bKUBE-(SERVICES|NODEPORTS|EXTERNAL-SERVICES|SVC-|SVL-|EXT-|SEP-|FW-)|\btable ip6? kube-proxy\b`)

// FindService searches a dump for rules of a Service with the given backends.
func FindService(d Dump, service Service, backends []netip.Addr) ServiceRules {
	found := ServiceRules{Tool: d.Tool, Backends: map[netip.Addr][]string{}}
	clusterIP := AddressPattern(service.Addr)
	var ports []*regexp.Regexp
	for _, port := range []uint16{service.NodePortTCP, service.NodePortUDP} {
		if port != 0 {
			ports = append(ports, regexp.MustCompile(fmt.Sprintf(`\bdports? (\S+,)?%d\b`, port)))
		}
	}
	for _, line := range d.Lines {
		if kubeChain.MatchString(line) {
			found.Chains = append(found.Chains, line)
		}
		if clusterIP.MatchString(line) {
			found.ClusterIP = append(found.ClusterIP, line)
		}
		if slices.ContainsFunc(ports, func(p *regexp.Regexp) bool { return p.MatchString(line) }) {
			found.NodePort = append(found.NodePort, line)
		}
		if !dnat.MatchString(line) {
			continue
		}
		for _, backend := range backends {
			if AddressPattern(backend).MatchString(line) {
				found.Backends[backend] = append(found.Backends[backend], line)
			}
		}
	}
	return found
}

// dnat is how iptables and nft spell destination NAT.
var dnat = regexp.MustCompile(`(?i)\bdnat\b`)

// AddressPattern matches an address that is not part of a longer one.
func AddressPattern(addr netip.Addr) *regexp.Regexp {
	return regexp.MustCompile(`(^|[^0-9.])` + regexp.QuoteMeta(addr.String()) + `([^0-9.]|$)`)
}

// ChainRules lists the rules of an iptables chain in a dump of a save tool, in
// their order, without "-A CHAIN"; exists tells whether the chain is declared.
func ChainRules(d Dump, chain string) (rules []string, exists bool) {
	for _, line := range d.Lines {
		if strings.HasPrefix(line, ":"+chain+" ") {
			exists = true
		}
		if rule, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			rules = append(rules, rule)
		}
	}
	return rules, exists
}

// MasqueradeChain is where wirelab masquerades by iptables.
const MasqueradeChain = "LAB-MASQUERADE"
