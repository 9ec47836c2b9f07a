package netnstest

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LAN is the network that nodes and the outside host are on.
var LAN = netip.MustParsePrefix("192.0.2.0/24")

// NIC is the name that every host's NIC has.
const NIC = "eth0"

// Host is a namespace with a NIC on the LAN.
type Host struct {
	*NS
	// Addr is the address of the NIC.
	Addr netip.Addr
	// BPFFS is a BPF file system of the host's own, mounted until the test ends.
	BPFFS string
}

// Network is a LAN of hosts: a bridge in a namespace of its own.
type Network struct {
	tb     testing.TB
	bridge *NS
	last   netip.Addr
}

// NewNetwork makes a LAN without hosts.
func NewNetwork(tb testing.TB) *Network {
	tb.Helper()
	n := &Network{tb: tb, bridge: New(tb, "bridge"), last: LAN.Addr()}
	n.bridge.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	n.bridge.must(n.bridge.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}), "make bridge")
	n.bridge.up("br0")
	return n
}

// AddHost makes a host and connects it.
func (n *Network) AddHost(name string) *Host {
	n.tb.Helper()
	n.last = n.last.Next()
	h := &Host{NS: New(n.tb, name), Addr: n.last}
	h.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	port := fmt.Sprintf("port%d", n.last.As4()[3])
	Connect(h.NS, NIC, n.bridge, port)
	br, err := n.bridge.nl.LinkByName("br0")
	n.bridge.must(err, "look up bridge")
	p, err := n.bridge.nl.LinkByName(port)
	n.bridge.must(err, "look up port")
	n.bridge.must(n.bridge.nl.LinkSetMaster(p, br), "connect port")
	h.AddAddr(NIC, netip.PrefixFrom(h.Addr, LAN.Bits()))
	h.BPFFS = mount(n.tb, "bpf")
	return h
}

// Connect makes a veth pair between two namespaces, both ends up.
func Connect(a *NS, aName string, b *NS, bName string) {
	a.tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(b.fd)}
	a.must(a.nl.LinkAdd(pair), "make veth "+aName)
	a.up(aName)
	b.up(bName)
}

func (n *NS) up(device string) {
	n.tb.Helper()
	l, err := n.nl.LinkByName(device)
	n.must(err, "look up "+device)
	n.must(n.nl.LinkSetUp(l), "set "+device+" up")
}

// AddAddr gives a device an address.
func (n *NS) AddAddr(device string, addr netip.Prefix) {
	n.tb.Helper()
	l, err := n.nl.LinkByName(device)
	n.must(err, "look up "+device)
	ipNet := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
	n.must(n.nl.AddrAdd(l, &netlink.Addr{IPNet: ipNet}), "add address to "+device)
}

// AddRoute adds a route by a gateway.
func (n *NS) AddRoute(dst netip.Prefix, via netip.Addr) {
	n.tb.Helper()
	ipNet := &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())}
	n.must(n.nl.RouteAdd(&netlink.Route{Dst: ipNet, Gw: via.AsSlice()}), "add route")
}

// mount makes a file system that is mounted nowhere: its path leads through an open file. When the test ends, that is
// closed, and a BPF file system is gone with all that was pinned in it.
func mount(tb testing.TB, kind string) (path string) {
	tb.Helper()
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		tb.Fatalf("open file system %s: %v", kind, err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		tb.Fatalf("create file system %s: %v", kind, err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		tb.Fatalf("mount file system %s: %v", kind, err)
	}
	tb.Cleanup(func() { unix.Close(root) })
	return fmt.Sprintf("/proc/self/fd/%d", root)
}
