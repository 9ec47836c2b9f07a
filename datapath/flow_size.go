package datapath

import (
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// recoveries is how many segments in a second, on each CPU, may put back the entries of a connection that has lost
// them: those of a full map are back within minutes, and who has no connections takes up little of it.
const recoveries = 100

// turnsOf is how many of the flows that there is room for may be no more than opened, or over.
func turnsOf(flows int) uint32 { return uint32(flows) / 2 } //nolint:gosec // validated

// flowMaps have as many entries as BPF.CTMax says.
var flowMaps = []string{bpf.PodMapLabCt, bpf.PodMapLabNat}

// isOutgrown says whether a map of flows only is of another size than the spec says.
func isOutgrown(spec *ebpf.MapSpec, m *ebpf.Map) bool {
	return slices.Contains(flowMaps, spec.Name) && spec.Type == m.Type() && spec.KeySize == m.KeySize() &&
		spec.ValueSize == m.ValueSize() && spec.Flags == m.Flags()
}
