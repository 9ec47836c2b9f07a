package bpf

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// InlineConstants replaces loads of cfg_ variables by their values, once these are set. The verifier takes
// the values into account, and removes the branches that they rule out, but not the loads: on the way of a
// packet of a known flow they were all that waited for the memory that the variables are in.
func InlineConstants(spec *ebpf.CollectionSpec) {
	values := map[uint32][]byte{} // by offset in their section
	for _, v := range spec.Variables {
		if v.SectionName == rodata {
			values[v.Offset] = v.Value
		}
	}
	for _, prog := range spec.Programs {
		inlineConstants(prog.Instructions, values)
	}
}

// rodata is the section of variables that do not change once they are loaded.
const rodata = ".rodata"

// inlineConstants does it where the variable's address is put into a register right before, and lost with the
// load. No instruction changes its place.
func inlineConstants(insns asm.Instructions, values map[uint32][]byte) {
	targets := jumpTargets(insns)
	var address *asm.Instruction // the instruction before, if it is one
	for iter := insns.Iterate(); iter.Next(); {
		this := iter.Ins
		if address != nil && isLoadOver(this, address.Dst) && !targets[iter.Offset] {
			value := values[uint32(uint64(address.Constant)>>32)] //nolint:gosec // the half that is the offset
			if len(value) == this.OpCode.Size().Sizeof() {
				*address = asm.LoadImm(address.Dst, number(value), asm.DWord).WithMetadata(address.Metadata).WithReference("")
				*this = asm.Instruction{OpCode: asm.Ja.Op(asm.ImmSource), Metadata: this.Metadata} // to the next, which is to do nothing
			}
		}
		address = nil
		if this.IsLoadFromMap() && this.Src == asm.PseudoMapValue && this.Reference() == rodata {
			address = this
		}
	}
}

// isLoadOver says whether an instruction loads what a register points to into the same register.
func isLoadOver(ins *asm.Instruction, r asm.Register) bool {
	return ins.OpCode.Class() == asm.LdXClass && ins.OpCode.Mode() == asm.MemMode && ins.Offset == 0 && ins.Src == r && ins.Dst == r
}

// jumpTargets are the instructions that are not only reached from the one before.
func jumpTargets(insns asm.Instructions) map[asm.RawInstructionOffset]bool {
	targets := map[asm.RawInstructionOffset]bool{}
	for iter := insns.Iterate(); iter.Next(); {
		if iter.Ins.OpCode.Class().IsJump() {
			targets[iter.Offset+1+asm.RawInstructionOffset(iter.Ins.Offset)] = true //nolint:gosec // backwards, it wraps around and back
		}
	}
	return targets
}

// number is a value of 1 to 8 bytes as BPF has it.
func number(value []byte) int64 {
	var word [8]byte
	copy(word[:], value)
	return int64(binary.LittleEndian.Uint64(word[:])) //nolint:gosec // the same bits
}
