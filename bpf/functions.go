package bpf

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// conntrack is the module that functions of the kernel's connection tracking are in, where they are not in the kernel itself.
const conntrack = "nf_conntrack"

// ResolveFunctions answers in the programs whether the kernel has a function that they may call. The loader would answer,
// too, but for a function in a module by an instruction that kernels refuse.
func ResolveFunctions(spec *ebpf.CollectionSpec, kernel *btf.Cache) error {
	for _, prog := range spec.Programs {
		for i := range prog.Instructions {
			ins := &prog.Instructions[i]
			if !asksForFunction(ins) {
				continue
			}
			has, err := hasFunction(kernel, ins.Reference())
			if err != nil {
				return fmt.Errorf("look for the kernel's %s: %w", ins.Reference(), err)
			}
			*ins = asm.LoadImm(ins.Dst, has, asm.DWord).WithSource(ins.Source())
		}
	}
	return nil
}

// asksForFunction says whether an instruction loads the address of a function, which is all that programs ask of addresses
// that are in no map.
func asksForFunction(ins *asm.Instruction) bool {
	return ins.OpCode.IsDWordLoad() && ins.Src == 0 && ins.Constant == 0 && ins.Reference() != ""
}

// hasFunction is 1 or 0.
func hasFunction(kernel *btf.Cache, name string) (int64, error) {
	var function *btf.Func
	for _, types := range []func() (*btf.Spec, error){kernel.Kernel, func() (*btf.Spec, error) { return kernel.Module(conntrack) }} {
		spec, err := types()
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		err = spec.TypeByName(name, &function)
		if err == nil {
			return 1, nil
		}
		if !errors.Is(err, btf.ErrNotFound) {
			return 0, err
		}
	}
	return 0, nil
}
