package datapath

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// Routing is what carries packets of pods between the node's devices.
type Routing string

const (
	// RoutingBPF is BPF: packets do not enter the node's IP stack.
	RoutingBPF Routing = "BPF"
	// RoutingLegacy is the node's IP stack, with its routes, iptables and connection tracking.
	RoutingLegacy Routing = "Legacy"
)

// Wanted is what decides whether host routing is BPF. The zero value is a kernel that can, and settings
// that do not ask for it.
type Wanted struct {
	// MissingHelpers are the BPF helpers that the kernel lacks.
	MissingHelpers []string
	// Replacement says that Services are translated in BPF.
	Replacement bool
	// IPTables says that iptables masquerades: it sees only what the stack carries.
	IPTables bool
	// Legacy is bpf.hostLegacyRouting: the stack is to stay in the way.
	Legacy bool
}

// Asked is what the settings alone ask for, whatever the kernel can do.
func (w Wanted) Asked() Routing {
	if w.Replacement && !w.IPTables && !w.Legacy {
		return RoutingBPF
	}
	return RoutingLegacy
}

// HostRouting says what routes, and each reason why it is not BPF.
func HostRouting(w Wanted) (effective Routing, reasons []string) {
	if len(w.MissingHelpers) > 0 {
		reasons = append(reasons, "the kernel lacks "+strings.Join(w.MissingHelpers, ", "))
	}
	if !w.Replacement {
		reasons = append(reasons, "needs kube-proxy replacement")
	}
	if w.IPTables {
		reasons = append(reasons, "needs BPF masquerade")
	}
	if w.Legacy {
		reasons = append(reasons, "switched off by bpf.hostLegacyRouting")
	}
	if len(reasons) == 0 {
		return RoutingBPF, nil
	}
	return RoutingLegacy, reasons
}

// routingHelpers are what BPF host routing needs of the kernel.
var routingHelpers = []struct {
	name   string
	helper asm.BuiltinFunc
}{
	{"bpf_redirect_peer", asm.FnRedirectPeer},
	{"bpf_redirect_neigh", asm.FnRedirectNeigh},
	{"bpf_fib_lookup", asm.FnFibLookup},
}

// missingHelpers asks the kernel.
func missingHelpers() ([]string, error) {
	var missing []string
	for _, h := range routingHelpers {
		err := features.HaveProgramHelper(ebpf.SchedCLS, h.helper)
		if errors.Is(err, ebpf.ErrNotSupported) {
			missing = append(missing, h.name)
		} else if err != nil {
			return nil, fmt.Errorf("probe the kernel for %s: %w", h.name, err)
		}
	}
	return missing, nil
}

// wanted are the settings as [HostRouting] takes them.
func (c Config) wanted(missing []string) Wanted {
	return Wanted{
		MissingHelpers: missing,
		Replacement:    c.Mode.services(),
		IPTables:       c.Masquerade && !c.BPFMasquerade,
		Legacy:         c.LegacyRouting,
	}
}

// chooseRouting fills in the mode that is in force, and refuses to fall back unless that is allowed.
func (c *Config) chooseRouting(missing []string) error {
	w := c.wanted(missing)
	effective, reasons := HostRouting(w)
	c.routing = HostRoutingStatus{Requested: w.Asked(), Effective: effective, Reason: strings.Join(reasons, "; ")}
	if w.Asked() == RoutingBPF && effective != RoutingBPF && !c.AllowFallback {
		return fmt.Errorf("route in BPF: %s; use a newer kernel, or set bpf.hostLegacyRouting, or allow it with bpf.allowFallback", c.routing.Reason)
	}
	switch {
	case effective == RoutingBPF:
		c.Mode = ModeEBPF
	case c.Mode == ModeEBPF:
		c.Mode = ModeKubeProxyReplacement
	}
	return nil
}
