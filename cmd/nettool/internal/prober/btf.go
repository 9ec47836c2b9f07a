package prober

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// decodeType turns the bytes of a value of type t into what JSON can show. The
// byte order is that of the last typedef which named one, such as __be16.
func decodeType(t btf.Type, raw []byte, order binary.ByteOrder) (any, error) {
	switch t := t.(type) {
	case *btf.Typedef:
		if strings.HasPrefix(t.Name, "__be") {
			order = binary.BigEndian
		}
		return decodeType(t.Type, raw, order)
	case *btf.Const:
		return decodeType(t.Type, raw, order)
	case *btf.Volatile:
		return decodeType(t.Type, raw, order)
	case *btf.Int:
		return decodeNumber(raw, int(t.Size), order)
	case *btf.Enum:
		return decodeNumber(raw, int(t.Size), order)
	case *btf.Array:
		return decodeArray(t, raw, order)
	case *btf.Struct:
		return decodeStruct(t, raw, order)
	default:
		return nil, fmt.Errorf("a value of type %v cannot be shown", t)
	}
}

var errShort = errors.New("its bytes end before its type does")

func decodeNumber(raw []byte, size int, order binary.ByteOrder) (any, error) {
	if len(raw) < size {
		return nil, errShort
	}
	switch size {
	case 1:
		return raw[0], nil
	case 2:
		return order.Uint16(raw), nil
	case 4:
		return order.Uint32(raw), nil
	case 8:
		return order.Uint64(raw), nil
	default:
		return nil, fmt.Errorf("a number of %d bytes cannot be shown", size)
	}
}

func decodeArray(t *btf.Array, raw []byte, order binary.ByteOrder) (any, error) {
	size, err := btf.Sizeof(t.Type)
	if err != nil {
		return nil, err
	}
	count := int(t.Nelems)
	if len(raw) < size*count {
		return nil, errShort
	}
	if size == 1 {
		return hex.EncodeToString(raw[:count]), nil
	}
	items := make([]any, count)
	for i := range items {
		if items[i], err = decodeType(t.Type, raw[i*size:(i+1)*size], order); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func decodeStruct(t *btf.Struct, raw []byte, order binary.ByteOrder) (any, error) {
	fields := map[string]any{}
	for _, m := range t.Members {
		if m.BitfieldSize != 0 {
			return nil, fmt.Errorf("field %s of struct %s is a bit field, which cannot be shown", m.Name, t.Name)
		}
		at := int(m.Offset.Bytes())
		if at > len(raw) {
			return nil, errShort
		}
		v, err := decodeType(m.Type, raw[at:], order)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", m.Name, err)
		}
		fields[m.Name] = v
	}
	return fields, nil
}
