package testbed

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/settings"
)

const (
	// vtep is the device of the kernel's own tunnel.
	vtep = "vxlan"
	// vtepPort is its UDP port, that of our tunnels.
	vtepPort = 8472
)

// kernelTunnel makes two hosts with a pod each, whose packets the kernel routes, and sends through its own VXLAN. It is as
// fast as that can be: where each address is, is known for good, no rule of a firewall is asked, and outer packets have no
// checksum, as ours have none.
func (b *Bed) kernelTunnel() (hosts [2]*Space, pods [2]Pod, err error) {
	hosts, pods, err = b.hostsWithPods(KernelTunnel, settings.TunnelOverhead)
	if err != nil {
		return hosts, pods, err
	}
	for i, host := range hosts {
		if err := errors.Join(host.sysctl("net/ipv4/ip_forward", "1"), host.addVTEP(hostAddr(i)), host.routeTo(pods[i])); err != nil {
			return hosts, pods, err
		}
	}
	for i, host := range hosts {
		if err := host.routeThrough(hosts[1-i], hostAddr(1-i), podCIDR(1-i)); err != nil {
			return hosts, pods, err
		}
	}
	return hosts, pods, nil
}

// addVTEP makes the tunnel's device. The netlink library cannot ask for none of the checksums that it has by itself.
func (s *Space) addVTEP(local netip.Addr) error {
	command := fmt.Sprintf("ip link add %s type vxlan id 1 local %s dev %s dstport %d nolearning noudpcsum", vtep, local, nic, vtepPort)
	return errors.Join(s.run("", strings.Fields(command)...), s.up(vtep))
}

// routeTo makes the host lead to a pod of its own.
func (s *Space) routeTo(pod Pod) error {
	inside, err := pod.link(podDevice)
	if err != nil {
		return err
	}
	return errors.Join(s.addRoute(pod.hostIf, netip.PrefixFrom(pod.addr, 32)), s.addNeighbour(pod.hostIf, pod.addr, inside.Attrs().HardwareAddr))
}

// routeThrough makes the tunnel lead to the pods of another host, which has an address at the wire.
func (s *Space) routeThrough(other *Space, addr netip.Addr, pods netip.Prefix) error {
	here, err := s.link(vtep)
	if err != nil {
		return err
	}
	there, err := other.link(vtep)
	if err != nil {
		return err
	}
	index, mac, via := here.Attrs().Index, there.Attrs().HardwareAddr, pods.Addr()
	entry := netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
		IP: addr.AsSlice(), HardwareAddr: mac,
	}
	route := netlink.Route{LinkIndex: index, Dst: ipNet(pods), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := errors.Join(s.nl.NeighAppend(&entry), s.addNeighbour(vtep, via, mac), s.nl.RouteAdd(&route)); err != nil {
		return fmt.Errorf("lead from %s through the tunnel to %s: %w", s.name, pods, err)
	}
	return nil
}
