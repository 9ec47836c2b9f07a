package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// probe is one feature of the kernel and how to try it.
type probe struct {
	name string
	try  func() error
	mend string // empty: boot a newer kernel
}

// kernel tries what the agent's BPF programs are made of.
func (d Doctor) kernel(n Needs) []Finding {
	const newer = "boot a newer kernel: wirelab's nodes need 5.14, and a lab 6.6, which has all that wirelab uses"
	probes := []probe{
		{name: "BPF programs on interfaces", try: func() error { return features.HaveProgramType(ebpf.SchedCLS) }},
		{name: "BPF hash maps", try: func() error { return features.HaveMapType(ebpf.Hash) }},
		{name: "BPF LRU maps", try: func() error { return features.HaveMapType(ebpf.LRUHash) }},
		{name: "BPF ring buffer", try: func() error { return features.HaveMapType(ebpf.RingBuf) }},
		{name: "BPF tcx links", try: haveTCX},
	}
	if n.KubeProxyReplacement {
		probes = append(probes, serviceProbes()...)
	}
	if n.Tunnel != "" {
		probes = append(probes, tunnelProbe(n.Tunnel))
	}
	out := make([]Finding, 0, len(probes)+1)
	for _, p := range probes {
		f := Finding{Name: p.name}
		switch err := p.try(); {
		case err == nil:
			f.State, f.Found = OK, "tried and works"
		case errors.Is(err, ebpf.ErrNotSupported):
			f.State, f.Found, f.Mend = Missing, lacking(err), cmp.Or(p.mend, newer)
		case errors.Is(err, unix.EPERM):
			f.State, f.Found, f.Mend = Unknown, "this user may not try", "run lab doctor as root"
		default:
			f.State, f.Found, f.Mend = Unknown, err.Error(), "run lab doctor as root on the machine itself"
		}
		out = append(out, f)
	}
	return append(out, kernelTypes())
}

// lacking says what is not there: what a probe of several things named, or the thing itself.
func lacking(err error) string {
	if l, ok := errors.AsType[lack](err); ok {
		return "this kernel has no " + l.what
	}
	return "this kernel has none"
}

// haveTCX attaches to an interface that cannot exist: a kernel with tcx looks for the interface, one without refuses
// the request itself.
func haveTCX() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: 1<<31 - 1, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		return l.Close()
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func kernelTypes() Finding {
	f := Finding{Name: "kernel type information", State: OK, Found: "BTF is there"}
	if _, err := btf.LoadKernelSpec(); err != nil {
		f.State, f.Found = Missing, err.Error()
		f.Mend = "boot a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions' kernels are"
	}
	return f
}

// bpffs looks whether the kernel can mount it; nodes mount their own.
func (d Doctor) bpffs() Finding {
	return d.filesystem("bpf file system", "bpf", "boot a kernel with CONFIG_BPF_SYSCALL")
}

// cgroup2 looks whether the kernel can mount it: programs at sockets are attached to a group of its hierarchy, also
// on a machine whose controllers are those of version 1.
func (d Doctor) cgroup2() Finding {
	return d.filesystem("cgroup2 file system", "cgroup2", "boot a kernel with CONFIG_CGROUPS and CONFIG_CGROUP_BPF")
}

func (d Doctor) filesystem(name, kind, mend string) Finding {
	f := Finding{Name: name, State: OK, Found: "the kernel has it"}
	b, err := os.ReadFile(filepath.Join(d.Root, "/proc/filesystems"))
	if err != nil {
		f.State, f.Found, f.Mend = Unknown, err.Error(), "run lab doctor on the machine itself"
		return f
	}
	for line := range strings.Lines(string(b)) {
		if fs := strings.Fields(line); len(fs) > 0 && fs[len(fs)-1] == kind {
			return f
		}
	}
	f.State, f.Found, f.Mend = Missing, "not in /proc/filesystems", mend
	return f
}

// inotify looks at the limits that kubelets, containerd and systemd of all nodes share: they count per user, and all
// nodes' processes are root's.
func (d Doctor) inotify(n Needs) []Finding {
	// Measured on a control plane: 27 instances and 250 watches; the rest is for what people run.
	return []Finding{
		d.limit("inotify instances", "fs.inotify.max_user_instances", max(128, 64*n.Nodes), 512),
		d.limit("inotify watches", "fs.inotify.max_user_watches", max(8192, 2048*n.Nodes), 524288),
	}
}

func (d Doctor) limit(name, key string, need, better int) Finding {
	f := Finding{Name: name, State: OK}
	var have int
	b, err := os.ReadFile(filepath.Join(d.Root, "/proc/sys", strings.ReplaceAll(key, ".", "/")))
	if err == nil {
		_, err = fmt.Sscan(string(b), &have)
	}
	if err != nil {
		f.State, f.Found, f.Mend = Unknown, err.Error(), "look at sysctl "+key
		return f
	}
	f.Found = fmt.Sprintf("%d of %d needed", have, need)
	if have < need {
		f.State, f.Mend = Missing, fmt.Sprintf("raise it: sysctl -w %s=%d", key, better)
	}
	return f
}
