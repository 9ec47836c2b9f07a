package datapath

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

// missingHelpers are those that BPF host routing needs and the kernel lacks.
func missingHelpers() (missing []string, err error) {
	for _, name := range []string{"bpf_redirect_peer", "bpf_redirect_neigh", "bpf_fib_lookup"} {
		has, err := KernelHas(name)
		if err != nil {
			return nil, err
		}
		if !has {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// chooseRouting takes note of what the kernel lacks, and refuses to fall back unless that is allowed.
func (c *Config) chooseRouting(missing []string) error {
	asked := c.Network.Roles().Routing
	c.missing = missing
	if asked == settings.RoutingBPF && c.Roles().Routing != settings.RoutingBPF && !c.BPF.AllowFallback {
		return fmt.Errorf("route in BPF: %s; use a newer kernel, or set bpf.hostLegacyRouting, or allow it with bpf.allowFallback", c.routing().Reason)
	}
	return nil
}

// routing is what was asked for, what is, and why, once the kernel has been asked.
func (c Config) routing() api.Routing {
	r := c.Roles()
	return api.Routing{
		Network: c.RoutingMode, Host: string(r.Routing), Requested: string(c.Network.Roles().Routing), Reason: strings.Join(r.Legacy, "; "),
	}
}

// needAtomics refuses kernels before 5.12, whose programs cannot take what was there before an atomic addition.
func needAtomics() error {
	fetchAdd := asm.FetchAdd.Mem(asm.R10, asm.R0, asm.DWord, -8)
	fetchAdd.Constant = int64(asm.FetchAdd >> 8) // which operation it is: the library leaves it out
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, 0),
			asm.StoreMem(asm.R10, -8, asm.R0, asm.DWord),
			asm.Mov.Imm(asm.R0, 1),
			fetchAdd,
			asm.Return(),
		},
	})
	if errors.Is(err, unix.EINVAL) {
		return errors.New("this kernel has no BPF atomics with results, which the data plane needs: boot kernel 5.14 or newer")
	}
	if err != nil {
		return fmt.Errorf("probe the kernel for BPF atomics: %w", err)
	}
	return prog.Close()
}
