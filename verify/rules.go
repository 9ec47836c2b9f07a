package verify

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// dump is everything one tool prints of a node's packet filter.
type dump struct {
	Tool  string // "iptables-save", "iptables-legacy-save" or "nft list ruleset"
	Lines []string
}

// dumpMark heads each tool's part of what dumpScript prints.
const dumpMark = "### "

// dumpScript prints what every tool shows. The legacy tool makes empty tables
// by looking, so it only looks where there are some.
const dumpScript = `set -e
echo "### iptables-save"; iptables-save
if [ -s /proc/net/ip_tables_names ] && command -v iptables-legacy-save >/dev/null; then
	echo "### iptables-legacy-save"; iptables-legacy-save
fi
if command -v nft >/dev/null; then echo "### nft list ruleset"; nft list ruleset; fi`

// dumps asks a node's own tools.
func dumps(ctx context.Context, host Host) ([]dump, error) {
	text, err := output(ctx, host, "sh", "-c", dumpScript)
	if err != nil {
		return nil, err
	}
	return splitDumps(text), nil
}

func splitDumps(text string) []dump {
	var all []dump
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if tool, ok := strings.CutPrefix(line, dumpMark); ok {
			all = append(all, dump{Tool: tool})
		} else if len(all) > 0 {
			last := &all[len(all)-1]
			last.Lines = append(last.Lines, strings.TrimSpace(line))
		}
	}
	return all
}

// serviceRules are the lines of one dump that speak of a Service. The same
// search says in one mode that they are there and in another that they are not.
type serviceRules struct {
	Tool      string
	ClusterIP []string                // rules about the ClusterIP
	NodePort  []string                // rules about a nodePort
	Backends  map[netip.Addr][]string // rules that translate to a backend
	Chains    []string                // kube-proxy's chains and what leads to them
}

// found tells whether anything is.
func (r serviceRules) found() bool {
	return len(r.ClusterIP)+len(r.NodePort)+len(r.Chains)+len(r.Backends) > 0
}

// kubeChain is one of the chains kube-proxy makes for Services, in iptables or
// nftables spelling. Its others, such as KUBE-FIREWALL, are the kubelet's too.
var kubeChain = regexp.MustCompile(`\bKUBE-(SERVICES|NODEPORTS|EXTERNAL-SERVICES|SVC-|SVL-|EXT-|SEP-|FW-)|\btable ip6? kube-proxy\b`)

// findService searches a dump for rules of a Service with the given backends.
func findService(d dump, service Service, backends []netip.Addr) serviceRules {
	found := serviceRules{Tool: d.Tool, Backends: map[netip.Addr][]string{}}
	clusterIP := addressPattern(service.Addr)
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
			if addressPattern(backend).MatchString(line) {
				found.Backends[backend] = append(found.Backends[backend], line)
			}
		}
	}
	return found
}

// dnat is how iptables and nft spell destination NAT.
var dnat = regexp.MustCompile(`(?i)\bdnat\b`)

// addressPattern matches an address that is not part of a longer one.
func addressPattern(addr netip.Addr) *regexp.Regexp {
	return regexp.MustCompile(`(^|[^0-9.])` + regexp.QuoteMeta(addr.String()) + `([^0-9.]|$)`)
}

// chainRules lists the rules of an iptables chain in a dump of a save tool, in
// their order, without "-A CHAIN"; exists tells whether the chain is declared.
func chainRules(d dump, chain string) (rules []string, exists bool) {
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
