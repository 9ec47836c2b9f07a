package datapath

import (
	"context"
	"errors"
	"net/netip"
)

// Node is one node of the cluster, this one included, as the reconcilers want it.
type Node struct {
	Name     string
	IP       netip.Addr
	PodCIDRs []netip.Prefix
}

// HostPort sends connections to a port of this node to a pod on it.
type HostPort struct {
	// Proto is "tcp" or "udp".
	Proto string
	// HostIP is the node address it holds for. The zero Addr or 0.0.0.0 means every one but loopback.
	HostIP netip.Addr
	// Port is the node's port.
	Port uint16
	// Backend is the pod's address and port.
	Backend netip.AddrPort
}

// Routes keeps one route for each other node's pod CIDRs.
type Routes struct{ d *Datapath }

// Routes returns the reconciler of node routes.
func (d *Datapath) Routes() *Routes { return &Routes{d: d} }

// Apply makes the routes match nodes and removes other routes of ours. It returns the names, sorted, of
// the nodes that are not on the same L2 as this one, to which no route was made. Without
// Config.DirectNodeRoutes the desired routes are none.
func (r *Routes) Apply(ctx context.Context, nodes []Node) (skipped []string, err error) {
	return nil, errors.ErrUnsupported
}

// Clean removes the node routes.
func (r *Routes) Clean(ctx context.Context) error { return errors.ErrUnsupported }

// Masquerade keeps the iptables chain LAB-MASQUERADE.
type Masquerade struct{ d *Datapath }

// Masquerade returns the reconciler of the masquerade chain.
func (d *Datapath) Masquerade() *Masquerade { return &Masquerade{d: d} }

// Apply makes the chain match nodes, whose addresses pods reach with their own. Without
// Config.Masquerade the chain is removed. It writes only when what is there differs.
func (m *Masquerade) Apply(ctx context.Context, nodes []Node) error { return errors.ErrUnsupported }

// Clean removes the chain.
func (m *Masquerade) Clean(ctx context.Context) error { return errors.ErrUnsupported }

// HostPorts keeps the iptables chains LAB-HOSTPORT and LAB-HOSTPORT-SNAT.
type HostPorts struct{ d *Datapath }

// HostPorts returns the reconciler of host ports.
func (d *Datapath) HostPorts() *HostPorts { return &HostPorts{d: d} }

// Apply makes the chains match ports. It writes only when what is there differs.
func (h *HostPorts) Apply(ctx context.Context, ports []HostPort) error { return errors.ErrUnsupported }

// Clean removes the chains.
func (h *HostPorts) Clean(ctx context.Context) error { return errors.ErrUnsupported }

// Devices keeps lab_host and lab_net, the router's address, the pod CIDR's route and the program on
// lab_host.
type Devices struct{ d *Datapath }

// Devices returns the reconciler of the node's own devices.
func (d *Datapath) Devices() *Devices { return &Devices{d: d} }

// Apply makes them be there. [Open] has applied it once.
func (v *Devices) Apply(ctx context.Context) error { return errors.ErrUnsupported }

// Clean removes the devices and with them address, route and program.
func (v *Devices) Clean(ctx context.Context) error { return errors.ErrUnsupported }

// Sysctls keeps the sysctls that forwarding pods' traffic needs.
type Sysctls struct{ d *Datapath }

// Sysctls returns the reconciler of sysctls.
func (d *Datapath) Sysctls() *Sysctls { return &Sysctls{d: d} }

// Apply sets them and remembers the values it found. [Open] has applied it once.
func (s *Sysctls) Apply(ctx context.Context) error { return errors.ErrUnsupported }

// Clean puts the values found by the first Apply back.
func (s *Sysctls) Clean(ctx context.Context) error { return errors.ErrUnsupported }
