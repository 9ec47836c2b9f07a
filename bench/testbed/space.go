// Package testbed lays out the networks that are compared: hosts, a bridge, and nodes with the real data plane, in
// network namespaces of this machine. It needs root.
//
// Namespaces, BPF file systems and programs live as long as this process has them open, so nothing is left
// behind by one that is killed, but for an empty cgroup, which the next run removes.
package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bench/workload"
)

// Space is a network namespace.
type Space struct {
	name string
	fd   int
	nl   *netlink.Handle
}

func newSpace(name string) (*Space, error) {
	s := &Space{name: name, fd: -1}
	err := workload.Here().Do(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		s.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err == nil {
		s.nl, err = netlink.NewHandleAt(netns.NsHandle(s.fd), unix.NETLINK_ROUTE)
	}
	if err == nil {
		err = s.up("lo")
	}
	if err == nil {
		err = s.tune()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make network namespace %s: %w", name, err), s.close())
	}
	return s, nil
}

// tune makes connections alike: from many ports, and none knows what another has learned of the path.
func (s *Space) tune() error {
	for _, setting := range [][2]string{
		{"net/ipv6/conf/all/disable_ipv6", "1"},
		{"net/ipv6/conf/default/disable_ipv6", "1"},
		{"net/ipv4/ip_local_port_range", "1024 65535"},
		{"net/ipv4/tcp_no_metrics_save", "1"},
	} {
		if err := s.sysctl(setting[0], setting[1]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Space) close() error {
	if s.nl != nil {
		s.nl.Close()
	}
	if s.fd < 0 {
		return nil
	}
	return unix.Close(s.fd)
}

// Do calls f on a thread in the namespace. Processes that it starts are there, too.
func (s *Space) Do(f func() error) error {
	if err := (workload.Place{NetNS: s.fd, CPU: -1}).Do(f); err != nil {
		return fmt.Errorf("in %s: %w", s.name, err)
	}
	return nil
}

func (s *Space) sysctl(path, value string) error {
	return s.Do(func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0o644) })
}

// run runs a command in the namespace with input.
func (s *Space) run(input string, command ...string) error {
	return s.Do(func() error {
		cmd := exec.Command(command[0], command[1:]...)
		var words bytes.Buffer
		cmd.Stdin, cmd.Stderr = strings.NewReader(input), &words
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("run %q: %w: %.500s", strings.Join(command, " "), err, words.String())
		}
		return nil
	})
}

func (s *Space) link(device string) (netlink.Link, error) {
	l, err := s.nl.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("look up %s in %s: %w", device, s.name, err)
	}
	return l, nil
}

func (s *Space) up(device string) error {
	l, err := s.link(device)
	if err != nil {
		return err
	}
	if err := s.nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up in %s: %w", device, s.name, err)
	}
	return nil
}

// connect makes a veth pair between two namespaces, both ends up.
func connect(a *Space, aName string, b *Space, bName string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	if err := a.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(b.fd)}); err != nil {
		return fmt.Errorf("make veth %s of %s to %s of %s: %w", aName, a.name, bName, b.name, err)
	}
	return errors.Join(a.up(aName), b.up(bName))
}

func (s *Space) addAddr(device string, addr netip.Prefix) error {
	l, err := s.link(device)
	if err != nil {
		return err
	}
	if err := s.nl.AddrAdd(l, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("add address %s to %s of %s: %w", addr, device, s.name, err)
	}
	return nil
}

// addGateway makes device lead everywhere, by way of a neighbour that is known for good, with packets of up to mtu
// bytes.
func (s *Space) addGateway(device string, via netip.Addr, mac net.HardwareAddr, mtu int) error {
	if err := errors.Join(s.addRoute(device, netip.PrefixFrom(via, 32)), s.addNeighbour(device, via, mac)); err != nil {
		return err
	}
	l, err := s.link(device)
	if err == nil {
		err = s.nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Gw: via.AsSlice(), MTU: mtu})
	}
	if err != nil {
		return fmt.Errorf("add gateway %s to %s: %w", via, s.name, err)
	}
	return nil
}

// addRoute makes the addresses of a prefix neighbours at device.
func (s *Space) addRoute(device string, to netip.Prefix) error {
	l, err := s.link(device)
	if err == nil {
		err = s.nl.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipNet(to)})
	}
	if err != nil {
		return fmt.Errorf("add a route to %s to %s: %w", to, s.name, err)
	}
	return nil
}

// addNeighbour says for good which MAC address a neighbour has.
func (s *Space) addNeighbour(device string, addr netip.Addr, mac net.HardwareAddr) error {
	l, err := s.link(device)
	if err == nil {
		err = s.nl.NeighAdd(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac})
	}
	if err != nil {
		return fmt.Errorf("add neighbour %s to %s: %w", addr, s.name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
