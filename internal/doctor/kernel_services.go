package doctor

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// lack is an unsupported thing among several that one probe tries.
type lack struct {
	what string
	err  error
}

func (l lack) Error() string { return fmt.Sprintf("try %s: %v", l.what, l.err) }
func (l lack) Unwrap() error { return l.err }

// serviceProbes try what it takes to serve Services without kube-proxy.
func serviceProbes() []probe {
	return []probe{
		{name: "BPF prefix maps", try: func() error { return features.HaveMapType(ebpf.LPMTrie) }},
		{name: "BPF programs at sockets", try: haveSocketPrograms},
		{name: "BPF helpers at sockets", try: func() error {
			return haveHelpers(ebpf.CGroupSockAddr, asm.FnGetSocketCookie, asm.FnGetNetnsCookie, asm.FnSetRetval, asm.FnKtimeGetCoarseNs)
		}},
		{name: "BPF helpers on interfaces", try: func() error {
			return haveHelpers(ebpf.SchedCLS, asm.FnRedirectNeigh, asm.FnFibLookup, asm.FnSkbAdjustRoom)
		}},
	}
}

// haveSocketPrograms loads the least program for each hook at sockets. The kernel knows a hook or refuses to load.
func haveSocketPrograms() error {
	hooks := []struct {
		name string
		at   ebpf.AttachType
	}{
		{"cgroup/connect4", ebpf.AttachCGroupInet4Connect},
		{"cgroup/connect6", ebpf.AttachCGroupInet6Connect},
		{"cgroup/sendmsg4", ebpf.AttachCGroupUDP4Sendmsg},
		{"cgroup/recvmsg4", ebpf.AttachCGroupUDP4Recvmsg},
		{"cgroup/recvmsg6", ebpf.AttachCGroupUDP6Recvmsg},
		{"cgroup/getpeername4", ebpf.AttachCgroupInet4GetPeername},
		{"cgroup/getpeername6", ebpf.AttachCgroupInet6GetPeername},
	}
	for _, hook := range hooks {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.CGroupSockAddr, AttachType: hook.at, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
		})
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
			return lack{what: "hook " + hook.name, err: ebpf.ErrNotSupported}
		}
		if err != nil {
			return fmt.Errorf("load a program for %s: %w", hook.name, err)
		}
		if err := prog.Close(); err != nil {
			return fmt.Errorf("unload a program for %s: %w", hook.name, err)
		}
	}
	return nil
}

// haveHelpers asks for each helper and names the first that is not there.
func haveHelpers(at ebpf.ProgramType, helpers ...asm.BuiltinFunc) error {
	for _, helper := range helpers {
		err := features.HaveProgramHelper(at, helper)
		if errors.Is(err, ebpf.ErrNotSupported) {
			return lack{what: fmt.Sprintf("helper %v for %v programs", helper, at), err: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
