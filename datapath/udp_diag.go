package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	diagConnected     = 1  // TCP_ESTABLISHED, the state that a connected UDP socket is in
	diagRequestLength = 56 // of struct inet_diag_req_v2
	diagIDLength      = 48 // of struct inet_diag_sockid, which follows four bytes in what sock_diag answers
	diagCookie        = 40 // where it has the socket's cookie
)

// diagSocket is a connected UDP socket as sock_diag has it.
type diagSocket struct {
	family uint8
	id     [diagIDLength]byte
}

// diagRequest is a struct inet_diag_req_v2.
type diagRequest struct {
	diagSocket
	states uint32
}

// Len and Serialize make it what netlink sends.
func (r diagRequest) Len() int { return diagRequestLength }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestLength)
	b[0], b[1] = r.family, unix.IPPROTO_UDP
	binary.NativeEndian.PutUint32(b[4:], r.states)
	copy(b[8:], r.id[:])
	return b
}

// connectedUDP lists the connected UDP sockets in this network namespace.
func connectedUDP(ctx context.Context) (sockets []diagSocket, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := dump(ctx, func() ([]diagSocket, error) { return connectedOf(family) })
		if err != nil {
			return nil, fmt.Errorf("list UDP sockets: %w", err)
		}
		sockets = append(sockets, list...)
	}
	return sockets, nil
}

func connectedOf(family uint8) (sockets []diagSocket, err error) {
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddData(diagRequest{diagSocket: diagSocket{family: family}, states: 1 << diagConnected})
	err = req.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(msg []byte) bool {
		if len(msg) < 4+diagIDLength {
			return true
		}
		sockets = append(sockets, diagSocket{family, [diagIDLength]byte(msg[4:])})
		return true
	})
	return sockets, err
}

// peer is whom it is connected to.
func (s diagSocket) peer() netip.AddrPort {
	addr := s.id[20:36]
	if s.family == unix.AF_INET {
		addr = addr[:4]
	}
	peer, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(peer.Unmap(), binary.BigEndian.Uint16(s.id[2:]))
}

// cookie is the number by which programs know it. It is there in two halves, the lower one first.
func (s diagSocket) cookie() uint64 {
	low, high := binary.NativeEndian.Uint32(s.id[diagCookie:]), binary.NativeEndian.Uint32(s.id[diagCookie+4:])
	return uint64(high)<<32 | uint64(low)
}

// destroy ends the socket's connection: its process is told ECONNABORTED. One that is gone already is no error.
func (s diagSocket) destroy() error {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	req.AddData(diagRequest{diagSocket: s})
	if _, err := req.Execute(unix.NETLINK_INET_DIAG, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("destroy the UDP socket connected to %s: %w", s.peer(), err)
	}
	return nil
}
