package bpf_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/netnstest"
)

// What the verifier has to leave of each program, by mode, when only drops are reported: a program that
// grows beyond it has to be looked at. Most of the programs is for the first packet of a flow, in functions.
var bars = map[bpf.Mode]map[string]int{
	bpf.PodLabModeLAB_KUBEPROXY: {"lab_from_pod": 1080, "lab_to_pod": 780},
	bpf.PodLabModeLAB_KUBEPROXY_REPLACEMENT: {
		"lab_from_pod": 4400, "lab_to_pod": 1760, "lab_from_network": 5400, "lab_to_network": 2950,
		"lab_connect4": 1100, "lab_connect6": 1100, "lab_sendmsg4": 1100, "lab_recvmsg4": 100, "lab_recvmsg6": 100, "lab_peername4": 100, "lab_peername6": 100,
	},
	bpf.PodLabModeLAB_EBPF: {
		"lab_from_pod": 6000, "lab_to_pod": 1760, "lab_from_network": 7300, "lab_to_network": 2950,
	},
}

// tunnelBars are those of the programs in whatever mode, where there is a tunnel.
var tunnelBars = map[string]int{"lab_from_pod": 6300, "lab_to_pod": 1900, "lab_from_network": 7700, "lab_from_tunnel": 7700, "lab_to_network": 2950}

// establishedBar is what packets of a flow that is known run through, in the mode that remembers flows; a tunnel may add
// tunnelBar.
const (
	establishedBar = 350
	tunnelBar      = 25
)

func TestEveryModeLoads(t *testing.T) {
	netnstest.Needs(t, netnstest.Atomics)
	kernel := btf.NewCache()
	for mode, bars := range bars {
		for name, what := range tellings {
			for _, masquerade := range []bool{false, true} {
				if masquerade && mode == bpf.PodLabModeLAB_KUBEPROXY {
					continue // that is iptables' there
				}
				for _, tunnel := range []bool{false, true} {
					if netnstest.OtherKernel() && mode != bpf.PodLabModeLAB_KUBEPROXY && masquerade != tunnel {
						continue // this machine's verifier is given these; emulated, all of them take most of a run's time
					}
					want := bars
					if tunnel {
						want = tunnelBars
					}
					t.Run(fmt.Sprintf("mode %d, masquerade %v, tunnel %v, %s", mode, masquerade, tunnel, name), func(t *testing.T) {
						for _, loadSpec := range []func() (*ebpf.CollectionSpec, error){bpf.LoadPod, bpf.LoadHost, bpf.LoadNetdev, bpf.LoadSock, bpf.LoadConnected} {
							spec, err := loadSpec()
							must(t, err)
							maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !loads(name, mode, tunnel) })
							if len(spec.Programs) == 0 {
								continue
							}
							loadMode(t, spec, kernel, mode, masquerade, tunnel, what, want)
						}
					})
				}
			}
		}
	}
}

// loads is whether a node loads the program.
func loads(name string, mode bpf.Mode, tunnel bool) bool {
	switch name {
	case bpf.PodProgLabFromPod, bpf.HostProgLabToPod:
		return true
	case bpf.NetdevProgLabFromTunnel:
		return tunnel
	default: // the NICs' and the sockets', for Services
		return mode != bpf.PodLabModeLAB_KUBEPROXY
	}
}

func loadMode(t *testing.T, spec *ebpf.CollectionSpec, kernel *btf.Cache, mode bpf.Mode, masquerade, tunnel bool, what telling, bars map[string]int) {
	t.Helper()
	setConstants(t, spec, mode, masquerade, tunnel, what)
	must(t, rlimit.RemoveMemlock()) // before kernel 5.11
	must(t, bpf.ResolveFunctions(spec, kernel))
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}, Cache: kernel})
	must(t, err)
	defer c.Close()
	for name, prog := range c.Programs {
		info, err := prog.Info()
		must(t, err)
		size, err := info.TranslatedSize()
		must(t, err)
		size /= asm.InstructionSize
		functions, err := info.FuncInfos()
		must(t, err)
		established := size
		for _, f := range functions[1:] {
			established = min(established, int(f.Offset))
		}
		checkStack(t, name, prog, info)
		verified, _ := info.VerifiedInstructions()
		t.Logf("%s: %d instructions, %d before its functions, %d verified", name, size, established, verified)
		if netnstest.OtherKernel() {
			continue // whose verifier leaves more or less: the bars are for one kernel
		}
		if bar, ok := bars[name]; ok && what == drops && size > bar {
			t.Errorf("%s has %d instructions, more than %d", name, size, bar)
		}
		bar := establishedBar
		if tunnel {
			bar += tunnelBar
		}
		if remembers := []string{"lab_from_pod", "lab_from_network", "lab_from_tunnel"}; slices.Contains(remembers, name) && mode == bpf.PodLabModeLAB_EBPF && what == drops && established > bar {
			t.Errorf("%s has %d instructions for known flows, more than %d", name, established, bar)
		}
	}
}

// setConstants makes of programs those of a node.
func setConstants(t testing.TB, spec *ebpf.CollectionSpec, mode bpf.Mode, masquerade, tunnel bool, what telling) {
	t.Helper()
	for name, value := range map[string]any{
		bpf.PodVarCfgMode:          mode,
		bpf.PodVarCfgMasquerade:    masquerade,
		bpf.PodVarCfgTunnel:        tunnel,
		bpf.NetdevVarCfgTunnelPort: uint16(8472),
		bpf.PodVarCfgMtu:           uint32(1500),
		bpf.PodVarCfgTurns:         uint32(32768),
		bpf.PodVarCfgRecoveries:    uint32(100),
		bpf.PodVarCfgNatMin:        uint16(49152),
		bpf.PodVarCfgNatMax:        uint16(65535),
		bpf.PodVarCfgNodeIp:        ip(addrFar),
		bpf.PodVarCfgPodCidr:       ip(netip.MustParseAddr("10.0.0.0")),
		bpf.PodVarCfgPodMask:       mask(24),
		bpf.PodVarCfgNativeCidr:    ip(netip.MustParseAddr("10.0.0.0")),
		bpf.PodVarCfgNativeMask:    mask(8),
	} {
		if v := spec.Variables[name]; v != nil {
			must(t, v.Set(value))
		}
	}
	what.set(t, spec)
}
