package prober

import (
	"errors"
	"fmt"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/verify/probe"
)

// send writes whole IPv4 packets, header included, so that the source address
// is what the request says and not what the kernel would choose.
func send(spec probe.Send) (*probe.SendResult, error) {
	packet, err := forge(spec)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket (needs CAP_NET_RAW): %w", err)
	}
	result := &probe.SendResult{}
	to := &unix.SockaddrInet4{Addr: spec.Destination.As4()}
	for range max(spec.Count, 1) {
		if err := unix.Sendto(fd, packet, 0, to); err != nil {
			return result, errors.Join(failf("send from %s: %w", spec.Source, err), unix.Close(fd))
		}
		result.Sent++
	}
	return result, unix.Close(fd)
}

func forge(spec probe.Send) ([]byte, error) {
	if !spec.Source.Is4() || !spec.Destination.Is4() {
		return nil, fmt.Errorf("send from %s to %s: both must be IPv4 addresses", spec.Source, spec.Destination)
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, SrcIP: spec.Source.AsSlice(), DstIP: spec.Destination.AsSlice()}
	var transport gopacket.SerializableLayer
	switch spec.Protocol {
	case "udp":
		udp := &layers.UDP{SrcPort: layers.UDPPort(spec.SourcePort), DstPort: layers.UDPPort(spec.DestinationPort)}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, fmt.Errorf("make the packet: %w", err)
		}
		ip.Protocol, transport = layers.IPProtocolUDP, udp
	case "icmp":
		ip.Protocol = layers.IPProtocolICMPv4
		transport = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: spec.SourcePort, Seq: 1}
	default:
		return nil, fmt.Errorf("send %q packets: the protocol is udp or icmp", spec.Protocol)
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, ip, transport, gopacket.Payload(spec.Payload)); err != nil {
		return nil, fmt.Errorf("make the packet: %w", err)
	}
	return buffer.Bytes(), nil
}
