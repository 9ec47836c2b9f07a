package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"wirelab.dev/wirelab/internal/settings"
)

// Config is the configuration of a node's data plane. It is not changed after [Open].
type Config struct {
	// Network is what its cluster's network is to be. Its Devices empty means all that connect the node with others, as
	// they come and go: those with a default route, NodeIP, or an address in a network. Its MTU 0 means the smallest of
	// Devices, and where these are not named, that of the NIC that carries NodeIP; when the NIC's changes, pods that
	// come later get the new one. What is empty else has its default.
	settings.Network

	// NodeName is the name this node has in the lists given to the reconcilers.
	NodeName string
	// NodeIP is the address other nodes reach this one by.
	NodeIP netip.Addr
	// PodCIDR holds the addresses of this node's pods. Its first address is the router's.
	PodCIDR netip.Prefix
	// HostRoot is where the node's root file system is mounted; iptables is run from there. Empty
	// means that it is this process's own.
	HostRoot string
	// BPFFS is where bpffs is mounted. Empty means /sys/fs/bpf.
	BPFFS string
	// Proc is where the writable /proc/sys is. Empty means /proc/sys.
	Proc string
	// CgroupRoot is the directory of the cgroup2 hierarchy below which all processes of the node and its
	// pods are; Services are translated for their sockets. Empty means where the node below HostRoot has
	// it mounted, or else the root of the process's own cgroup namespace.
	CgroupRoot string

	// missing are the BPF helpers that the kernel lacks; [Open] fills it in.
	missing []string
	// nat is the range of ports for flows that need one of the node's; [Open] chooses it.
	nat portRange
	// netnsCookie is the kernel's identifier of the node's network namespace; [Open] fills it in.
	netnsCookie uint64
	// recoveries is how many segments in a second, on each CPU, put back lost entries of connections; 0 means
	// recoveries, which tests change.
	recoveries int
	// forceClsact and lackHelpers let tests take the way of older kernels.
	forceClsact bool
	lackHelpers []string
}

// Router is the pods' gateway: the first address of PodCIDR.
func (c Config) Router() netip.Addr { return c.PodCIDR.Masked().Addr().Next() }

// Roles are what the settings amount to on this node's kernel, once [Open] has asked it.
func (c Config) Roles() settings.Roles { return c.Network.Roles(c.missing...) }

// observes says whether events tell of more than drops.
func (c Config) observes() bool {
	return c.BPF.MonitorAggregation != settings.AggregationMaximum || c.Debug.Datapath()
}

// Mode is the one in force.
func (c Config) Mode() settings.Mode { return c.Roles().Mode() }

func (c Config) withDefaults() Config {
	def := settings.Default()
	c.RoutingMode, c.IPAM.Mode = cmp.Or(c.RoutingMode, def.RoutingMode), cmp.Or(c.IPAM.Mode, def.IPAM.Mode)
	c.IPAM.Operator.ClusterPoolIPv4MaskSize = cmp.Or(c.IPAM.Operator.ClusterPoolIPv4MaskSize, def.IPAM.Operator.ClusterPoolIPv4MaskSize)
	c.TunnelProtocol = cmp.Or(c.TunnelProtocol, def.TunnelProtocol)
	c.Flows.Relay.AgentPort = cmp.Or(c.Flows.Relay.AgentPort, def.Flows.Relay.AgentPort)
	c.BPF.MonitorPayload = cmp.Or(c.BPF.MonitorPayload, def.BPF.MonitorPayload)
	c.BPF.MonitorAggregation, c.BPF.CTMax = cmp.Or(c.BPF.MonitorAggregation, def.BPF.MonitorAggregation), cmp.Or(c.BPF.CTMax, def.BPF.CTMax)
	c.recoveries = cmp.Or(c.recoveries, recoveries)
	c.BPFFS, c.Proc = cmp.Or(c.BPFFS, "/sys/fs/bpf"), cmp.Or(c.Proc, "/proc/sys")
	c.PodCIDR = c.PodCIDR.Masked()
	if c.IPv4NativeRoutingCIDR.IsValid() {
		c.IPv4NativeRoutingCIDR = c.IPv4NativeRoutingCIDR.Masked()
	}
	return c
}

// validate reports everything that is wrong with c at once.
func (c Config) validate() error {
	errs := []error{c.Network.Validate("")}
	if c.NodeName == "" {
		errs = append(errs, errors.New("node name is empty"))
	}
	if !c.NodeIP.Is4() {
		errs = append(errs, fmt.Errorf("node address %s is not an IPv4 address", c.NodeIP))
	}
	if !c.PodCIDR.IsValid() || !c.PodCIDR.Addr().Is4() {
		errs = append(errs, fmt.Errorf("pod CIDR %s is not an IPv4 prefix", c.PodCIDR))
	} else if c.PodCIDR.Bits() > 30 {
		errs = append(errs, fmt.Errorf("pod CIDR %s has no room for a router and a pod: use /30 or wider", c.PodCIDR))
	}
	return errors.Join(errs...)
}
