package checks

import (
	"net/netip"
	"strings"

	"wirelab.dev/wirelab/verify/probe"
)

// identityFaults are those of who has which address.
func identityFaults() []fault {
	return []fault{
		{"a node takes a pod for another", replies("node worker", func(p *place, r probe.Request, reply *probe.Reply) {
			if r.BPFMap != nil && strings.HasSuffix(r.BPFMap.Path, "/lab_ipcache") {
				client := &reply.BPFMap.Entries[1]
				client.Value = []byte(strings.Replace(string(client.Value), `"identity":300`, `"identity":301`, 1)) // as a server
			}
		}), []string{"identities/as-told", "identities/by-labels"}, []string{"identity 301"}},
		{"a node knows a pod that is gone", replies("node worker", func(_ *place, r probe.Request, reply *probe.Reply) {
			if r.BPFMap != nil && strings.HasSuffix(r.BPFMap.Path, "/lab_ipcache") {
				reply.BPFMap.Entries = append(reply.BPFMap.Entries, holderOf(netip.MustParsePrefix("10.244.1.77/32"), netip.IPv6Unspecified(), 300, 0))
			}
		}), []string{"identities/as-told"}, []string{"identity 300"}},
	}
}
