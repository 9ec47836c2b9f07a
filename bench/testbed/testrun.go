package testbed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// testRunAttr is the part of union bpf_attr for BPF_PROG_TEST_RUN, in include/uapi/linux/bpf.h.
type testRunAttr struct {
	fd, verdict         uint32
	sizeIn, sizeOut     uint32
	in, out             uint64
	repeat, nanoseconds uint32
	ctxIn, ctxOut       uint32
	ctx, ctxBack        uint64
	flags, cpu, batch   uint32
	_                   uint32
}

const (
	bpfProgTestRun = 10
	// ifindexOffset is that of __sk_buff.ifindex, contextSize the whole.
	ifindexOffset, contextSize = 40, 192
	// verdictShot is TC_ACT_SHOT.
	verdictShot = 2
)

// testRun has the kernel run a program on a frame so many times and returns the mean time. The frame goes on
// from run to run as the program leaves it. The thread has to be in the device's namespace.
func testRun(prog *ebpf.Program, ifindex int, frame []byte, repeat uint32) (time.Duration, error) {
	context, out := make([]byte, contextSize), make([]byte, 2*len(frame)+256)
	binary.NativeEndian.PutUint32(context[ifindexOffset:], uint32(ifindex)) //nolint:gosec // an interface index
	attr := testRunAttr{
		fd: uint32(prog.FD()), repeat: repeat, //nolint:gosec // a descriptor
		sizeIn: uint32(len(frame)), in: pointer(frame), sizeOut: uint32(len(out)), out: pointer(out), //nolint:gosec // small
		ctxIn: contextSize, ctx: pointer(context),
	}
	errno := unix.EINTR
	for errno == unix.EINTR { // Go's scheduler sends its threads signals
		_, _, errno = unix.Syscall(unix.SYS_BPF, bpfProgTestRun, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	}
	for _, kept := range [][]byte{frame, out, context} {
		runtime.KeepAlive(kept)
	}
	switch {
	case errno != 0:
		return 0, fmt.Errorf("run program: %w", errno)
	case attr.verdict == verdictShot:
		return 0, errors.New("the program dropped the frame that was to be measured")
	}
	return time.Duration(attr.nanoseconds), nil
}

func pointer(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }

const (
	// testRuns is how many runs a time is the median of, and turn how many a program has in a row: the first
	// finds the CPU's caches full of what others did.
	testRuns, turn = 300, 20
	// hot is how often one run repeats the program: less than the frame's TTL, which it may lower each time.
	hot = 200
)

// subject is a frame for a program that a node has attached.
type subject struct {
	node    *Node
	program Program
	frame   []byte
}

// costs are what programs take for frames, and what an empty one takes in the same way on the first one's node,
// measured in turn. Once is for frames that the programs change to something else.
func costs(once bool, subjects ...subject) ([]Cost, error) {
	nothing, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("load an empty program: %w", err)
	}
	defer nothing.Close()
	type timed struct {
		subject
		prog  *ebpf.Program
		times []time.Duration
	}
	all := []timed{{subject: subjects[0], prog: nothing}}
	for _, s := range subjects {
		prog, err := s.program.open()
		if err != nil {
			return nil, err
		}
		defer prog.Close()
		all = append(all, timed{subject: s, prog: prog})
	}
	repeat, runs := uint32(hot), testRuns
	if once {
		repeat, runs = 1, hot*testRuns/10
	}
	// The collector, which has a lot to do when many Services were made, would be in the CPU's caches, too.
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range runs / turn {
		for i := range all {
			one := &all[i]
			err := one.node.Do(func() error {
				for range turn {
					took, err := testRun(one.prog, one.program.ifindex, one.frame, repeat)
					if err != nil {
						return err
					}
					one.times = append(one.times, took)
				}
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.program.Name, err)
			}
		}
	}
	median := func(times []time.Duration) time.Duration {
		slices.Sort(times)
		return times[len(times)/2]
	}
	empty := median(all[0].times)
	var list []Cost
	for _, one := range all[1:] {
		list = append(list, Cost{Program: one.program, Took: median(one.times), Empty: empty})
	}
	return list, nil
}
