package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Values are remembered in pieces: a key is a path, and at its end the number of the piece. A list of ports may
// take thousands of them, of which none is allocated before it is needed.
const (
	sysctlKeySize   = 64
	sysctlPieceSize = 32
	sysctlPieces    = 16384
)

type (
	sysctlKey   [sysctlKeySize]byte
	sysctlPiece [sysctlPieceSize]byte
)

func sysctlsSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: sysctlsMap, Type: ebpf.Hash, KeySize: sysctlKeySize, ValueSize: sysctlPieceSize, MaxEntries: sysctlPieces, Flags: unix.BPF_F_NO_PREALLOC}
}

func keyOf(path string, piece int) (key sysctlKey) {
	copy(key[:sysctlKeySize-2], path)
	binary.BigEndian.PutUint16(key[sysctlKeySize-2:], uint16(piece)) //nolint:gosec // not that many
	return key
}

func (k sysctlKey) path() string { return unpad(k[:sysctlKeySize-2]) }

func (k sysctlKey) piece() int { return int(binary.BigEndian.Uint16(k[sysctlKeySize-2:])) }

// remember keeps a value that was found, unless one is remembered already. The first piece is written last:
// without it, the value is not there.
func remember(m *ebpf.Map, path, value string) error {
	var first sysctlPiece
	err := m.Lookup(keyOf(path, 0), &first)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("look up what sysctl %s was: %w", path, err)
	}
	for piece := len(value) / sysctlPieceSize; piece >= 0; piece-- {
		var part sysctlPiece
		copy(part[:], value[piece*sysctlPieceSize:])
		if err := m.Put(keyOf(path, piece), part); err != nil {
			return fmt.Errorf("remember sysctl %s: %w", path, err)
		}
	}
	return nil
}

// forgetSysctl forgets a value, first its first piece, and for reserved ports which of them were added.
func forgetSysctl(m *ebpf.Map, path string) error {
	pieces, err := sysctlMemory(m)
	if err != nil {
		return err
	}
	errs := []error{forget(m, keyOf(path, 0))}
	for key := range pieces {
		if key.path() == path || key.path() == addedPorts && path == reservedPorts {
			errs = append(errs, forget(m, key))
		}
	}
	return errors.Join(errs...)
}

// rememberedSysctls gives the values that were found, by path.
func rememberedSysctls(m *ebpf.Map) (map[string]string, error) {
	pieces, err := sysctlMemory(m)
	if err != nil {
		return nil, err
	}
	return valuesOf(pieces), nil
}

// valuesOf puts the pieces of values together.
func valuesOf(pieces map[sysctlKey]sysctlPiece) map[string]string {
	found := map[string]string{}
	for key := range pieces {
		if key.piece() != 0 || key.path() == addedPorts {
			continue
		}
		var value strings.Builder
		for piece := 0; ; piece++ {
			part, ok := pieces[keyOf(key.path(), piece)]
			value.WriteString(unpad(part[:]))
			if !ok || part[sysctlPieceSize-1] == 0 {
				break
			}
		}
		found[key.path()] = value.String()
	}
	return found
}

func sysctlMemory(m *ebpf.Map) (map[sysctlKey]sysctlPiece, error) {
	pieces := map[sysctlKey]sysctlPiece{}
	if err := eachEntry(m, func(key sysctlKey, part sysctlPiece) { pieces[key] = part }); err != nil {
		return nil, fmt.Errorf("read remembered sysctls: %w", err)
	}
	return pieces, nil
}

// growSysctls puts a map with room for values of any length in the place of one that has not, with all that it
// remembers.
func growSysctls(path string) error {
	old, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open remembered sysctls: %w", err)
	}
	defer old.Close()
	spec := sysctlsSpec()
	if spec.Compatible(old) == nil || old.KeySize() != spec.KeySize || old.ValueSize() != spec.ValueSize {
		return nil
	}
	pieces, err := sysctlMemory(old)
	if err != nil {
		return err
	}
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("create map %s: %w", spec.Name, err)
	}
	defer m.Close()
	for key, part := range pieces {
		if err := m.Put(key, part); err != nil {
			return fmt.Errorf("remember sysctl %s: %w", key.path(), err)
		}
	}
	// There is no moment without one that remembers.
	aside := path + "_new" // a bpffs has no dots in names
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin map %s: %w", spec.Name, err)
	}
	if err := m.Pin(aside); err != nil {
		return fmt.Errorf("pin map %s: %w", spec.Name, err)
	}
	if err := os.Rename(aside, path); err != nil {
		return fmt.Errorf("pin map %s: %w", spec.Name, err)
	}
	return nil
}

func unpad(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
