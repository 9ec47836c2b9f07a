package datapath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tracks says whether the kernel has its connection tracking, for whoever uses it: as a module, it may come at any time.
func (d *Datapath) tracks() bool {
	_, err := readSysctl(d.cfg.Proc, "net/netfilter/nf_conntrack_count")
	return err == nil
}

// wakeConntrack has the kernel load its connection tracking, where that is a module: programs ask it whose packets it
// translates, and can do so only if it is there when they are loaded. It tracks nothing until rules want it to.
func (d *Datapath) wakeConntrack() {
	if !d.tracks() {
		// Whoever lists flows has the kernel load what keeps them.
		if _, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET); err != nil {
			d.log.Debug("the kernel has no connection tracking to ask", "err", err)
		}
	}
	d.asksConntrack = d.tracks()
}

// Unasked says what it means that the programs do not ask the kernel's connection tracking, which has come after them. It is
// empty where they ask it, and where there is none.
func (d *Datapath) Unasked() string {
	if !d.cfg.KubeProxyReplacement || d.asksConntrack || !d.tracks() {
		return ""
	}
	return fmt.Sprintf("nf_conntrack was loaded after the agent's programs, which do not ask it: answers to what others' rules translate are dropped at ports %d to %d: restart the agent", d.cfg.nat.low, d.cfg.nat.high)
}

// trackedFlows picks flows that the kernel tracks.
type trackedFlows func(*netlink.ConntrackFlow) bool

// MatchConntrackFlow is called by netlink for each flow.
func (picks trackedFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool { return picks(f) }

// forgetUDP deletes the kernel's entries of UDP flows to host ports whose rule has changed. UDP has no end that the kernel
// could see: a client that keeps sending would reach the former pod, or none.
func (d *Datapath) forgetUDP(before, after []string) error {
	var errs []error
	for _, port := range changedUDPPorts(before, after) {
		toPort := trackedFlows(func(f *netlink.ConntrackFlow) bool {
			return f.Forward.Protocol == unix.IPPROTO_UDP && f.Forward.DstPort == port
		})
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, toPort); err != nil {
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
