package passport

import "net/netip"

// endText is an address, with its port where it has one.
type endText struct{ netip.AddrPort }

func (e endText) String() string {
	if e.Port() == 0 {
		return e.Addr().String()
	}
	return e.AddrPort.String()
}
