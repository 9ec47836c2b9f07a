package testbed

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// table is a hash table that no data plane uses, and the programs that look into it.
type table struct {
	m        *ebpf.Map
	programs []*ebpf.Program
}

const (
	// keyWords is how long a key is, in 4 bytes: an address, a port and a protocol, as a Service has them.
	keyWords = 5
	// valueSize is about what is known of a Service.
	valueSize = 32
)

// newTable makes one with n entries.
func newTable(n int) (*table, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "yardstick", Type: ebpf.Hash, KeySize: 4 * keyWords, ValueSize: valueSize, MaxEntries: uint32(n)}) //nolint:gosec // far below
	if err != nil {
		return nil, fmt.Errorf("make a table of %d entries: %w", n, err)
	}
	t := &table{m: m}
	keys, values := make([][4 * keyWords]byte, n), make([][valueSize]byte, n)
	for i := range keys {
		binary.NativeEndian.PutUint32(keys[i][:], uint32(i)) //nolint:gosec // far below
	}
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("fill a table of %d entries: %w", n, err), t.close())
	}
	return t, nil
}

func (t *table) close() error {
	err := t.m.Close()
	for _, p := range t.programs {
		err = errors.Join(err, p.Close())
	}
	return err
}

// lookup loads a program that looks entry i up and does nothing else. It stays until the table is closed.
func (t *table) lookup(i int) (ebpf.ProgramID, error) {
	const key = -4 * keyWords
	instructions := asm.Instructions{asm.StoreImm(asm.RFP, key, int64(i), asm.Word)}
	for word := 1; word < keyWords; word++ {
		instructions = append(instructions, asm.StoreImm(asm.RFP, key+4*int16(word), 0, asm.Word)) //nolint:gosec // below 5
	}
	instructions = append(instructions,
		asm.LoadMapPtr(asm.R1, t.m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "yardstick", Type: ebpf.SchedCLS, License: "GPL", Instructions: instructions})
	if err != nil {
		return 0, fmt.Errorf("load a program that looks something up: %w", err)
	}
	t.programs = append(t.programs, prog)
	info, err := prog.Info()
	if err != nil {
		return 0, fmt.Errorf("describe a program that looks something up: %w", err)
	}
	id, _ := info.ID()
	return id, nil
}
