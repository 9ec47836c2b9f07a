package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// upgrade says how the maps of a layout are made from those of the version before.
type upgrade struct {
	from string
	// changed are the maps whose keys or values differ between the two, in shape or meaning. Their entries are
	// converted; without a conversion the map begins empty. All other maps are used as they are.
	changed map[string]conversion
}

// conversion makes an entry one of the next layout, all in the bytes that the kernel has.
type conversion func(key, value []byte) (newKey, newValue []byte, err error)

// older is a layout whose maps are still pinned, and the way from there to this one.
type older struct {
	dir   string // empty: there is none
	steps []upgrade
}

// older finds the newest layout before this one that has pins, among those that a way leads from.
func (p pins) older() (older, error) {
	var steps []upgrade
	for version := layout; ; version = steps[0].from {
		step, ok := upgrades[version]
		if !ok {
			return older{}, nil
		}
		steps = slices.Insert(steps, 0, step)
		dir := filepath.Join(p.layouts(), step.from)
		_, err := os.Stat(dir)
		if err == nil {
			return older{dir, steps}, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return older{}, fmt.Errorf("look for maps of layout %s: %w", step.from, err)
		}
	}
}

// conversions are those that a map's entries have to go through, in order. carried is false if one step drops them.
func (o older) conversions(name string) (list []conversion, carried bool) {
	for _, step := range o.steps {
		convert, changed := step.changed[name]
		if changed && convert == nil {
			return nil, false
		}
		if changed {
			list = append(list, convert)
		}
	}
	return list, true
}

// hand pins a map that is the same in both layouts for this one too, unless this one has its own. A map that is
// not, and whose entries can be converted, is returned.
func (o older) hand(name, path string) (m *ebpf.Map, convert []conversion, err error) {
	if o.dir == "" {
		return nil, nil, nil
	}
	convert, carried := o.conversions(name)
	if !carried {
		return nil, nil, nil
	}
	m, err = ebpf.LoadPinnedMap(filepath.Join(o.dir, name), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open map %s of an older layout: %w", name, err)
	}
	if len(convert) > 0 {
		return m, convert, nil
	}
	defer m.Close()
	// Pinning the map that was opened by its pin would move the pin, which an older agent may still need.
	same, err := m.Clone()
	if err != nil {
		return nil, nil, fmt.Errorf("clone map %s: %w", name, err)
	}
	defer same.Close()
	if err := same.Pin(path); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, nil, fmt.Errorf("pin map %s of an older layout: %w", name, err)
	}
	return nil, nil, nil
}

// predecessor is a map that another one has taken the place of, and how its entries become the other's.
type predecessor struct {
	before  *ebpf.Map
	now     **ebpf.Map
	convert []conversion // none: they are the same
	flows   bool         // the entries are flows', and say when these were seen
}

// takeOver notes that the map of that name takes another one's place, if there is one.
func (m *maps) takeOver(before *ebpf.Map, name string, slot **ebpf.Map, convert []conversion) {
	if before != nil {
		m.predecessors = append(m.predecessors, predecessor{before, slot, convert, slices.Contains(flowMaps, name)})
	}
}

// carryOver enters what the predecessors have. Flags say what becomes of an entry that is there already; of two of the same
// flow the one stays that was seen last, as programs of both layouts may have run for a while.
func (m *maps) carryOver(flags ebpf.MapUpdateFlags) error {
	for _, p := range m.predecessors {
		if err := p.carryOver(flags); err != nil {
			return fmt.Errorf("carry the entries of map %s over: %w", *p.now, err)
		}
	}
	return nil
}

func (p predecessor) carryOver(flags ebpf.MapUpdateFlags) error {
	var errs []error
	err := eachRaw(p.before, func(key, value []byte) {
		var err error
		for _, convert := range p.convert {
			if key, value, err = convert(key, value); err != nil {
				errs = append(errs, err)
				return
			}
		}
		errs = append(errs, p.enter(key, value, flags))
	})
	return errors.Join(append(errs, err)...)
}

func (p predecessor) enter(key, value []byte, flags ebpf.MapUpdateFlags) error {
	if p.flows {
		there, err := (*p.now).LookupBytes(key)
		if err != nil {
			return err
		}
		flags = ebpf.UpdateNoExist
		if there != nil {
			later, err := seenLater(value, there)
			if err != nil || !later {
				return err
			}
			flags = ebpf.UpdateAny
		}
	}
	if err := (*p.now).Update(key, value, flags); !errors.Is(err, ebpf.ErrKeyExist) {
		return err
	}
	return nil
}

// seenLater says whether the flow of an entry was seen after that of another one.
func seenLater(value, than []byte) (bool, error) {
	var a, b bpf.FlowEntry
	_, err := binary.Decode(value, binary.NativeEndian, &a)
	_, thanErr := binary.Decode(than, binary.NativeEndian, &b)
	return int32(a.Flow.Seen-b.Flow.Seen) > 0, errors.Join(err, thanErr)
}

func (m *maps) closePredecessors() error {
	var errs []error
	for _, p := range m.predecessors {
		errs = append(errs, p.before.Close())
	}
	m.predecessors = nil
	return errors.Join(errs...)
}

// eachRaw is eachBatch in the bytes that the kernel has.
func eachRaw(m *ebpf.Map, f func(key, value []byte)) error {
	keys, values := byteArrays(m.KeySize()), byteArrays(m.ValueSize())
	return batches(m, keys.Interface(), values.Interface(), func(n int) bool {
		for i := range n {
			f(keys.Index(i).Bytes(), values.Index(i).Bytes())
		}
		return true
	})
}

// byteArrays is room for a batch of keys or values.
func byteArrays(size uint32) reflect.Value {
	array := reflect.ArrayOf(int(size), reflect.TypeFor[byte]())
	return reflect.MakeSlice(reflect.SliceOf(array), batchSize, batchSize)
}
