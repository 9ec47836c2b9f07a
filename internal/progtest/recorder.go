// Package progtest has test runs of BPF programs show what only devices would see of a packet: by which key it goes into a
// tunnel and to which device it is redirected. And it gives a packet the key that it came out of a tunnel with.
package progtest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Key is a tunnel's of one packet.
type Key struct {
	Network uint32     // its number: the sender's identity
	Node    netip.Addr // at the other end
	TTL     uint8
	TOS     uint8
	Flags   uint16 // of include/uapi/linux/if_tunnel.h, as the kernel has them
}

// Flags of a key that programs have a say in.
const (
	Checksum     = 0x0001 // the outer datagram has one
	DontFragment = 0x0100
)

// Redirect is where a packet goes; the zero value: nowhere.
type Redirect struct {
	Helper  asm.BuiltinFunc
	Ifindex uint32
}

// Recorder is shared by the programs that it records. They run one at a time.
type Recorder struct {
	tb   testing.TB
	tape *ebpf.Map // one tape
}

// rawKey is struct bpf_tunnel_key, as kernels have it since 6.0.
type rawKey struct {
	ID       uint32
	Remote   [4]uint32
	TOS, TTL uint8
	Flags    uint16
	Label    uint32
	Local    [4]uint32
}

// tape is what a run reads and writes.
type tape struct {
	In       rawKey
	Play     uint32 // whether the packet has that key
	Out      rawKey
	Errno    int32  // of reading Out
	CPU      uint32 // where the run is, counted from 1; 0: there is none
	Redirect Redirect
}

// mine is what the context of a run that is recorded has at cbOffset, the place of cb[0] in struct __sk_buff. A program that is
// attached sees other packets, too, as those by which the kernel looks for IPv6 neighbours and routers.
const (
	mine     = 0x57a9e001
	cbOffset = 48
)

// Own has a run be recorded: the context, a struct __sk_buff, is its.
func (r *Recorder) Own(context []byte) {
	binary.NativeEndian.PutUint32(context[cbOffset:], mine)
}

// NewRecorder makes a recorder that lasts until the test ends.
func NewRecorder(tb testing.TB) *Recorder {
	tb.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "tape", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(tape{})), MaxEntries: 1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.Close() })
	return &Recorder{tb, m}
}

// ComeFrom says what key the packets of the runs to come have: a node's, or with nil none.
func (r *Recorder) ComeFrom(k *Key) {
	r.tb.Helper()
	var t tape
	if k != nil {
		t.Play = 1
		// A key is made for a packet that leaves, whose own end is the other end of one that comes.
		t.In = rawKey{ID: k.Network, TTL: 64, Local: [4]uint32{binary.BigEndian.Uint32(k.Node.AsSlice())}}
	}
	if err := r.tape.Put(uint32(0), &t); err != nil {
		r.tb.Fatal(err)
	}
}

// Last is what the last run gave the packet: the key that it leaves with, nil when it has none but that which it came with,
// and where it goes.
func (r *Recorder) Last() (*Key, Redirect) {
	r.tb.Helper()
	var t tape
	if err := r.tape.Lookup(uint32(0), &t); err != nil {
		r.tb.Fatal(err)
	}
	if t.Errno != 0 || t.Out.Local[0] == 0 {
		return nil, t.Redirect
	}
	return &Key{Network: t.Out.ID, Node: netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, t.Out.Local[0]))), TTL: t.Out.TTL, TOS: t.Out.TOS, Flags: t.Out.Flags}, t.Redirect
}

// redirects are helpers whose first argument is a device, and how many they have.
var redirects = map[asm.BuiltinFunc]int{asm.FnRedirect: 2, asm.FnRedirectPeer: 2, asm.FnRedirectNeigh: 4}

// Record has a program's runs be recorded. The program is called by another in its place, which is of the same name, and
// calls redirecting helpers by functions that write down where to.
func (r *Recorder) Record(spec *ebpf.ProgramSpec) {
	r.tb.Helper()
	source := spec.Instructions[0].Source() // the kernel wants a line of each function
	insns := append(begin("record_"+spec.Name, source, r.caller(spec.Name)), spec.Instructions...)
	for helper := range redirects {
		name := "record_" + helper.String()
		called := false
		for i := range insns {
			if ins := &insns[i]; ins.IsBuiltinCall() && asm.BuiltinFunc(ins.Constant) == helper {
				*ins = asm.Call.Label(name).WithSource(ins.Source())
				called = true
			}
		}
		if called {
			insns = append(insns, begin(name, source, r.redirector(helper))...)
		}
	}
	spec.Instructions = insns
}

// at loads the address of a part of the tape.
func (r *Recorder) at(to asm.Register, offset uintptr) asm.Instruction {
	return asm.LoadMapValue(to, r.tape.FD(), uint32(offset))
}

// caller calls the program with a packet that has the key that is wanted, and reads its key afterwards.
func (r *Recorder) caller(program string) asm.Instructions {
	const size, readFlags = int32(unsafe.Sizeof(rawKey{})), 1 << 4 // BPF_F_TUNINFO_FLAGS
	cpu := int16(unsafe.Offsetof(tape{}.CPU))
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, cbOffset, asm.Word),
		asm.JNE.Imm32(asm.R2, mine, "pass_"+program),
		asm.Mov.Reg(asm.R6, asm.R1),
		r.at(asm.R7, 0),
		asm.FnGetSmpProcessorId.Call(),
		asm.Add.Imm(asm.R0, 1),
		asm.StoreMem(asm.R7, cpu, asm.R0, asm.Word),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.R7, int16(unsafe.Offsetof(tape{}.Redirect)), asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, int16(unsafe.Offsetof(tape{}.Play)), asm.Word),
		asm.JEq.Imm(asm.R1, 0, "call_"+program),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, size),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkbSetTunnelKey.Call(),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("call_" + program),
		asm.Call.Label(program),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		r.at(asm.R2, unsafe.Offsetof(tape{}.Out)),
		asm.Mov.Imm(asm.R3, size),
		asm.Mov.Imm(asm.R4, readFlags),
		asm.FnSkbGetTunnelKey.Call(),
		asm.StoreMem(asm.R7, int16(unsafe.Offsetof(tape{}.Errno)), asm.R0, asm.Word),
		asm.StoreImm(asm.R7, cpu, 0, asm.Word),
		asm.Mov.Reg(asm.R0, asm.R8),
		asm.Return(),
		asm.Call.Label(program).WithSymbol("pass_" + program),
		asm.Return(),
	}
}

// redirector calls a helper and writes down that it did, in a run that is recorded: nothing else runs on its CPU meanwhile.
func (r *Recorder) redirector(helper asm.BuiltinFunc) asm.Instructions {
	at, goOn := unsafe.Offsetof(tape{}.Redirect), "go_on_"+helper.String()
	var kept, back asm.Instructions
	for arg := range asm.Register(redirects[helper]) {
		kept = append(kept, asm.Mov.Reg(asm.R6+arg, asm.R1+arg))
		back = append(back, asm.Mov.Reg(asm.R1+arg, asm.R6+arg))
	}
	back[0] = back[0].WithSymbol(goOn)
	return slices.Concat(kept, asm.Instructions{
		asm.FnGetSmpProcessorId.Call(),
		asm.Add.Imm(asm.R0, 1),
		r.at(asm.R5, unsafe.Offsetof(tape{}.CPU)),
		asm.LoadMem(asm.R5, asm.R5, 0, asm.Word),
		asm.JNE.Reg(asm.R5, asm.R0, goOn),
		r.at(asm.R5, at+unsafe.Offsetof(Redirect{}.Helper)),
		asm.StoreImm(asm.R5, 0, int64(helper), asm.Word),
		r.at(asm.R5, at+unsafe.Offsetof(Redirect{}.Ifindex)),
		asm.StoreMem(asm.R5, 0, asm.R6, asm.Word),
	}, back, asm.Instructions{
		helper.Call(),
		asm.Return(),
	})
}

// begin makes instructions a function.
func begin(name string, source fmt.Stringer, insns asm.Instructions) asm.Instructions {
	insns[0] = btf.WithFuncMetadata(insns[0].WithSymbol(name).WithSource(source), &btf.Func{
		Name: name, Type: &btf.FuncProto{Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}}, Linkage: btf.StaticFunc,
	})
	return insns
}
