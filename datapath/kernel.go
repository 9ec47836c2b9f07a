package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

// askKernel fills in what c has to know of the kernel, and refuses one that cannot do what c says.
func (c *Config) askKernel() error {
	if err := needAtomics(); err != nil {
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift the limit of locked memory, which maps count for before kernel 5.11: %w", err)
	}
	missing, err := missingHelpers()
	if err != nil {
		return err
	}
	if err := c.chooseRouting(append(missing, c.lackHelpers...)); err != nil {
		return err
	}
	if c.KubeProxyReplacement {
		c.netnsCookie, err = netnsCookie()
	}
	return err
}

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
