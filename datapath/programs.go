package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/settings"
)

// programs are loaded once for the node: what differs by pod is map data.
type programs struct {
	fromPod  *ebpf.Program // tcx ingress of every host-side veth
	toPod    *ebpf.Program // tcx egress of lab_host
	services servicePrograms
	tunnel   tunnelPrograms // where there is one
	// aggregation and mode are constants of them, to be read back.
	aggregation, mode *ebpf.Variable
	// What they are told while they run, each its own: the pods' MTU, the tunnel's device, and lab_fragmenter.
	mtus, tunnelDevices, fragmenters []*ebpf.Variable
}

// loadPrograms loads them with what cfg decides as constants, using the given maps.
func loadPrograms(cfg Config, m *maps) (_ *programs, err error) {
	p, l := &programs{}, loader{cfg, m, btf.NewCache()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	var pod struct {
		bpf.PodPrograms
		bpf.PodVariables
	}
	if err := l.load(bpf.LoadPod, &pod); err != nil {
		return nil, err
	}
	p.fromPod, p.aggregation, p.mode = pod.LabFromPod, pod.CfgAggregation, pod.CfgMode
	p.mtus = append(p.mtus, pod.CfgMtu)
	p.tunnelDevices = append(p.tunnelDevices, pod.CfgTunnelDevice)

	var host struct {
		bpf.HostPrograms
		bpf.HostVariables
	}
	if err := l.load(bpf.LoadHost, &host); err != nil {
		return nil, err
	}
	p.toPod = host.LabToPod
	p.tunnelDevices = append(p.tunnelDevices, host.CfgTunnelDevice)
	if cfg.KubeProxyReplacement {
		if err := p.services.load(l); err != nil {
			return nil, err
		}
		p.know(p.services.told)
	}
	if cfg.tunnelDevice() != "" {
		if err := l.load(bpf.LoadNetdev, &p.tunnel); err != nil {
			return nil, err
		}
		p.know(p.tunnel.NetdevVariables)
	}
	return p, nil
}

// know notes what programs of bpf/netdev.c are told while they run.
func (p *programs) know(v bpf.NetdevVariables) {
	p.mtus = append(p.mtus, v.CfgMtu)
	p.tunnelDevices = append(p.tunnelDevices, v.CfgTunnelDevice)
	p.fragmenters = append(p.fragmenters, v.LabFragmenter)
}

// tell gives programs a value while they run, and says whether one of them had another.
func tell[T comparable](programs []*ebpf.Variable, what string, value T) (changed bool, err error) {
	for _, v := range programs {
		var now T
		if err := v.Get(&now); err != nil {
			return changed, fmt.Errorf("read the programs' %s: %w", what, err)
		}
		if now == value {
			continue
		}
		if err := v.Set(value); err != nil {
			return changed, fmt.Errorf("set the programs' %s: %w", what, err)
		}
		changed = true
	}
	return changed, nil
}

// setMTU tells the programs of the pods' MTU.
func (d *Datapath) setMTU() error {
	changed, err := tell(d.progs.mtus, "MTU", uint32(d.mtu()))
	if err != nil || !changed {
		return err
	}
	return d.maps.newGeneration()
}

// modes are the programs' numbers for them.
var modes = map[settings.Mode]bpf.Mode{
	settings.ModeKubeProxy:            bpf.PodLabModeLAB_KUBEPROXY,
	settings.ModeKubeProxyReplacement: bpf.PodLabModeLAB_KUBEPROXY_REPLACEMENT,
	settings.ModeEBPF:                 bpf.PodLabModeLAB_EBPF,
}

// loader loads programs with what cfg decides as constants, using the given maps.
type loader struct {
	cfg    Config
	maps   *maps
	kernel *btf.Cache // takes a good part of the time that loading takes, and is the same for all
}

// load loads those of an object that into names.
func (l loader) load(object func() (*ebpf.CollectionSpec, error), into any) error {
	spec, err := object()
	if err != nil {
		return err
	}
	if err := errors.Join(setConstants(spec, l.cfg), bpf.ResolveFunctions(spec, l.kernel)); err != nil {
		return err
	}
	use := l.maps.forPrograms(spec.Maps)
	if err := fit(spec.Maps, use, l.cfg.Mode()); err != nil {
		return err
	}
	err = spec.LoadAndAssign(into, &ebpf.CollectionOptions{MapReplacements: use, Cache: l.kernel})
	var rejected *ebpf.VerifierError
	if errors.As(err, &rejected) {
		return fmt.Errorf("load programs: %+v", rejected)
	}
	if err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	return nil
}

// setConstants decides what the program does, as far as it has a say in it.
func setConstants(spec *ebpf.CollectionSpec, cfg Config) error {
	_, tunnelPort, tunnel := cfg.Tunnel()
	for name, value := range map[string]any{
		bpf.PodVarCfgAggregation:   aggregations[cfg.BPF.MonitorAggregation],
		bpf.PodVarCfgSteps:         cfg.Debug.Datapath(),
		bpf.PodVarCfgTells:         cfg.observes(),
		bpf.PodVarCfgObserved:      uint32(cfg.BPF.CTMax),          //nolint:gosec // validated
		bpf.PodVarCfgPayload:       uint32(cfg.BPF.MonitorPayload), //nolint:gosec // validated
		bpf.PodVarCfgMode:          modes[cfg.Mode()],
		bpf.PodVarCfgNodeIp:        bpf.IPOf(cfg.NodeIP),
		bpf.PodVarCfgPodCidr:       bpf.IPOf(cfg.PodCIDR.Addr()),
		bpf.PodVarCfgPodMask:       maskOf(cfg.PodCIDR),
		bpf.PodVarCfgNativeCidr:    bpf.IPOf(cfg.IPv4NativeRoutingCIDR.Addr()),
		bpf.PodVarCfgNativeMask:    maskOf(cfg.IPv4NativeRoutingCIDR),
		bpf.PodVarCfgMasquerade:    cfg.Roles().Masquerade == settings.MasqueradeBPF,
		bpf.PodVarCfgMtu:           uint32(cfg.MTU),
		bpf.PodVarCfgNatMin:        cfg.nat.low,
		bpf.PodVarCfgNatMax:        cfg.nat.high,
		bpf.PodVarCfgRecoveries:    uint32(cfg.recoveries),
		bpf.PodVarCfgTurns:         turnsOf(cfg.BPF.CTMax),
		bpf.PodVarCfgTunnel:        tunnel,
		bpf.NetdevVarCfgTunnelPort: uint16(tunnelPort), //nolint:gosec // validated
		bpf.PodVarCfgNodeNetns:     cfg.netnsCookie,
	} {
		variable, ok := spec.Variables[name]
		if !ok {
			continue
		}
		if err := variable.Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// aggregations are the programs' numbers for what events tell of.
var aggregations = map[string]bpf.Aggregation{
	settings.AggregationMaximum: bpf.PodLabAggregationLAB_AGGREGATE_MAXIMUM,
	settings.AggregationMedium:  bpf.PodLabAggregationLAB_AGGREGATE_MEDIUM,
	settings.AggregationNone:    bpf.PodLabAggregationLAB_AGGREGATE_NONE,
}

// aggregated is what the loaded programs do, whatever they were asked to.
func (p *programs) aggregated() (string, error) {
	return readBack(p.aggregation, "cfg_aggregation", aggregations)
}

// inForce is the mode that the loaded programs have.
func (p *programs) inForce() (settings.Mode, error) { return readBack(p.mode, "cfg_mode", modes) }

// readBack is which of the words stands for a constant's value.
func readBack[W, N comparable](v *ebpf.Variable, name string, words map[W]N) (word W, err error) {
	var code N
	if err := v.Get(&code); err != nil {
		return word, fmt.Errorf("read %s: %w", name, err)
	}
	for word, c := range words {
		if c == code {
			return word, nil
		}
	}
	return word, fmt.Errorf("read %s: %v is none of its values", name, code)
}

func (p *programs) close() error {
	var errs []error
	for _, prog := range append(p.services.list(), p.fromPod, p.toPod, p.tunnel.FromTunnel) {
		if prog != nil {
			errs = append(errs, prog.Close())
		}
	}
	return errors.Join(errs...)
}
