package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// flow is an established TCP connection between two pods, to take frames of.
type flow struct {
	conn, peer net.Conn
	from, to   netip.AddrPort
}

func (f *flow) close() error { return errors.Join(f.conn.Close(), f.peer.Close()) }

// flowPort is where flows go that lead to a pod's own address.
const flowPort = 7100

// establish connects the first pod of the cluster to the pod of the second node, by address or through the
// Service, without help by socket programs.
func (c *Cluster) establish(to netip.AddrPort) (_ *flow, err error) {
	client, server := c.Nodes[0].pods[0], c.Nodes[1].pods[0]
	port := uint16(flowPort)
	if to.Addr() != server.addr {
		port = c.backend().Port()
	}
	var listener net.Listener
	err = server.Do(func() error {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(server.addr, port).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	f := &flow{to: to}
	err = client.Do(func() error {
		dialer := net.Dialer{Timeout: 3 * time.Second}
		f.conn, err = dialer.Dial("tcp4", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	if f.peer, err = listener.Accept(); err != nil {
		return nil, errors.Join(err, f.conn.Close())
	}
	f.from = f.conn.LocalAddr().(*net.TCPAddr).AddrPort()
	// Both directions have carried data, so that the flow counts as established everywhere.
	one := make([]byte, 1)
	for _, way := range [][2]net.Conn{{f.conn, f.peer}, {f.peer, f.conn}} {
		_, sent := way[0].Write(one)
		_, got := way[1].Read(one)
		if err := errors.Join(sent, got); err != nil {
			return nil, fmt.Errorf("use the connection: %w", errors.Join(err, f.close()))
		}
	}
	return f, nil
}

// frame is an acknowledgement of the flow on its way from src to dst, or its first segment once more.
func (f *flow) frame(src, dst net.HardwareAddr, first bool) ([]byte, error) {
	ip := &layers.IPv4{
		Version: 4, IHL: 5, TTL: 255, Protocol: layers.IPProtocolTCP, Flags: layers.IPv4DontFragment,
		SrcIP: f.from.Addr().AsSlice(), DstIP: f.to.Addr().AsSlice(),
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(f.from.Port()), DstPort: layers.TCPPort(f.to.Port()), SYN: first, ACK: !first, Window: 512}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: layers.EthernetTypeIPv4}, ip, tcp)
	return buf.Bytes(), err
}
