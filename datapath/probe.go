package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/internal/kernel"
	"wirelab.dev/wirelab/internal/settings"
)

// Probe says what this machine's kernel lacks for a data plane of these settings; nil: nothing. It loads the programs, with small
// maps of their own, attaches none of them, and leaves nothing behind. It needs the rights that [Open] needs.
func Probe(network settings.Network) (err error) {
	network.BPF.CTMax = settings.MinFlows
	// What else is of one node is data for the programs, and may be anybody's: these are of RFC 5737.
	cfg := Config{Network: network, NodeName: "probe", NodeIP: netip.MustParseAddr("192.0.2.1"), PodCIDR: netip.MustParsePrefix("198.51.100.0/24")}.withDefaults()
	cfg.nat = natRanges[0]
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("check the datapath's settings: %w", err)
	}
	if err := cfg.askKernel(); err != nil {
		return err
	}
	m, specs, err := sizedMaps(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	for name, slot := range m.byName() {
		if *slot, err = ebpf.NewMap(specs[name]); err != nil {
			return fmt.Errorf("create map %s: %w", name, err)
		}
	}
	progs, err := loadPrograms(cfg, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, progs.close()) }()
	if cfg.tunnelDevice() == "" {
		return nil
	}
	err = kernel.TryTunnel(cfg.TunnelProtocol)
	if errors.Is(err, kernel.ErrNoTunnel) {
		return fmt.Errorf("%w: load the module %s, or set network.tunnelProtocol to another one", err, cfg.TunnelProtocol)
	}
	return err
}
