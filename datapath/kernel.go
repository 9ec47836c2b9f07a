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
	helpers := map[string]asm.BuiltinFunc{
		"bpf_redirect_peer":      asm.FnRedirectPeer,
		"bpf_redirect_neigh":     asm.FnRedirectNeigh,
		"bpf_fib_lookup":         asm.FnFibLookup,
		"bpf_skb_set_tunnel_key": asm.FnSkbSetTunnelKey,
	}
	var err error
	switch helper, isHelper := helpers[part]; {
	case isHelper:
		err = features.HaveProgramHelper(ebpf.SchedCLS, helper)
	case part == "XDP":
		err = features.HaveProgramType(ebpf.XDP)
	case part == "socket maps":
		err = features.HaveMapType(ebpf.SockHash)
	case part == "ring buffers":
		err = features.HaveMapType(ebpf.RingBuf)
	default:
		return false, fmt.Errorf("ask the kernel for %q: there is no way to", part)
	}
	switch {
	case errors.Is(err, ebpf.ErrNotSupported):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask the kernel for %s: %w", part, err)
	}
	return true, nil
}
