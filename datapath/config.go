package datapath

import (
	"errors"
	"fmt"
	"net/netip"
)

// Mode says how a node carries its pods' traffic.
type Mode string

// ModeKubeProxy delivers to local pods in BPF and leaves everything else, Services included, to the
// node's own IP stack and to kube-proxy.
const ModeKubeProxy Mode = "kubeproxy"

// ModeKubeProxyReplacement translates Services in BPF too, at sockets, at the pods' veths and at the NICs.
// No kube-proxy may run on the node. Routing and masquerading stay the node's own IP stack's.
const ModeKubeProxyReplacement Mode = "kubeproxy-replacement"

// ModeEBPF is what ModeKubeProxyReplacement becomes where [HostRouting] says so: pods' traffic between
// nodes and to the outside does not enter the node's IP stack. In a Config the two ask for the same.
const ModeEBPF Mode = "ebpf"

// services says whether Services are translated here.
func (m Mode) services() bool { return m == ModeKubeProxyReplacement || m == ModeEBPF }

// Aggregation says which packets the programs report to [Datapath.Events].
type Aggregation string

const (
	// AggregationNone reports every packet that a program sees, dropped or not.
	AggregationNone Aggregation = "none"
	// AggregationMaximum reports dropped packets only.
	AggregationMaximum Aggregation = "maximum"
)

// Bounds of Config.Flows. A flow takes about 300 bytes of kernel memory, whether it is there or not.
const (
	MinFlows     = 4096
	DefaultFlows = 65536
	MaxFlows     = 4 << 20
)

// Config is what a node's data plane is told. It is not changed after [Open].
type Config struct {
	// Mode is required.
	Mode Mode
	// NodeName is the name this node has in the lists given to the reconcilers.
	NodeName string
	// NodeIP is the address other nodes reach this one by.
	NodeIP netip.Addr
	// PodCIDR holds the addresses of this node's pods. Its first address is the router's.
	PodCIDR netip.Prefix
	// NativeCIDR is where pods are reached by their own address, from anywhere; traffic to it is not
	// masqueraded. It is required when Masquerade is set.
	NativeCIDR netip.Prefix
	// Masquerade gives traffic from pods to addresses outside NativeCIDR the node's address.
	Masquerade bool
	// BPFMasquerade makes BPF at Devices masquerade instead of iptables. It needs a mode that translates
	// Services, and says nothing when Masquerade is not set.
	BPFMasquerade bool
	// LegacyRouting keeps the node's IP stack in the way of its pods' traffic even where BPF could route.
	LegacyRouting bool
	// AllowFallback goes on with legacy routing on kernels that cannot route in BPF, where the settings ask
	// for that. Without it Open fails there.
	AllowFallback bool
	// DirectNodeRoutes makes [Routes] lay one route for each other node.
	DirectNodeRoutes bool
	// Devices are the network cards by name. Empty means all that connect the node with others, as they come and
	// go: those with a default route, NodeIP, or an address in a network.
	Devices []string
	// MTU of the pods' interfaces in bytes. 0 means the smallest MTU of Devices, and where these are not named, that
	// of the card that carries NodeIP. When the card's changes, pods that come later get the new one.
	MTU int
	// MonitorAggregation defaults to AggregationMaximum.
	MonitorAggregation Aggregation
	// Flows is how many flows are remembered in modes that translate Services: that many entries have lab_ct
	// and lab_nat each. 0 means DefaultFlows.
	Flows int
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

	// Untracked keeps traffic between pods out of the kernel's connection tracking, in modes that
	// translate Services. It is not for nodes whose own rules let answers of pods pass by their
	// connections' state.
	Untracked bool

	// routing is what became of the wish for BPF host routing; [Open] fills it in, and Mode with it.
	routing HostRoutingStatus
	// nat is the range of ports for flows that need one of the node's; [Open] chooses it.
	nat portRange
	// netnsCookie is the kernel's name for the node's network namespace; [Open] fills it in.
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

// masqueradesInBPF says whether the programs at the NICs masquerade.
func (c Config) masqueradesInBPF() bool { return c.Masquerade && c.BPFMasquerade }

func (c Config) withDefaults() Config {
	if c.MonitorAggregation == "" {
		c.MonitorAggregation = AggregationMaximum
	}
	if c.Flows == 0 {
		c.Flows = DefaultFlows
	}
	if c.recoveries == 0 {
		c.recoveries = recoveries
	}
	if c.BPFFS == "" {
		c.BPFFS = "/sys/fs/bpf"
	}
	if c.Proc == "" {
		c.Proc = "/proc/sys"
	}
	c.PodCIDR = c.PodCIDR.Masked()
	if c.NativeCIDR.IsValid() {
		c.NativeCIDR = c.NativeCIDR.Masked()
	}
	return c
}

// validate reports everything that is wrong with c at once.
func (c Config) validate() error {
	var errs []error
	if c.Mode != ModeKubeProxy && !c.Mode.services() {
		errs = append(errs, fmt.Errorf("mode %q is not known: use %q or %q", c.Mode, ModeKubeProxy, ModeKubeProxyReplacement))
	}
	if c.BPFMasquerade && !c.Mode.services() {
		errs = append(errs, fmt.Errorf("masquerading in BPF needs mode %q: its programs are at the NICs only there", ModeKubeProxyReplacement))
	}
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
	if c.Masquerade && (!c.NativeCIDR.IsValid() || !c.NativeCIDR.Addr().Is4()) {
		errs = append(errs, errors.New("masquerading needs the native-routing CIDR, an IPv4 prefix, to know what to leave alone"))
	}
	switch c.MonitorAggregation {
	case "", AggregationNone, AggregationMaximum:
	default:
		errs = append(errs, fmt.Errorf("monitor aggregation %q is not known: use %q or %q", c.MonitorAggregation, AggregationNone, AggregationMaximum))
	}
	if c.Flows != 0 && (c.Flows < MinFlows || c.Flows > MaxFlows) {
		errs = append(errs, fmt.Errorf("%d flows are not between %d and %d", c.Flows, MinFlows, MaxFlows))
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		errs = append(errs, fmt.Errorf("MTU %d is not between 576 and 65535", c.MTU))
	}
	return errors.Join(errs...)
}
