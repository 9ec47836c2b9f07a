package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/settings"
)

// serviceMaps are what Services are translated with: see bpf/lib/lb.h, ct.h and tuple.h, and bpf/sock.c.
type serviceMaps struct {
	services, slots, backends, sources, affinity *ebpf.Map
	ct, nat, turns, fragments, peers, sockets    *ebpf.Map
	udpFlows                                     *ebpf.Map
	// nodes and devices say whom to masquerade, and with which address: see bpf/lib/node.h.
	nodes, devices *ebpf.Map
	// netns are the pods' network namespaces: see bpf/lib/maps.h.
	netns *ebpf.Map
}

func (m *serviceMaps) byName() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		bpf.PodMapLabServices:   &m.services,
		bpf.PodMapLabSlots:      &m.slots,
		bpf.PodMapLabBackends:   &m.backends,
		bpf.PodMapLabSources:    &m.sources,
		bpf.PodMapLabAffinity:   &m.affinity,
		bpf.PodMapLabCt:         &m.ct,
		bpf.PodMapLabNat:        &m.nat,
		bpf.PodMapLabTurns:      &m.turns,
		bpf.PodMapLabFragments:  &m.fragments,
		bpf.SockMapLabPeers:     &m.peers,
		bpf.SockMapLabSockets:   &m.sockets,
		bpf.SockMapLabUdpFlows:  &m.udpFlows,
		bpf.PodMapLabNodes:      &m.nodes,
		bpf.NetdevMapLabDevices: &m.devices,
		bpf.PodMapLabNetns:      &m.netns,
	}
}

// fit gives the specs of the programs' maps the sizes of the maps that they get. Maps that only code of other modes uses get
// one entry; caches get their size once for each CPU.
func fit(declared map[string]*ebpf.MapSpec, used map[string]*ebpf.Map, mode settings.Mode) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count this node's CPUs: %w", err)
	}
	for name, m := range used {
		declared[name].MaxEntries = m.MaxEntries()
	}
	for name := range (&serviceMaps{}).byName() {
		if spec := declared[name]; spec != nil && used[name] == nil {
			spec.MaxEntries = 1
		}
	}
	for _, name := range []string{bpf.PodMapLabFlowCache, bpf.PodMapLabRouteCache} {
		switch cache := declared[name]; {
		case cache == nil:
		case mode == settings.ModeEBPF:
			cache.MaxEntries *= uint32(cpus) //nolint:gosec // not that many
		default:
			cache.MaxEntries = 1
		}
	}
	return nil
}

// dropOtherModes removes what another mode, which the node was in before, has left and this one does not use.
func (d *Datapath) dropOtherModes(ctx context.Context) error {
	d.chains.Lock()
	defer d.chains.Unlock()
	root := d.cfg.HostRoot
	var err error
	if d.cfg.KubeProxyReplacement {
		err = hostPortChains.remove(ctx, root)
		if d.cfg.Roles().Masquerade == settings.MasqueradeBPF {
			err = errors.Join(err, masqueradeChains.remove(ctx, root))
		}
		if d.cfg.Mode() == settings.ModeEBPF {
			err = errors.Join(err, untrackedChains.remove(ctx, root))
		}
	} else {
		err = errors.Join(d.pins.dropServices(), untrackedChains.remove(ctx, root))
	}
	if errors.Is(err, errNoIPTables) {
		return nil
	}
	return err
}

// dropServices removes what another mode has left: links and maps, in this order.
func (p pins) dropServices() error {
	links, err := p.pinnedLinks()
	errs := []error{err}
	for _, name := range links {
		if isServiceLink(name) {
			errs = append(errs, p.unpinLink(name))
		}
	}
	for name := range (&serviceMaps{}).byName() {
		if err := os.Remove(p.mapAt(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unpin map %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
