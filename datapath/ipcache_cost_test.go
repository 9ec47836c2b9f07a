package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/internal/api"
)

// BenchmarkIPCache has the identity of one pod change, in a map of as many entries as 300 nodes with 100 pods each have.
func BenchmarkIPCache(b *testing.B) {
	m := newModelWith(b, inBPF)
	var entries []api.IPCacheEntry
	for i := range uint32(300) {
		node := netip.AddrFrom4([4]byte{172, 18, byte(i >> 8), byte(i)})
		entries = append(entries, api.IPCacheEntry{Prefix: netip.PrefixFrom(node, 32), Identity: 6, Node: node, NodeAddress: true})
		for pod := range uint32(101) {
			var addr [4]byte
			binary.BigEndian.PutUint32(addr[:], 10<<24|1<<20|i<<8|pod)
			prefix := netip.PrefixFrom(netip.AddrFrom4(addr), 32)
			if pod == 0 {
				prefix = netip.PrefixFrom(prefix.Addr(), 24)
			}
			entries = append(entries, api.IPCacheEntry{Prefix: prefix, Identity: 300 + pod, Node: node})
		}
	}
	c := m.d.IPCache()
	m.must(c.Apply(b.Context(), entries))
	one := &entries[len(entries)-1]
	for name, before := range map[string]func(){"known": func() {}, "read": c.Reload} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				one.Identity ^= 1
				before()
				m.must(c.Apply(b.Context(), entries))
			}
			b.ReportMetric(float64(len(entries)), "entries")
		})
	}
}
