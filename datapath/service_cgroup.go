package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// socketHook is a place for a program at the node's cgroups.
type socketHook struct {
	pin    string
	attach ebpf.AttachType
	prog   *ebpf.Program
}

const socketPinPrefix = "sock_"

func (p *servicePrograms) sockets() []socketHook {
	return []socketHook{
		{"sock_connect4", ebpf.AttachCGroupInet4Connect, p.sock.LabConnect4},
		{"sock_connect6", ebpf.AttachCGroupInet6Connect, p.sock.LabConnect6},
		{"sock_sendmsg4", ebpf.AttachCGroupUDP4Sendmsg, p.sock.LabSendmsg4},
		{"sock_recvmsg4", ebpf.AttachCGroupUDP4Recvmsg, p.sock.LabRecvmsg4},
		{"sock_recvmsg6", ebpf.AttachCGroupUDP6Recvmsg, p.sock.LabRecvmsg6},
		{"sock_peername4", ebpf.AttachCgroupInet4GetPeername, p.sock.LabPeername4},
		{"sock_peername6", ebpf.AttachCgroupInet6GetPeername, p.sock.LabPeername6},
	}
}

// attachSockets puts the socket programs on the node's cgroups. Connections made earlier stay as they are.
func (d *Datapath) attachSockets(_ context.Context) error {
	if !d.cfg.KubeProxyReplacement {
		return nil
	}
	root, err := d.cgroupRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	var errs []error
	for _, h := range d.progs.services.sockets() {
		errs = append(errs, d.pins.attachCgroup(root, h))
	}
	return errors.Join(errs...)
}

// attachCgroup is attach for cgroups.
func (p pins) attachCgroup(root *os.File, h socketHook) error {
	done, err := p.updateCgroup(root, h)
	if done || err != nil {
		return err
	}
	// The root may be mounted nowhere: its path leads through the open file.
	l, err := link.AttachCgroup(link.CgroupOptions{Path: fdPath(root), Attach: h.attach, Program: h.prog})
	if err != nil {
		return fmt.Errorf("attach %s to the node's cgroups: %w", h.pin, err)
	}
	defer l.Close()
	if err := l.Pin(p.link(h.pin)); err != nil {
		return fmt.Errorf("pin link %s: %w", h.pin, err)
	}
	return nil
}

func (p pins) updateCgroup(root *os.File, h socketHook) (done bool, err error) {
	l, err := link.LoadPinnedLink(p.link(h.pin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", h.pin, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("read link %s: %w", h.pin, err)
	}
	id, err := cgroupID(root)
	if err != nil {
		return false, err
	}
	if c := info.Cgroup(); c == nil || c.CgroupId != id || ebpf.AttachType(c.AttachType) != h.attach {
		return false, p.unpinLink(h.pin)
	}
	if id, ok := programID(h.prog); ok && id == info.Program {
		return true, nil
	}
	if err := l.Update(h.prog); err != nil {
		return false, fmt.Errorf("replace program of link %s: %w", h.pin, err)
	}
	return true, nil
}

// cgroupID is the kernel's number for a cgroup: the inode's of its directory.
func cgroupID(root *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return 0, fmt.Errorf("look at the node's cgroups: %w", err)
	}
	return st.Ino, nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// cgroupRoot opens the directory below which all of the node's cgroups are: where the node has cgroup2
// mounted or, on nodes that only know version 1, the root of this process's own cgroup namespace, which
// runtimes share with the node there.
func (d *Datapath) cgroupRoot() (*os.File, error) {
	if d.cfg.CgroupRoot != "" {
		f, err := os.Open(d.cfg.CgroupRoot)
		if err != nil {
			return nil, fmt.Errorf("open the node's cgroups: %w", err)
		}
		return f, nil
	}
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir = filepath.Join(d.cfg.HostRoot, dir)
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return os.Open(dir)
		}
	}
	if err := sharesCgroupNamespace("/proc/self/cgroup"); err != nil {
		return nil, err
	}
	root, err := mountCgroups()
	if err != nil {
		return nil, fmt.Errorf("open the node's cgroups: %w", err)
	}
	return root, nil
}

// sharesCgroupNamespace tells by a process's list of cgroups that its namespace begins above it. A
// container with a namespace of its own is at its root, and would only see its own sockets.
func sharesCgroupNamespace(list string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("read the agent's own cgroups: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && path != "/" {
			return nil
		}
	}
	return errors.New("the node's cgroups cannot be seen, so Services cannot be translated for sockets: mount cgroup2 on /sys/fs/cgroup/unified of the node")
}

// mountCgroups opens cgroup2 as this process's cgroup namespace sees it, without putting it anywhere.
func mountCgroups() (*os.File, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open cgroup2: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("create cgroup2: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount cgroup2: %w", err)
	}
	return os.NewFile(uintptr(mount), "cgroup2"), nil
}

// netnsCookie is the number by which programs know the network namespace of this thread.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return 0, errors.New("kubeProxyReplacement needs kernel 5.14 or newer, whose network namespaces have numbers that programs know: set it to false, or boot a newer kernel")
	}
	if err != nil {
		return 0, fmt.Errorf("read cookie of network namespace: %w", err)
	}
	return cookie, nil
}
