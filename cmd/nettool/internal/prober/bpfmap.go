package prober

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"wirelab.dev/wirelab/verify/probe"
)

// readMap reads a pinned map by what its BTF says, so that it knows nothing of
// who made it.
func readMap(spec probe.BPFMap) (*probe.BPFMapResult, error) {
	found, err := filepath.Glob(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("look for a pinned map: %w", err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("look for a pinned map: %d are at %s, not one", len(found), spec.Path)
	}
	m, err := ebpf.LoadPinnedMap(found[0], &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open the map at %s: %w", found[0], err)
	}
	defer m.Close()
	r, err := newMapReader(m, spec)
	if err != nil {
		return nil, fmt.Errorf("read the types of the map at %s: %w", found[0], err)
	}
	result := &probe.BPFMapResult{Path: found[0], Entries: []probe.BPFEntry{}}
	if len(spec.Indexes) > 0 {
		result.Entries, err = r.pick(spec.Indexes)
	} else {
		result.Entries, err = r.all()
	}
	if err != nil {
		return nil, fmt.Errorf("read the map at %s: %w", found[0], err)
	}
	return result, nil
}

// mapReader knows a map and the types of its entries.
type mapReader struct {
	m          *ebpf.Map
	key, value btf.Type
}

func newMapReader(m *ebpf.Map, spec probe.BPFMap) (*mapReader, error) {
	number := &btf.Int{Size: 4}
	r := &mapReader{m: m, key: number, value: number}
	if spec.Key == "" && spec.Value == "" {
		return r, r.fits()
	}
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	id, ok := info.BTFID()
	if !ok {
		return nil, errors.New("the kernel has no BTF of it")
	}
	handle, err := btf.NewHandleFromID(id)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return nil, err
	}
	for _, want := range []struct {
		name string
		into *btf.Type
	}{{spec.Key, &r.key}, {spec.Value, &r.value}} {
		if want.name == "" {
			continue
		}
		var found *btf.Struct
		if err := types.TypeByName(want.name, &found); err != nil {
			return nil, fmt.Errorf("find struct %s: %w", want.name, err)
		}
		*want.into = found
	}
	return r, r.fits()
}

// fits holds the types against the sizes that the kernel uses.
func (r *mapReader) fits() error {
	for _, part := range []struct {
		what string
		of   btf.Type
		size uint32
	}{{"key", r.key, r.m.KeySize()}, {"value", r.value, r.m.ValueSize()}} {
		size, err := btf.Sizeof(part.of)
		if err != nil {
			return err
		}
		if uint32(size) != part.size { //nolint:gosec // sizes of BTF types are small
			return fmt.Errorf("a %s has %d bytes, its type %d", part.what, part.size, size)
		}
	}
	return nil
}

func (r *mapReader) all() ([]probe.BPFEntry, error) {
	entries := []probe.BPFEntry{}
	var key, value []byte
	each := r.m.Iterate()
	for each.Next(&key, &value) {
		entry, err := r.entry(key, value)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, each.Err()
}

func (r *mapReader) pick(indexes []uint32) ([]probe.BPFEntry, error) {
	var entries []probe.BPFEntry
	for _, index := range indexes {
		value, err := r.m.LookupBytes(index)
		if err != nil {
			return nil, err
		}
		if value == nil {
			return nil, fmt.Errorf("it has no entry %d", index)
		}
		entry, err := r.entry(binary.NativeEndian.AppendUint32(nil, index), value)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (r *mapReader) entry(key, value []byte) (probe.BPFEntry, error) {
	k, err := decodeAs(r.key, key)
	if err != nil {
		return probe.BPFEntry{}, fmt.Errorf("read a key: %w", err)
	}
	v, err := decodeAs(r.value, value)
	if err != nil {
		return probe.BPFEntry{}, fmt.Errorf("read a value: %w", err)
	}
	return probe.BPFEntry{Key: k, Value: v}, nil
}

// decodeAs writes raw as JSON.
func decodeAs(t btf.Type, raw []byte) (json.RawMessage, error) {
	v, err := decodeType(t, raw, binary.NativeEndian)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
