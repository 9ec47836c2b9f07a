package bpf_test

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/netnstest"
)

func TestKnownFlowsLoadNoConstants(t *testing.T) {
	netnstest.RequireRoot(t)
	for prog, loadSpec := range map[string]func() (*ebpf.CollectionSpec, error){"lab_from_pod": bpf.LoadPod, "lab_from_network": bpf.LoadNetdev} {
		if loads := constantLoads(t, prog, loadSpec, func(*ebpf.CollectionSpec) {}); loads == 0 {
			t.Errorf("%s loads no constants as the compiler made it: this says nothing", prog)
		}
		if loads := constantLoads(t, prog, loadSpec, bpf.InlineConstants); loads != 0 {
			t.Errorf("%s loads %d constants", prog, loads)
		}
	}
}

// constantLoads counts the addresses of constants in what packets of known flows run through.
func constantLoads(t *testing.T, prog string, loadSpec func() (*ebpf.CollectionSpec, error), prepare func(*ebpf.CollectionSpec)) (n int) {
	t.Helper()
	spec, err := loadSpec()
	must(t, err)
	must(t, spec.Variables[bpf.PodVarCfgMode].Set(bpf.PodLabModeLAB_EBPF))
	prepare(spec)
	insns, err := infoOf(t, spec, prog).Instructions()
	must(t, err)
	for i, ins := range insns {
		if i > 0 && btf.FuncMetadata(&ins) != nil {
			break // the first function that decides
		}
		if ins.IsLoadFromMap() && ins.Src == asm.PseudoMapValue {
			n++
		}
	}
	return n
}

// What a jump leads to may load by another address than the one right before it.
func TestInlineConstants(t *testing.T) {
	address := asm.Instruction{OpCode: asm.LoadImmOp(asm.DWord), Dst: asm.R1, Src: asm.PseudoMapValue, Constant: 4 << 32}.WithReference(".rodata")
	for name, c := range map[string]struct {
		between, load asm.Instruction
		inlined       bool
	}{
		"a load":                        {asm.Mov.Imm(asm.R2, 0), asm.LoadMem(asm.R1, asm.R1, 0, asm.Half), true},
		"one that is jumped to":         {asm.Instruction{OpCode: asm.JEq.Op(asm.ImmSource), Dst: asm.R3, Offset: 2}, asm.LoadMem(asm.R1, asm.R1, 0, asm.Half), false},
		"one that keeps the address":    {asm.Mov.Imm(asm.R2, 0), asm.LoadMem(asm.R2, asm.R1, 0, asm.Half), false},
		"one of a part":                 {asm.Mov.Imm(asm.R2, 0), asm.LoadMem(asm.R1, asm.R1, 0, asm.Byte), false},
		"one from beside":               {asm.Mov.Imm(asm.R2, 0), asm.LoadMem(asm.R1, asm.R1, 2, asm.Half), false},
		"one by another register":       {asm.Mov.Imm(asm.R2, 0), asm.LoadMem(asm.R2, asm.R2, 0, asm.Half), false},
		"one that is no load, but adds": {asm.Mov.Imm(asm.R2, 0), asm.Add.Reg(asm.R1, asm.R1), false},
	} {
		spec := &ebpf.CollectionSpec{
			Variables: map[string]*ebpf.VariableSpec{"cfg": {Name: "cfg", SectionName: ".rodata", Offset: 4, Value: []byte{0x34, 0x92}}},
			Programs:  map[string]*ebpf.ProgramSpec{"prog": {Instructions: asm.Instructions{c.between, address, c.load, asm.Return()}}},
		}
		bpf.InlineConstants(spec)
		got := spec.Programs["prog"].Instructions
		want := asm.Instructions{c.between, address, c.load, asm.Return()}
		if c.inlined {
			want[1], want[2] = asm.LoadImm(asm.R1, 0x9234, asm.DWord), asm.Instruction{OpCode: asm.Ja.Op(asm.ImmSource)}
		}
		for i := range want {
			if got[i].OpCode != want[i].OpCode || got[i].Constant != want[i].Constant || got[i].Dst != want[i].Dst || got[i].Src != want[i].Src || got[i].Offset != want[i].Offset {
				t.Errorf("%s: instruction %d is %v, not %v", name, i, got[i], want[i])
			}
		}
	}
}
