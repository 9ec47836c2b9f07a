package bpf_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// TestObjectsAreForAnyLittleEndianMachine reads the objects as a node does, without a kernel. It also runs as a program for arm64,
// which carries these same objects (hack/release). They are of no architecture: a kernel's structs are found by its BTF, and no
// program is of a type that is given the CPU's registers, which each architecture names otherwise.
func TestObjectsAreForAnyLittleEndianMachine(t *testing.T) {
	portable := []ebpf.ProgramType{ebpf.SchedCLS, ebpf.CGroupSockAddr, ebpf.CGroupSock, ebpf.Tracing}
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"pod": bpf.LoadPod, "host": bpf.LoadHost, "netdev": bpf.LoadNetdev, "sock": bpf.LoadSock, "connected": bpf.LoadConnected,
	} {
		spec, err := load()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if spec.ByteOrder != binary.LittleEndian {
			t.Errorf("%s is %v", name, spec.ByteOrder)
		}
		if len(spec.Programs) == 0 || len(spec.Maps) == 0 {
			t.Errorf("%s has %d programs and %d maps", name, len(spec.Programs), len(spec.Maps))
		}
		for _, p := range spec.Programs {
			if !slices.Contains(portable, p.Type) {
				t.Errorf("%s: %s is of type %s, which may be given registers", name, p.Name, p.Type)
			}
			if p.Type == ebpf.Tracing && p.AttachType != ebpf.AttachTraceIter {
				t.Errorf("%s: %s is attached as %s, whose arguments may be registers", name, p.Name, p.AttachType)
			}
		}
	}
}
