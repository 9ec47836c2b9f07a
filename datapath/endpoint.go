package datapath

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// EndpointSpec asks for one pod interface.
type EndpointSpec struct {
	// HostIf identifies the endpoint: its host-side veth, by the name that api.HostIfName gives.
	HostIf string
	// IfName is the interface's name inside the pod.
	IfName string
	// Namespace and Pod are the pod's; the host-side veth carries them as its alias.
	Namespace, Pod string
	// Addr is the pod's address, inside the node's pod CIDR and not the router's.
	Addr netip.Addr
	// Identity is the pod's.
	Identity uint32
	// NetNS is an open file descriptor of the pod's network namespace. It stays the caller's.
	NetNS int
}

const (
	hostIfPrefix = "lxc"
	// maxIfName is IFNAMSIZ without the closing zero.
	maxIfName = 15
	// maxAlias is IFALIASZ without the closing zero. A pod's namespace and name may be longer.
	maxAlias = 255
)

// vethNumber is what the host-side veth's name says in hex; vethName turns it back.
func vethNumber(hostIf string) (uint32, bool) {
	if !hostIfPattern.MatchString(hostIf) {
		return 0, false
	}
	n, err := strconv.ParseUint(hostIf[len(hostIfPrefix):], 16, 32)
	return uint32(n), err == nil
}

func vethName(number uint32) string { return fmt.Sprintf("%s%08x", hostIfPrefix, number) }

// alias is the pod's namespace and name, as far as the kernel keeps it.
func (s EndpointSpec) alias() string {
	alias := s.Namespace + "/" + s.Pod
	return alias[:min(len(alias), maxAlias)]
}

// validate reports everything that is wrong with s at once.
func (s EndpointSpec) validate(cfg Config) error {
	var errs []error
	if !hostIfPattern.MatchString(s.HostIf) {
		errs = append(errs, fmt.Errorf("%q is not the name of a host-side veth", s.HostIf))
	}
	if s.IfName == "" || len(s.IfName) > maxIfName || strings.ContainsAny(s.IfName, "/ \t\n") {
		errs = append(errs, fmt.Errorf("%q is not a name for an interface", s.IfName))
	}
	if !cfg.PodCIDR.Contains(s.Addr) {
		errs = append(errs, fmt.Errorf("address %s is not in the node's pod CIDR %s", s.Addr, cfg.PodCIDR))
	} else if s.Addr == cfg.Router() || s.Addr == cfg.PodCIDR.Addr() {
		errs = append(errs, fmt.Errorf("address %s is not one for pods: it is the router's or the network's", s.Addr))
	}
	if s.NetNS < 0 {
		errs = append(errs, fmt.Errorf("network namespace %d is not an open file", s.NetNS))
	}
	return errors.Join(errs...)
}

// endpointID is the address's place in the pod CIDR.
func (c Config) endpointID(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	first, this := c.PodCIDR.Addr().As4(), a.As4()
	return binary.BigEndian.Uint32(this[:]) - binary.BigEndian.Uint32(first[:])
}

// newMAC makes a random locally administered address. Addresses that are given, not left to the kernel,
// are also left alone by whatever else manages devices on the node.
func newMAC() (mac api.MAC) {
	rand.Read(mac[:]) // never fails: it would have ended the process
	mac[0] = mac[0]&^1 | 2
	return mac
}

// toMAC is the zero address for what netlink has none of.
func toMAC(a net.HardwareAddr) (mac api.MAC) {
	copy(mac[:], a)
	return mac
}

// seenEndpoints is what there was of all endpoints at one look.
type seenEndpoints struct {
	entries map[netip.Addr]bpf.Endpoint // of the pinned map
	veths   map[string]netlink.Link     // by name, those without an entry too
}

// look reads the endpoints of the pinned map and the host-side veths of the node.
func (d *Datapath) look(ctx context.Context) (seen seenEndpoints, err error) {
	if seen.entries, err = d.maps.endpointEntries(); err != nil {
		return seen, err
	}
	seen.veths, err = hostVeths(ctx, d.nl)
	return seen, err
}

// veth is the device that an entry is about; nil when it is gone, whoever has its name by now.
func (s seenEndpoints) veth(e bpf.Endpoint) netlink.Link {
	if veth := s.veths[vethName(e.Veth)]; isVethOf(veth, e) {
		return veth
	}
	return nil
}

// isVethOf says whether a device, which may be nil, is the one that an entry is about. Names are used again, indexes are not.
func isVethOf(l netlink.Link, e bpf.Endpoint) bool {
	return l != nil && l.Attrs().Index == int(e.Ifindex)
}

// Endpoints lists the endpoints as netlink and the pinned map have them, sorted by address. It changes
// nothing. An endpoint whose veth is gone is listed with HostIndex 0.
func (d *Datapath) Endpoints(ctx context.Context) ([]api.Endpoint, error) {
	seen, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	eps := make([]api.Endpoint, 0, len(seen.entries))
	for addr, e := range seen.entries {
		ep, err := d.endpoint(addr, e, seen.veth(e))
		if err != nil {
			return nil, err
		}
		eps = append(eps, ep)
	}
	sortEndpoints(eps)
	return eps, nil
}

// endpoint puts together what the map and netlink say; veth may be nil.
func (d *Datapath) endpoint(addr netip.Addr, e bpf.Endpoint, veth netlink.Link) (api.Endpoint, error) {
	ep := withoutProgram(addr, e, veth)
	if ep.HostIndex == 0 {
		return ep, nil
	}
	running, err := d.attacher.running(podHook(veth))
	if err != nil {
		return ep, err
	}
	id, ok := programID(d.progs.fromPod)
	ep.Attached = ok && running == id
	return ep, nil
}

// withoutProgram is endpoint, but for Attached. What a device runs is asked for under the kernel's lock for all devices,
// which whoever makes or removes one waits for.
func withoutProgram(addr netip.Addr, e bpf.Endpoint, veth netlink.Link) api.Endpoint {
	ep := api.Endpoint{
		ID:       e.Id,
		Addr:     addr,
		HostIf:   vethName(e.Veth),
		HostMAC:  api.MAC(e.NodeMac.B),
		Identity: e.Identity,
		PodMAC:   api.MAC(e.Mac.B),
	}
	if !isVethOf(veth, e) {
		return ep
	}
	ep.HostIndex = veth.Attrs().Index
	ep.MTU = veth.Attrs().MTU
	ep.Namespace, ep.Pod, _ = strings.Cut(veth.Attrs().Alias, "/")
	return ep
}

// SetIdentity gives the endpoint of that address another identity. Its flows go on. It is for who keeps the endpoint from
// being removed meanwhile; where it is gone, there is nothing to do.
func (d *Datapath) SetIdentity(addr netip.Addr, id uint32) error {
	var e bpf.Endpoint
	err := d.maps.endpoints.Lookup(bpf.IPOf(addr), &e)
	if err == nil && e.Identity != id {
		e.Identity = id
		if err = d.maps.endpoints.Update(bpf.IPOf(addr), e, ebpf.UpdateExist); err == nil {
			return d.maps.newEndpointGeneration(addr)
		}
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("set the identity of endpoint %s: %w", addr, err)
	}
	return nil
}

func sortEndpoints(eps []api.Endpoint) {
	slices.SortFunc(eps, func(a, b api.Endpoint) int { return a.Addr.Compare(b.Addr) })
}

// hostVeths are the node's host-side veths by name, entered in the map or not.
func hostVeths(ctx context.Context, nl *netlink.Handle) (map[string]netlink.Link, error) {
	links, err := dump(ctx, nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	veths := map[string]netlink.Link{}
	for _, l := range links {
		if l.Type() == "veth" && hostIfPattern.MatchString(l.Attrs().Name) {
			veths[l.Attrs().Name] = l
		}
	}
	return veths, nil
}
