package testbed

import (
	"fmt"
	"net/netip"
)

// Host is a namespace with a NIC, for a node whose data plane somebody else runs.
type Host struct {
	*Space
	// Addr is the NIC's address.
	Addr netip.Addr
	// BPFFS is a BPF file system of the host's own, Cgroup a cgroup without processes. Their paths are good
	// in every process while this one has the bed open.
	BPFFS, Cgroup string
}

// Host makes a host. What its NIC is wired to is not there for anything else.
func (b *Bed) Host(name string) (*Host, error) {
	pair, err := b.hosts(name)
	if err != nil {
		return nil, err
	}
	h := &Host{Space: pair[0], Addr: hostAddr(0)}
	h.BPFFS, h.Cgroup, err = b.filesystems()
	return h, err
}

// filesystems makes a BPF file system and a cgroup, which are there until the bed is closed.
func (b *Bed) filesystems() (bpffs, cgroup string, err error) {
	fs, bpffs, err := mount("bpf")
	if err != nil {
		return "", "", err
	}
	b.onClose(fs.Close)
	cgroup, err = b.cgroups.add(fmt.Sprint(len(b.cgroups.made)))
	return bpffs, cgroup, err
}

// FD is the namespace's open file, which stays the bed's.
func (s *Space) FD() int { return s.fd }
