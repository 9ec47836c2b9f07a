package prober

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/cmd/nettool/internal/link"
	"wirelab.dev/wirelab/verify/probe"
)

// askARP sends a request of its own instead of asking the kernel, whose
// neighbour table may hold an older answer.
func askARP(ctx context.Context, spec probe.ARP) (*probe.ARPResult, error) {
	dev, err := net.InterfaceByName(spec.Interface)
	if err != nil {
		return nil, fmt.Errorf("find device %q: %w", spec.Interface, err)
	}
	source, err := firstIPv4(dev)
	if err != nil {
		return nil, err
	}
	socket, err := link.Open(dev.Index, unix.ETH_P_ARP)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	request, err := arpRequest(dev.HardwareAddr, source, spec.Address)
	if err != nil {
		return nil, err
	}
	if err := socket.Write(request); err != nil {
		return nil, failf("send the ARP request: %w", err)
	}
	defer until(ctx, socket)()
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := socket.Read(buffer)
		if err != nil {
			return nil, failf("nobody says who has %s: %w", spec.Address, explainRead(ctx, err))
		}
		if answer := arpAnswer(buffer[:n], spec.Address); answer != nil {
			return answer, nil
		}
	}
}

func firstIPv4(dev *net.Interface) (net.IP, error) {
	addresses, err := dev.Addrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", dev.Name, err)
	}
	for _, address := range addresses {
		if prefix, ok := address.(*net.IPNet); ok && prefix.IP.To4() != nil {
			return prefix.IP.To4(), nil
		}
	}
	return nil, fmt.Errorf("device %s has no IPv4 address to ask from", dev.Name)
}

func arpRequest(mac net.HardwareAddr, source net.IP, wanted netip.Addr) ([]byte, error) {
	buffer := gopacket.NewSerializeBuffer()
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: mac, DstMAC: broadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: source,
			DstHwAddress: make([]byte, 6), DstProtAddress: wanted.AsSlice(),
		})
	if err != nil {
		return nil, fmt.Errorf("make the ARP request: %w", err)
	}
	return buffer.Bytes(), nil
}

// arpAnswer returns nil when frame is no reply about the wanted address.
func arpAnswer(frame []byte, wanted netip.Addr) *probe.ARPResult {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	link, _ := packet.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	arp, _ := packet.Layer(layers.LayerTypeARP).(*layers.ARP)
	if link == nil || arp == nil || arp.Operation != layers.ARPReply {
		return nil
	}
	if about, _ := netip.AddrFromSlice(arp.SourceProtAddress); about != wanted {
		return nil
	}
	return &probe.ARPResult{MAC: net.HardwareAddr(arp.SourceHwAddress).String(), FrameMAC: link.SrcMAC.String()}
}
