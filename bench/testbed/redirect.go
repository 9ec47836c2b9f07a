package testbed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// yardstick makes two hosts with a pod each, and between them the least that BPF can do: a program that
// writes two MAC addresses and redirects, without looking at more than the packet's protocol. What our
// programs do beyond it is what they cost.
func (b *Bed) yardstick() (pods [2]Pod, err error) {
	hosts, pods, err := b.hostsWithPods(Yardstick, 0)
	if err != nil {
		return pods, err
	}
	for i, host := range hosts {
		if err := b.redirect(host, pods[i], hosts[1-i]); err != nil {
			return pods, err
		}
	}
	return pods, nil
}

// redirect puts the programs on one host.
func (b *Bed) redirect(host *Space, pod Pod, other *Space) error {
	ownNIC, err := host.link(nic)
	if err != nil {
		return err
	}
	otherNIC, err := other.link(nic)
	if err != nil {
		return err
	}
	veth, err := host.link(pod.hostIf)
	if err != nil {
		return err
	}
	inside, err := pod.link(podDevice)
	if err != nil {
		return err
	}
	out := redirectTo(asm.FnRedirect, ownNIC.Attrs().Index, otherNIC.Attrs().HardwareAddr, ownNIC.Attrs().HardwareAddr)
	in := redirectTo(asm.FnRedirectPeer, veth.Attrs().Index, inside.Attrs().HardwareAddr, veth.Attrs().HardwareAddr)
	return errors.Join(b.attach(host, veth.Attrs().Index, out), b.attach(host, ownNIC.Attrs().Index, in))
}

// protocolOffset is that of __sk_buff.protocol in include/uapi/linux/bpf.h.
const protocolOffset = 16

// tcxNext leaves a packet to whoever is next: TCX_NEXT in the same file.
const tcxNext = -1

// redirectTo is a program for IPv4 packets, which leaves others alone.
func redirectTo(helper asm.BuiltinFunc, ifindex int, dst, src net.HardwareAddr) asm.Instructions {
	macs := append(append(net.HardwareAddr(nil), dst...), src...)
	ipv4 := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP))
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R1, protocolOffset, asm.Word),
		asm.JNE.Imm(asm.R2, int32(ipv4), "leave"),
		asm.LoadImm(asm.R1, int64(binary.NativeEndian.Uint64(macs)), asm.DWord), //nolint:gosec // the same bits
		asm.StoreMem(asm.RFP, -16, asm.R1, asm.DWord),
		asm.LoadImm(asm.R1, int64(binary.NativeEndian.Uint32(macs[8:])), asm.DWord),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -16),
		asm.Mov.Imm(asm.R4, int32(len(macs))), //nolint:gosec // 12
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.Mov.Imm(asm.R1, int32(ifindex)), //nolint:gosec // an interface index
		asm.Mov.Imm(asm.R2, 0),
		helper.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("leave"),
		asm.Return(),
	}
}

// attach puts a program on a device's ingress until the bed is closed.
func (b *Bed) attach(s *Space, ifindex int, instructions asm.Instructions) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "yardstick", Type: ebpf.SchedCLS, License: "GPL", Instructions: instructions})
	if err != nil {
		return fmt.Errorf("load the redirecting program: %w", err)
	}
	defer prog.Close() // the link keeps it
	return s.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("attach the redirecting program: %w", err)
		}
		b.onClose(l.Close)
		return nil
	})
}
