package api

import (
	"fmt"
	"net"
)

// MAC is an Ethernet address. In JSON it is text: "02:00:5e:10:00:01".
type MAC [6]byte

// String is six pairs of hex digits with colons between them.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText is the String.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *MAC) UnmarshalText(text []byte) error {
	hw, err := net.ParseMAC(string(text))
	if err == nil && len(hw) != len(m) {
		err = fmt.Errorf("it has %d bytes", len(hw))
	}
	if err != nil {
		return fmt.Errorf("read Ethernet address %q: %w", text, err)
	}
	*m = MAC(hw)
	return nil
}
