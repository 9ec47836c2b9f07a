package bpf

import (
	"encoding/binary"
	"net/netip"
)

// IPOf is an address as maps have it.
func IPOf(a netip.Addr) IP { return IP{B: a.As16()} }

// AddrOf is the address that a map has, an IPv4 one as such.
func AddrOf(ip IP) netip.Addr { return netip.AddrFrom16(ip.B).Unmap() }

// PortOf is a port in network byte order for one in the host's, and the other way round.
func PortOf(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// AddrPortOf is an address and port that a map has. It is the zero AddrPort where there is no address.
func AddrPortOf(ip IP, port uint16) netip.AddrPort {
	if ip == (IP{}) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(AddrOf(ip), PortOf(port))
}
