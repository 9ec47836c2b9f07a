package datapath

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
)

// EndpointSpec asks for one pod interface.
type EndpointSpec struct {
	// ContainerID and IfName identify the endpoint, as CNI has it. IfName is the name inside the pod.
	ContainerID, IfName string
	// Namespace and Name are the pod's; the host-side veth carries them as its alias.
	Namespace, Name string
	// Addr is the pod's address, inside the node's pod CIDR and not the router's.
	Addr netip.Addr
	// NetNS is an open file descriptor of the pod's network namespace. It stays the caller's.
	NetNS int
}

// Endpoint is one pod interface of this node.
type Endpoint struct {
	// ID is unique on the node and the same after a restart: the address's place in the pod CIDR.
	ID uint32
	// Namespace and Name are the pod's, from the alias; empty when the host-side veth is gone.
	Namespace, Name string
	// Addr is the pod's address.
	Addr netip.Addr
	// HostIf is the host-side veth: what HostIfName gives for the container ID and interface.
	HostIf string
	// HostIfIndex is its index in the node's namespace.
	HostIfIndex int
	// HostMAC is the host-side veth's address, the pod's next hop; PodMAC is the pod's own.
	HostMAC, PodMAC net.HardwareAddr
	// MTU of the interface in bytes; 0 when the host-side veth is gone.
	MTU int
	// Attached says that the program is on the host-side veth and is the one now loaded.
	Attached bool
}

// Attachment names an endpoint the way a container runtime does.
type Attachment struct{ ContainerID, IfName string }

// HostIfName is the name of the host-side veth: "lxc" and the first eight hex digits of the SHA-256 of
// "<containerID>/<ifName>".
func HostIfName(containerID, ifName string) string {
	sum := sha256.Sum256([]byte(containerID + "/" + ifName))
	return hostIfPrefix + hex.EncodeToString(sum[:4])
}

const hostIfPrefix = "lxc"

// AddEndpoint makes the veth pair, configures the pod's side, attaches the program and enters the
// endpoint into the map. Adding an endpoint that is there already, and whole, returns it. When it fails
// it leaves nothing behind. The error wraps [ErrAddrInUse] when another live endpoint has the address.
func (d *Datapath) AddEndpoint(ctx context.Context, spec EndpointSpec) (Endpoint, error) {
	return Endpoint{}, errors.ErrUnsupported
}

// CheckEndpoint says what is wrong with an endpoint, everything at once; nil when it is as AddEndpoint
// left it. The error wraps [ErrUnknownEndpoint] when there is no such endpoint.
func (d *Datapath) CheckEndpoint(ctx context.Context, spec EndpointSpec) error {
	return errors.ErrUnsupported
}

// DeleteEndpoint removes an endpoint's map entry, veth pair and pinned link, and returns the addresses
// that became free, sorted. It works when the pod's namespace or the veth is gone already, and returns
// nil when there is nothing to remove.
func (d *Datapath) DeleteEndpoint(ctx context.Context, containerID, ifName string) ([]netip.Addr, error) {
	return nil, errors.ErrUnsupported
}

// Endpoints lists the endpoints as netlink and the pinned map have them, sorted by address. It changes
// nothing. An endpoint whose veth is gone is listed with HostIfIndex 0.
func (d *Datapath) Endpoints(ctx context.Context) ([]Endpoint, error) {
	return nil, errors.ErrUnsupported
}

// SyncEndpoints mends what it can and removes what is dead: programs missing from a host-side veth are
// attached again, map entries lost are entered again, entries and links of vanished veths and veths
// that were never finished are removed. It returns the removed endpoints, sorted by address.
func (d *Datapath) SyncEndpoints(ctx context.Context) (removed []Endpoint, err error) {
	return nil, errors.ErrUnsupported
}

// KeepEndpoints removes every endpoint that is not in keep (CNI GC) and returns the removed ones,
// sorted by address.
func (d *Datapath) KeepEndpoints(ctx context.Context, keep []Attachment) (removed []Endpoint, err error) {
	return nil, errors.ErrUnsupported
}
