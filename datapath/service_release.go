package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// releaseSockets destroys the UDP sockets of the node's own processes that are connected through a Service to a backend
// which the Service no longer has. They send to the backend's own address, so nothing else would lead them to another
// backend. An unconnected socket gets another backend with its next datagram, and stays. Sockets of pods are translated
// per packet: see bpf/sock.c. If the kernel cannot destroy sockets, that is logged once.
func (v *Services) releaseSockets(ctx context.Context) error {
	e := &v.d.services
	if !e.unreleased {
		return nil
	}
	lost, err := v.lostSockets(ctx)
	released := 0
	for _, s := range lost {
		if wrong := s.destroy(); wrong != nil {
			err = errors.Join(err, wrong)
		} else {
			released++
		}
	}
	if released > 0 {
		v.d.log.Info("UDP sockets of the node whose backend is gone are destroyed", "count", released)
	}
	// There is no sock_diag for UDP; or it was compiled without CONFIG_INET_DIAG_DESTROY.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		if !e.cannotRelease {
			v.d.log.Warn("this kernel cannot end connected UDP sockets of the node whose backend is gone: they keep it until their processes connect again", "err", err)
		}
		e.cannotRelease, err = true, nil
	}
	e.unreleased = err != nil
	return err
}

// lostSockets are those whose backend is gone.
func (v *Services) lostSockets(ctx context.Context) (lost []diagSocket, err error) {
	through, err := v.connectedSockets()
	if err != nil || len(through) == 0 {
		return nil, err
	}
	sockets, err := connectedUDP(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		if to, ok := through[s.cookie()]; ok && !v.d.services.balancer.Has(to.Service, to.Backend, s.peer()) {
			lost = append(lost, s)
		}
	}
	return lost, nil
}

// connectedSockets are the UDP sockets of the caller's network namespace, the node's, that have been connected through a Service, by
// their cookies.
func (v *Services) connectedSockets() (map[uint64]bpf.ConnectedUdpSocket, error) {
	it, err := link.AttachIter(link.IterOptions{Program: v.d.progs.services.connected})
	if err != nil {
		return nil, fmt.Errorf("attach to the node's UDP sockets: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("open the list of sockets: %w", err)
	}
	defer r.Close()
	all := map[uint64]bpf.ConnectedUdpSocket{}
	for {
		var s bpf.ConnectedUdpSocket
		err := binary.Read(r, binary.NativeEndian, &s)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the list of sockets: %w", err)
		}
		all[s.Cookie] = s
	}
}
