package field

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The dumps in testdata are of a node whose kube-proxy had the demo's Service,
// once with the nft variant of iptables and once with the legacy one.
func demoInDumps() (Service, []netip.Addr) {
	return Service{Namespace: "default", Name: "demo", Addr: netip.MustParseAddr("10.96.124.119"), Port: 8080, NodePortTCP: 32000},
		[]netip.Addr{netip.MustParseAddr("10.244.0.6"), netip.MustParseAddr("10.244.1.10"), netip.MustParseAddr("10.244.2.9")}
}

func readDumps(t *testing.T, name string) []Dump {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return splitDumps(string(text))
}

func TestFindServiceInRealDumps(t *testing.T) {
	service, backends := demoInDumps()
	for _, test := range []struct{ file, tool string }{
		{"rules-nft.txt", "iptables-save"},
		{"rules-nft.txt", "nft list ruleset"},
		{"rules-legacy.txt", "iptables-legacy-save"},
	} {
		t.Run(test.file+" "+test.tool, func(t *testing.T) {
			all := readDumps(t, test.file)
			i := slices.IndexFunc(all, func(d Dump) bool { return d.Tool == test.tool })
			if i < 0 {
				t.Fatalf("no dump of %s", test.tool)
			}
			found := FindService(all[i], service, backends)
			if len(found.ClusterIP) == 0 || len(found.NodePort) == 0 || len(found.Chains) == 0 || !found.Found() {
				t.Errorf("found %d rules of the ClusterIP, %d of the nodePort, %d chains", len(found.ClusterIP), len(found.NodePort), len(found.Chains))
			}
			if strings.HasPrefix(test.tool, "iptables") && len(found.Backends) != len(backends) {
				t.Errorf("found %d backends, want %d", len(found.Backends), len(backends))
			}
			// What is not there is not found by the same search.
			other := Service{Addr: netip.MustParseAddr("10.96.124.11"), NodePortTCP: 3200}
			absent := FindService(all[i], other, []netip.Addr{netip.MustParseAddr("10.244.0.66"), netip.MustParseAddr("10.244.1.1")})
			if len(absent.ClusterIP)+len(absent.NodePort)+len(absent.Backends) > 0 {
				t.Errorf("a Service that is not there is found: %+v", absent)
			}
		})
	}
}

func TestFindServiceWhereThereIsNone(t *testing.T) {
	service, backends := demoInDumps()
	for _, d := range splitDumps("### iptables-save\n*nat\n:PREROUTING ACCEPT [0:0]\n:LAB-MASQUERADE - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n" +
		"-A LAB-MASQUERADE -s 10.244.1.0/24 ! -d 10.0.0.0/8 -j MASQUERADE\nCOMMIT\n### nft list ruleset\ntable ip nat {\n\tchain KUBE-FIREWALL {\n\t}\n}\n") {
		if found := FindService(d, service, backends); found.Found() {
			t.Errorf("%s: found %+v", d.Tool, found)
		}
	}
}

func TestFindServiceOfKubeProxysNFTablesMode(t *testing.T) {
	service, backends := demoInDumps()
	all := splitDumps("### nft list ruleset\ntable ip kube-proxy {\n\tmap service-ips {\n\t\telements = { 10.96.124.119 . tcp . 8080 : goto service-AAAA }\n\t}\n}\n")
	if found := FindService(all[0], service, backends); len(found.ClusterIP) != 1 || len(found.Chains) != 1 {
		t.Errorf("found %+v", found)
	}
}

func TestAddressPatternMatchesWholeAddresses(t *testing.T) {
	pattern := AddressPattern(netip.MustParseAddr("10.96.0.1"))
	for text, want := range map[string]bool{
		"-d 10.96.0.1/32": true, "10.96.0.1": true, "to 10.96.0.1:80": true, "{ 10.96.0.1, x }": true,
		"10.96.0.10": false, "110.96.0.1": false, "10.96.0.1.5": false, "10x96.0.1": false,
	} {
		if pattern.MatchString(text) != want {
			t.Errorf("%q: match is %v", text, !want)
		}
	}
}

func TestChainRules(t *testing.T) {
	all := readDumps(t, "rules-nft.txt")
	rules, exists := ChainRules(all[0], MasqueradeChain)
	if !exists || len(rules) < 4 || !strings.Contains(rules[len(rules)-1], "-j MASQUERADE") {
		t.Errorf("exists %v: %q", exists, rules)
	}
	if rules, exists := ChainRules(all[0], "LAB-MASQ"); exists || len(rules) > 0 {
		t.Errorf("the start of a name is taken for the name: %q", rules)
	}
}
