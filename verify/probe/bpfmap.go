package probe

import "encoding/json"

// BPFMap reads a pinned BPF map with nothing but what the kernel says of it:
// the types of keys and values come from the map's own BTF.
type BPFMap struct {
	// Path is where the map is pinned; it may be a pattern as in
	// [path.Match] that finds exactly one.
	Path string `json:"path"`
	// Key and Value name the structs that the map's BTF describes; empty for
	// a plain number of four bytes.
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
	// Indexes picks entries of an array; empty means every entry there is.
	Indexes []uint32 `json:"indexes,omitempty"`
}

// BPFMapResult holds the entries in the map's own order.
type BPFMapResult struct {
	Path    string     `json:"path"`
	Entries []BPFEntry `json:"entries"`
}

// BPFEntry is one entry. A struct is an object with its fields' names, arrays
// of bytes are hexadecimal text, numbers are in host byte order, also those
// whose type says that they are kept in network byte order.
type BPFEntry struct {
	Key   json.RawMessage `json:"key"`
	Value json.RawMessage `json:"value"`
}
