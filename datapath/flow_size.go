package datapath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// flowMaps have as many entries as Config.Flows says.
var flowMaps = []string{bpf.PodMapLabCt, bpf.PodMapLabNat}

// outgrown is a map of flows, and the one of another size that is used from now on.
type outgrown struct{ before, now *ebpf.Map }

// isOutgrown says whether a map of flows only is of another size than the spec says.
func isOutgrown(spec *ebpf.MapSpec, m *ebpf.Map) bool {
	return slices.Contains(flowMaps, spec.Name) && spec.Type == m.Type() && spec.KeySize == m.KeySize() &&
		spec.ValueSize == m.ValueSize() && spec.Flags == m.Flags()
}

// carryOver enters the flows of outgrown maps that are not known yet.
func (m *maps) carryOver() error {
	for _, o := range m.outgrown {
		var failed error
		err := eachBatch(o.before, func(t bpf.Tuple, e bpf.Translation) {
			if err := o.now.Update(t, e, ebpf.UpdateNoExist); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
				failed = err
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("carry flows over to a map of another size: %w", err)
		}
	}
	return nil
}

func (m *maps) dropOutgrown() error {
	var errs []error
	for _, o := range m.outgrown {
		errs = append(errs, o.before.Close())
	}
	m.outgrown = nil
	return errors.Join(errs...)
}
