package bpf_test

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// What a packet costs in a test run, beside a program that does nothing, whose time is the test run's.
// The packet is one that the programs do not change, so that every repetition takes the same way.
func BenchmarkPrograms(b *testing.B) {
	f := newFixture(b, drops)
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	must(b, err)
	defer empty.Close()
	far := fromA(addrFar, tcpProto, tcp(1000, 80)).build()
	tracked := fromA(addrB, tcpProto, tcp(1000, 80)).build()
	must(b, f.LabKernelCt.Put(flow(tcpProto, 1000, 80), uint8(0)))
	toB := ipv4{src: addrFar, dst: addrB, srcMAC: podA, dstMAC: podA, ttl: 63, proto: tcpProto, payload: tcp(1000, 80)}.build()
	for _, c := range []struct {
		name  string
		prog  *ebpf.Program
		frame []byte
	}{
		{"empty", empty, far},
		{"pod to another node", f.LabFromPod, far},
		{"pod to a local pod, tracked", f.LabFromPod, tracked},
		{"stack to a local pod", f.LabToPod, toB},
	} {
		b.Run(c.name, func(b *testing.B) {
			f.ns.Do(func() {
				_, err := c.prog.Run(&ebpf.RunOptions{Data: c.frame, Context: skbContext(f.ifA), Repeat: uint32(b.N)})
				must(b, err)
			})
		})
	}
}
