package netnstest

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// KernelEnv names the row of [Kernels] that the tests run under. hack/kernels sets it; without it they run under this
// machine's kernel, of which no table says anything.
const KernelEnv = "WIRELAB_TEST_KERNEL"

// Feature is something that a test may need of the kernel.
type Feature string

// What not every kernel has, and what none of the table may lack.
const (
	RingBuffers    Feature = "BPF ring buffers"
	RedirectPeer   Feature = "bpf_redirect_peer"
	RedirectNeigh  Feature = "bpf_redirect_neigh"
	FIBLookup      Feature = "bpf_fib_lookup"
	TunnelKeys     Feature = "bpf_skb_set_tunnel_key"
	ConnectHooks   Feature = "BPF hooks of connect"
	VXLAN          Feature = "VXLAN devices"
	Geneve         Feature = "Geneve devices"
	Atomics        Feature = "BPF atomics with results" // the programs: all programs need them
	AskedConntrack Feature = "bpf_skb_ct_lookup"        // programs ask the kernel's connection tracking
	KernelContext  Feature = "bpf_cast_to_kern_ctx"     // programs remember flows
	TCX            Feature = "tcx"
)

// allFeatures are those that a table has.
var allFeatures = append(slices.Clone(everyKernel), Atomics, AskedConntrack, KernelContext, TCX)

// everyKernel is what each of [Kernels] has.
var everyKernel = []Feature{RingBuffers, RedirectPeer, RedirectNeigh, FIBLookup, TunnelKeys, ConnectHooks, VXLAN, Geneve}

// Kernels is what each kernel must have that hack/kernels runs tests under: these, and nothing else of what is above.
var Kernels = map[string][]Feature{
	"5.10":   everyKernel,
	"6.1":    append(slices.Clone(everyKernel), Atomics, AskedConntrack),
	"6.12":   append(slices.Clone(everyKernel), Atomics, AskedConntrack, KernelContext, TCX),
	"newest": append(slices.Clone(everyKernel), Atomics, AskedConntrack, KernelContext, TCX),
}

// OtherKernel says whether the tests run under one of [Kernels]: in an emulated machine, which is slow.
func OtherKernel() bool { return os.Getenv(KernelEnv) != "" }

// Needs skips the test where the kernel lacks a feature. Under a kernel that must have it by the table, the test fails;
// under make test-kernels, one that is skipped under each kernel fails the run.
func Needs(tb testing.TB, wanted ...Feature) {
	tb.Helper()
	RequireRoot(tb)
	row, listed := Kernels[os.Getenv(KernelEnv)]
	for _, f := range wanted {
		switch {
		case Has(tb, f):
		case listed && slices.Contains(row, f):
			tb.Fatalf("kernel %s has no %s, against the table of kernels", os.Getenv(KernelEnv), f)
		case listed:
			tb.Skipf("kernel %s has no %s, as the table of kernels says", os.Getenv(KernelEnv), f)
		default:
			tb.Skipf("this kernel has no %s: make test-kernels runs the test under one that does", f)
		}
	}
}

// Has says whether the kernel has a feature, for a test that expects one thing or the other.
func Has(tb testing.TB, f Feature) bool {
	tb.Helper()
	has, err := f.probe()
	if err != nil {
		tb.Fatalf("probe the kernel for %s: %v", f, err)
	}
	return has
}

// probe tries the feature.
func (f Feature) probe() (bool, error) {
	var err error
	switch f {
	case RingBuffers:
		err = features.HaveMapType(ebpf.RingBuf)
	case RedirectPeer:
		err = features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectPeer)
	case RedirectNeigh:
		err = features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectNeigh)
	case FIBLookup:
		err = features.HaveProgramHelper(ebpf.SchedCLS, asm.FnFibLookup)
	case TunnelKeys:
		err = features.HaveProgramHelper(ebpf.SchedCLS, asm.FnSkbSetTunnelKey)
	case ConnectHooks:
		err = features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSkStorageGet)
	case VXLAN:
		return haveDevice(&netlink.Vxlan{FlowBased: true})
	case Geneve:
		return haveDevice(&netlink.Geneve{FlowBased: true})
	case Atomics:
		return haveAtomics()
	case AskedConntrack:
		return haveFunction("bpf_skb_ct_lookup")
	case KernelContext:
		return haveFunction("bpf_cast_to_kern_ctx")
	case TCX:
		return haveTCX()
	default:
		return false, errors.New("nobody knows how")
	}
	if errors.Is(err, ebpf.ErrNotSupported) {
		return false, nil
	}
	return err == nil, err
}

// haveDevice makes a device in a network namespace that ends with it. It is made from there: one that is made from elsewhere
// takes its port there, too, until the namespace is gone.
func haveDevice(device netlink.Link) (bool, error) {
	fd, err := create()
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	nl, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		return false, err
	}
	defer nl.Close()
	device.Attrs().Name = "probe"
	err = nl.LinkAdd(device)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}

// haveAtomics loads a program that takes what was there before an addition.
func haveAtomics() (bool, error) {
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
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, prog.Close()
}

// haveFunction looks for a function of the kernel's, or of a module's, that programs may call.
func haveFunction(name string) (bool, error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return false, err
	}
	var function *btf.Func
	err = kernel.TypeByName(name, &function)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, btf.ErrNotFound) {
		return false, err
	}
	module, err := btf.LoadKernelModuleSpec("nf_conntrack")
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = module.TypeByName(name, &function)
	if errors.Is(err, btf.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// haveTCX attaches to a device that cannot exist: where tcx is known, that is what is wrong.
func haveTCX() (bool, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return false, err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress})
	switch {
	case errors.Is(err, unix.ENODEV):
		return true, nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return false, nil
	case err != nil:
		return false, err
	}
	return false, fmt.Errorf("a device that cannot exist was found: %w", l.Close())
}
