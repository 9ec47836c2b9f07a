package datapath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// udpPort is a filter for tracked UDP flows that were sent to one port.
type udpPort uint16

// MatchConntrackFlow is called by netlink for each flow.
func (p udpPort) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	return f.Forward.Protocol == unix.IPPROTO_UDP && f.Forward.DstPort == uint16(p)
}

// forgetUDP deletes the kernel's entries of UDP flows to host ports whose rule has changed. UDP has no end that the kernel
// could see: a client that keeps sending would reach the former pod, or none.
func (d *Datapath) forgetUDP(before, after []string) error {
	var errs []error
	for _, port := range changedUDPPorts(before, after) {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, udpPort(port)); err != nil {
			errs = append(errs, fmt.Errorf("forget UDP flows to host port %d: %w", port, err))
		}
	}
	return errors.Join(errs...)
}

func changedUDPPorts(before, after []string) []uint16 {
	var ports []uint16
	for _, rules := range [2][2][]string{{before, after}, {after, before}} {
		for _, rule := range rules[0] {
			if port, ok := udpPortOf(rule); ok && !slices.Contains(rules[1], rule) {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

func udpPortOf(rule string) (port uint16, ok bool) {
	for i := range rule {
		if n, _ := fmt.Sscanf(rule[i:], "-p udp -m udp --dport %d ", &port); n == 1 {
			return port, true
		}
	}
	return 0, false
}
