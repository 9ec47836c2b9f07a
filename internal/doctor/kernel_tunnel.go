package doctor

import (
	"errors"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/internal/kernel"
)

// tunnelProbe tries what it takes to reach other nodes' pods by a tunnel.
func tunnelProbe(protocol string) probe {
	return probe{
		name: protocol + " devices", try: func() error {
			err := kernel.TryTunnel(protocol)
			if errors.Is(err, kernel.ErrNoTunnel) {
				return lack{what: protocol + " devices", err: ebpf.ErrNotSupported}
			}
			return err
		},
		mend: "load the module " + protocol + ", boot a kernel that has it, or set network.tunnelProtocol to another one",
	}
}
