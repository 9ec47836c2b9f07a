package datapath

import (
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// recoveries is how many connections without entries may get them back by a segment, in a second on each CPU. The
// connections of a full map have theirs back within minutes, and a flood of segments without connections makes few entries.
const recoveries = 100

// turnsOf is how many flows may be opened but not established, or over, in a map of that size.
func turnsOf(flows int) uint32 { return uint32(flows) / 2 } //nolint:gosec // validated

// flowMaps have as many entries as BPF.CTMax says.
var flowMaps = []string{bpf.PodMapLabCt, bpf.PodMapLabNat}

// isOutgrown says whether a map of flows only is of another size than the spec says.
func isOutgrown(spec *ebpf.MapSpec, m *ebpf.Map) bool {
	return slices.Contains(flowMaps, spec.Name) && spec.Type == m.Type() && spec.KeySize == m.KeySize() &&
		spec.ValueSize == m.ValueSize() && spec.Flags == m.Flags()
}
