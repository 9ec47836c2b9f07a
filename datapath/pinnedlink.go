package datapath

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// isAttached says whether a pinned link leads to a device or a cgroup. It is what the library would say, by
// three system calls and nothing else: it is asked every second about each pod.
func (p pins) isAttached(name string) bool {
	path, err := unix.BytePtrFromString(p.link(name))
	if err != nil {
		return false
	}
	get := struct {
		path  uint64
		fd    uint32
		flags uint32
	}{path: uint64(uintptr(unsafe.Pointer(path)))}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_OBJ_GET, uintptr(unsafe.Pointer(&get)), unsafe.Sizeof(get))
	runtime.KeepAlive(path)
	if errno != 0 {
		return false
	}
	defer unix.Close(int(fd))
	// struct bpf_link_info: type, id and program, and then what depends on the type. A link to a device has
	// its index next, one to a cgroup its number: 0 when either is gone, or the program was taken off.
	var info [64]byte
	ask := struct {
		fd, size uint32
		info     uint64
	}{fd: uint32(fd), size: uint32(len(info)), info: uint64(uintptr(unsafe.Pointer(&info)))}
	_, _, errno = unix.Syscall(unix.SYS_BPF, unix.BPF_OBJ_GET_INFO_BY_FD, uintptr(unsafe.Pointer(&ask)), unsafe.Sizeof(ask))
	runtime.KeepAlive(&info)
	if errno != 0 {
		return false
	}
	switch where := info[16:]; binary.NativeEndian.Uint32(info[:]) {
	case unix.BPF_LINK_TYPE_CGROUP:
		return binary.NativeEndian.Uint64(where) != 0
	default:
		return binary.NativeEndian.Uint32(where) != 0
	}
}
