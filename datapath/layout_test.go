package datapath

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	stdmaps "maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

var writeLayout = flag.Bool("write-layout", false, "write down the maps' layout, of a version that is not written down yet")

// Pinned maps outlive the agent that made them, so a version's keys and values never change: whoever changes one
// raises the version, and writes the new one down with -write-layout. A layout that has not been released yet may be
// written down again, after its file was removed.
func TestLayoutHasItsVersion(t *testing.T) {
	specs, err := mapSpecs()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(stdmaps.Keys(specs)) {
		describeMap(&b, specs[name])
	}
	got, path := b.String(), filepath.Join("testdata", "layouts", layout+".txt")
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *writeLayout {
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(got), 0o644)) //nolint:gosec // it is source
		want = []byte(got)
	}
	if err != nil {
		t.Fatalf("the layout has no file: %v", err)
	}
	if got == string(want) {
		return
	}
	t.Errorf("a map's key or value is not what it was in layout %s: raise the version in internal/api/api.go, go test -run %s -write-layout", layout, t.Name())
	before, after := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("- %s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("+ %s", line)
		}
	}
}

func describeMap(b *strings.Builder, spec *ebpf.MapSpec) {
	fmt.Fprintf(b, "%s\n", spec.Name)
	for _, part := range []struct {
		name string
		size uint32
		typ  btf.Type
	}{{"key", spec.KeySize, spec.Key}, {"value", spec.ValueSize, spec.Value}} {
		fmt.Fprintf(b, "%s %s: %d bytes\n", spec.Name, part.name, part.size)
		if part.typ != nil {
			describeType(b, spec.Name+" "+part.name, 0, part.typ)
		}
	}
}

// describeType writes a line for each field that is no struct itself. Enums count by their size: what numbers mean
// is theirs to say, who never use one twice.
func describeType(b *strings.Builder, path string, offset uint32, typ btf.Type) {
	typ = btf.UnderlyingType(typ)
	switch typ := typ.(type) {
	case *btf.Struct:
		describeMembers(b, path, offset, typ.Members)
		return
	case *btf.Union:
		describeMembers(b, path, offset, typ.Members)
		return
	case *btf.Array:
		describeType(b, fmt.Sprintf("%s[%d]", path, typ.Nelems), offset, typ.Type)
		return
	case *btf.Void:
		return
	}
	size, err := btf.Sizeof(typ)
	fmt.Fprintf(b, "%s: %d bytes at %d", path, size, offset)
	if err != nil {
		fmt.Fprintf(b, ", %v", err)
	}
	b.WriteByte('\n')
}

func describeMembers(b *strings.Builder, path string, offset uint32, members []btf.Member) {
	for _, m := range members {
		describeType(b, path+"."+m.Name, offset+m.Offset.Bytes(), m.Type)
	}
}
