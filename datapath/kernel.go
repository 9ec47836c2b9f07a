package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// KernelHas asks the kernel whether it has a part by its name: a helper that programs of interfaces may call, "XDP"
// programs, "socket maps" or "ring buffers".
func KernelHas(part string) (bool, error) {
	ask := map[string]func() error{
		"XDP":          func() error { return features.HaveProgramType(ebpf.XDP) },
		"socket maps":  func() error { return features.HaveMapType(ebpf.SockHash) },
		"ring buffers": func() error { return features.HaveMapType(ebpf.RingBuf) },
		"bpf_skb_set_tunnel_key": func() error {
			return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnSkbSetTunnelKey)
		},
	}
	for _, h := range routingHelpers {
		ask[h.name] = func() error { return features.HaveProgramHelper(ebpf.SchedCLS, h.helper) }
	}
	probe := ask[part]
	if probe == nil {
		return false, fmt.Errorf("ask the kernel for %q: there is no way to", part)
	}
	switch err := probe(); {
	case errors.Is(err, ebpf.ErrNotSupported):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask the kernel for %s: %w", part, err)
	}
	return true, nil
}
