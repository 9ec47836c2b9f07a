package netnstest

import (
	"encoding/binary"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Capture is a packet socket on one device.
type Capture struct {
	ns *NS
	fd int
}

// Frame is a captured frame.
type Frame struct {
	gopacket.Packet
	// Outgoing says that the device sent it, not received it.
	Outgoing bool
}

// Capture starts to capture on a device of the namespace. The socket is closed with the test.
func (n *NS) Capture(device string) *Capture {
	n.tb.Helper()
	l, err := n.nl.LinkByName(device)
	n.must(err, "look up "+device)
	c := &Capture{ns: n, fd: -1}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	n.Do(func() {
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		n.must(err, "open packet socket")
	})
	n.tb.Cleanup(func() { unix.Close(c.fd) })
	err = unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index})
	n.must(err, "bind packet socket to "+device)
	return c
}

// Inject sends a frame out of the device.
func (c *Capture) Inject(frame []byte) {
	c.ns.tb.Helper()
	_, err := unix.Write(c.fd, frame)
	c.ns.must(err, "send frame")
}

// Frames returns what was captured since the last call.
func (c *Capture) Frames() []Frame {
	c.ns.tb.Helper()
	var frames []Frame
	buf := make([]byte, 65536)
	for {
		size, from, err := unix.Recvfrom(c.fd, buf, 0)
		if err == unix.EAGAIN {
			return frames
		}
		c.ns.must(err, "read packet socket")
		frames = append(frames, Frame{
			Packet:   gopacket.NewPacket(append([]byte(nil), buf[:size]...), layers.LayerTypeEthernet, gopacket.Default),
			Outgoing: from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING,
		})
	}
}
