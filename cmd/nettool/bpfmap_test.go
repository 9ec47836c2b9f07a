package main

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/cmd/nettool/internal/prober"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/verify/probe"
)

// mountBPFFS mounts a bpffs of the test's own.
func mountBPFFS(t *testing.T) string {
	t.Helper()
	netnstest.RequireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("bpffs", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the bpffs: %v", err)
		}
	})
	return dir
}

// pinned makes a map as spec says, with these entries, and pins it.
func pinned(t *testing.T, spec *ebpf.MapSpec, path string, entries map[string]string) {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatalf("make a map: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	for key, value := range entries {
		if err := m.Put([]byte(key), []byte(value)); err != nil {
			t.Fatalf("fill the map: %v", err)
		}
	}
	if err := m.Pin(path); err != nil {
		t.Fatalf("pin the map: %v", err)
	}
}

func readMap(t *testing.T, spec probe.BPFMap) probe.Reply {
	t.Helper()
	return prober.Prober{}.Run(t.Context(), probe.Request{BPFMap: &spec}, func(probe.Reply) {})
}

func structOf(name string, size uint32, members ...btf.Member) *btf.Struct {
	return &btf.Struct{Name: name, Size: size, Members: members}
}

// TestBPFMapByItsTypes reads a struct with an address and a port as they stand in packets.
func TestBPFMapByItsTypes(t *testing.T) {
	dir := mountBPFFS(t)
	u8, u16, u32 := &btf.Int{Name: "unsigned char", Size: 1}, &btf.Int{Name: "unsigned short", Size: 2}, &btf.Int{Name: "unsigned int", Size: 4}
	be16 := &btf.Typedef{Name: "__be16", Type: u16}
	addr := structOf("addr", 16, btf.Member{Name: "b", Type: &btf.Array{Index: u32, Type: u8, Nelems: 16}})
	key := structOf("where", 20, btf.Member{Name: "addr", Type: addr},
		btf.Member{Name: "port", Type: be16, Offset: 16 * 8}, btf.Member{Name: "host", Type: u16, Offset: 18 * 8})
	value := structOf("what", 8, btf.Member{Name: "count", Type: u32}, btf.Member{Name: "kind", Type: &btf.Enum{Name: "kinds", Size: 1}, Offset: 4 * 8})
	ip := netip.MustParseAddr("::ffff:10.96.0.1").As16()
	pinned(t, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, ValueSize: 8, MaxEntries: 4, Key: key, Value: value},
		filepath.Join(dir, "lab_map"), map[string]string{string(ip[:]) + "\x1f\x90\x02\x00": "\x03\x00\x00\x00\x02\x00\x00\x00"})

	reply := readMap(t, probe.BPFMap{Path: dir + "/lab_*", Key: "where", Value: "what"})
	if reply.Error != "" || len(reply.BPFMap.Entries) != 1 {
		t.Fatalf("got %+v", reply)
	}
	got := [2]string{string(reply.BPFMap.Entries[0].Key), string(reply.BPFMap.Entries[0].Value)}
	want := [2]string{`{"addr":{"b":"00000000000000000000ffff0a600001"},"host":2,"port":8080}`, `{"count":3,"kind":2}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []struct {
		spec probe.BPFMap
		part string
	}{
		{probe.BPFMap{Path: dir + "/other"}, "0 are at"},
		{probe.BPFMap{Path: dir + "/lab_map", Key: "nowhere", Value: "what"}, "find struct nowhere"},
		{probe.BPFMap{Path: dir + "/lab_map", Key: "what", Value: "what"}, "a key has 20 bytes, its type 8"},
		{probe.BPFMap{Path: dir + "/lab_map"}, "a key has 20 bytes, its type 4"},
	} {
		if reply := readMap(t, bad.spec); !strings.Contains(reply.Error, bad.part) {
			t.Errorf("%+v: error %q, want %q", bad.spec, reply.Error, bad.part)
		}
	}
}

func TestBPFMapEntriesOfAnArray(t *testing.T) {
	dir := mountBPFFS(t)
	pinned(t, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 8}, filepath.Join(dir, "lab_array"),
		map[string]string{"\x05\x00\x00\x00": "\x07\x00\x00\x00"})
	reply := readMap(t, probe.BPFMap{Path: dir + "/lab_array", Indexes: []uint32{5, 1}})
	if reply.Error != "" {
		t.Fatal(reply.Error)
	}
	want := []probe.BPFEntry{{Key: []byte("5"), Value: []byte("7")}, {Key: []byte("1"), Value: []byte("0")}}
	if diff := cmp.Diff(want, reply.BPFMap.Entries); diff != "" {
		t.Error(diff)
	}
	if reply := readMap(t, probe.BPFMap{Path: dir + "/lab_array", Indexes: []uint32{8}}); !strings.Contains(reply.Error, "no entry 8") {
		t.Errorf("an entry beyond the end: %+v", reply)
	}
}
