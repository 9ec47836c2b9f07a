package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/pulse"
)

// Parts are parts of the data plane, named after what keeps them.
type Parts uint

const (
	PartSysctls   Parts = 1 << iota // [Sysctls]
	PartDevices                     // [Devices]
	PartEndpoints                   // [Datapath.SyncEndpoints]
	PartRoutes                      // [Routes]
	PartNAT                         // [Masquerade], [HostPorts]
	PartRaw                         // [Untracked]
	PartServices                    // [Services], which are on the node's addresses

	allParts = PartSysctls | PartDevices | PartEndpoints | PartRoutes | PartNAT | PartRaw | PartServices
)

const (
	// wakePause is the least time between two calls about changes: repairs cause messages too, and others may change
	// things all the time.
	wakePause = 200 * time.Millisecond
	// programsEvery is how often programs are looked for: the kernel tells nobody when one is taken off.
	programsEvery = time.Second
	// followBuffer holds some 5,000 messages. When it is full, everything counts as changed.
	followBuffer = 1 << 20
)

// Numbers of linux/netconf.h and linux/netfilter/nfnetlink.h that no library has.
const (
	rtmNewNetconf      = 80
	netconfIfindex     = 1
	netconfForwarding  = 2
	netconfRPFilter    = 3
	netconfAll         = -1
	nfnlGroupNFTables  = 7
	nfnlSubsysNFTables = 10
)

// Follower hears of changes on the node, by others and by this package.
type Follower struct {
	d        *Datapath
	route    *nl.NetlinkSocket
	nftables *nl.NetlinkSocket // nil where the kernel has none

	pending atomic.Uint32 // Parts that wake has not been told of
	news    chan struct{} // holds at most one
}

// Follow begins to listen in the network namespace of the calling thread. Nothing that happens from now
// on is missed. The caller has to call Run.
func (d *Datapath) Follow() (*Follower, error) {
	groups := []uint{
		unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_TC, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV4_NETCONF,
	}
	f := &Follower{d: d, news: make(chan struct{}, 1)}
	var err error
	if f.route, err = nl.Subscribe(unix.NETLINK_ROUTE, groups...); err != nil {
		return nil, fmt.Errorf("listen for changes of devices and routes: %w", err)
	}
	if err := f.route.SetReceiveBufferSize(followBuffer, true); err != nil {
		d.log.Debug("the buffer for changes of devices and routes stays small", "err", err)
	}
	if f.nftables, err = nl.Subscribe(unix.NETLINK_NETFILTER, nfnlGroupNFTables); err != nil {
		f.nftables = nil
		d.log.Info("changes of iptables' rules are seen once a minute only", "err", err)
	} else if err := f.nftables.SetReceiveBufferSize(followBuffer, true); err != nil {
		d.log.Debug("the buffer for changes of rules stays small", "err", err)
	}
	return f, nil
}

// Run calls wake with the parts that a change may have damaged, at once, but five times a second at most: changes that
// are closer together are in one call. What the reconcilers change themselves counts as a change too, so they are
// woken once more and find nothing to do. It returns when ctx is done.
func (f *Follower) Run(ctx context.Context, wake func(Parts)) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return f.listen(ctx, f.route, f.routeMessage) })
	if f.nftables != nil {
		eg.Go(func() error { return f.listen(ctx, f.nftables, f.ruleMessage) })
	}
	eg.Go(func() error { f.lookForPrograms(ctx); return nil })
	eg.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-f.news:
			}
			wake(Parts(f.pending.Swap(0)))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wakePause):
			}
		}
	})
	return eg.Wait()
}

// tell notes changed parts.
func (f *Follower) tell(parts Parts) {
	if parts == 0 {
		return
	}
	f.pending.Or(uint32(parts))
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// listen hands messages on until ctx is done. Lost ones count as changes of everything.
func (f *Follower) listen(ctx context.Context, s *nl.NetlinkSocket, concerns func(kind uint16, data []byte) Parts) error {
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	for {
		messages, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			f.tell(allParts)
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return fmt.Errorf("listen for changes on the node: %w", err)
		}
		for _, m := range messages {
			f.tell(concerns(m.Header.Type, m.Data))
		}
	}
}

// routeMessage says what a message of NETLINK_ROUTE concerns. One that cannot be read concerns nothing.
func (f *Follower) routeMessage(kind uint16, data []byte) Parts {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return f.linkParts(kind, data)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return PartDevices | PartRoutes | PartServices
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return f.routeParts(data)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return PartRoutes
	case unix.RTM_DELNEIGH:
		return f.neighbourParts(data)
	case unix.RTM_DELTFILTER, unix.RTM_DELQDISC:
		return f.filterParts(data)
	case rtmNewNetconf:
		return f.netconfParts(data)
	}
	return 0
}

// linkParts leaves out what a pod's veth goes through when an endpoint is made, and when one is deleted: its entries go first.
func (f *Follower) linkParts(kind uint16, data []byte) Parts {
	if len(data) < unix.SizeofIfInfomsg {
		return 0
	}
	name := text(data[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME)
	if !hostIfPattern.MatchString(name) {
		return PartDevices | PartRoutes | PartServices
	}
	msg := nl.DeserializeIfInfomsg(data)
	putDown := msg.Change != ^uint32(0) && msg.Change&unix.IFF_UP != 0 && msg.Flags&unix.IFF_UP == 0
	if (kind == unix.RTM_DELLINK || putDown) && f.isPod(uint32(msg.Index)) {
		return PartEndpoints
	}
	return 0
}

// routeParts leaves out routes that lead to no node and to no pods.
func (f *Follower) routeParts(data []byte) Parts {
	if len(data) < unix.SizeofRtMsg {
		return 0
	}
	msg := nl.DeserializeRtMsg(data)
	if msg.Flags&unix.RTM_F_CLONED != 0 || msg.Table == unix.RT_TABLE_LOCAL {
		return 0
	}
	if msg.Protocol == uint8(routeProtocol) || msg.Dst_len == 0 {
		return PartRoutes | PartDevices
	}
	addr, ok := netip.AddrFromSlice(attribute(data[unix.SizeofRtMsg:], unix.RTA_DST))
	if !ok {
		return 0
	}
	if dst := netip.PrefixFrom(addr, int(msg.Dst_len)); f.d.routed.concern(dst) || dst.Overlaps(f.d.cfg.PodCIDR) {
		return PartRoutes | PartDevices
	}
	return 0
}

// isPod says whether the device is a pod's host-side veth.
func (f *Follower) isPod(index uint32) bool {
	var addr bpf.IP
	return f.d.maps.ifaces.Lookup(index, &addr) == nil
}

// neighbourParts looks for the mark of a finished endpoint, see restoreEntries.
func (f *Follower) neighbourParts(data []byte) Parts {
	if len(data) < unix.SizeofNdMsg || !f.isPod(binary.NativeEndian.Uint32(data[4:])) {
		return 0
	}
	return PartEndpoints
}

// filterParts is about kernels where programs are filters.
func (f *Follower) filterParts(data []byte) Parts {
	if _, ok := f.d.attacher.(clsact); !ok || len(data) < 8 {
		return 0
	}
	if f.isPod(binary.NativeEndian.Uint32(data[4:])) {
		return PartEndpoints
	}
	return PartDevices
}

// netconfParts tells of sysctls below net/ipv4/conf. Only values that are not as they have to be count.
func (f *Follower) netconfParts(data []byte) Parts {
	const header = 4 // struct netconfmsg, and what aligns it
	if len(data) < header {
		return 0
	}
	number := func(kind uint16) (int32, bool) {
		value := attribute(data[header:], kind)
		if len(value) < 4 {
			return 0, false
		}
		return int32(binary.NativeEndian.Uint32(value)), true
	}
	index, _ := number(netconfIfindex)
	forwarding, hasForwarding := number(netconfForwarding)
	filter, hasFilter := number(netconfRPFilter)
	stopped := hasForwarding && forwarding == 0
	switch {
	case index == netconfAll && (stopped || hasFilter && filter == 1):
		return PartSysctls
	case index <= 0 || !stopped && (!hasFilter || filter == 0):
		return 0
	case f.isPod(uint32(index)):
		return PartEndpoints
	}
	l, err := f.d.nl.LinkByIndex(int(index))
	if err == nil && slices.Contains(f.d.cfg.ownDevices(), l.Attrs().Name) {
		return PartDevices
	}
	return 0
}

// ruleMessage says what a message about nftables concerns, in which iptables-nft keeps its rules: chains of
// ours, and those of the kernel's from which they are jumped to, in IPv4's tables nat and raw.
func (f *Follower) ruleMessage(kind uint16, data []byte) Parts {
	if kind>>8 != nfnlSubsysNFTables || len(data) < nl.SizeofNfgenmsg || data[0] != unix.AF_INET {
		return 0
	}
	attributes := data[nl.SizeofNfgenmsg:]
	var parts Parts
	switch text(attributes, unix.NFTA_RULE_TABLE) { // the first attribute of tables and chains, too
	case masqueradeChains.table:
		parts = PartNAT
	case untrackedChains.table:
		parts = PartRaw
	}
	var chain string
	switch kind & 0xff {
	case unix.NFT_MSG_DELTABLE:
		return parts
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		chain = text(attributes, unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		chain = text(attributes, unix.NFTA_RULE_CHAIN)
	}
	if strings.HasPrefix(chain, "LAB-") || chain == "PREROUTING" || chain == "POSTROUTING" || chain == "OUTPUT" {
		return parts
	}
	return 0
}

// text is the value of an attribute that is a string.
func text(data []byte, kind uint16) string {
	return strings.TrimRight(string(attribute(data, kind)), "\x00")
}

// attribute is the value of the first attribute of a kind; nil when there is none.
func attribute(data []byte, kind uint16) []byte {
	for len(data) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(data))
		if size < unix.SizeofRtAttr || size > len(data) {
			return nil
		}
		if binary.NativeEndian.Uint16(data[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return data[unix.SizeofRtAttr:size]
		}
		data = data[min(len(data), (size+3)&^3):]
	}
	return nil
}

// lookForPrograms tells of places whose program is gone.
func (f *Follower) lookForPrograms(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pulse.Until(programsEvery)):
			f.tell(f.d.missingPrograms())
		}
	}
}

// missingPrograms are the parts that have lost one. It looks at pinned links alone: filters tell when they go.
func (d *Datapath) missingPrograms() (parts Parts) {
	if _, ok := d.attacher.(tcx); !ok {
		return 0
	}
	for _, pin := range d.devicePins() {
		if !d.pins.isAttached(pin) {
			parts |= PartDevices
		}
	}
	entries, err := d.maps.endpointEntries()
	if err != nil {
		return parts | PartEndpoints
	}
	for _, e := range entries {
		if !d.pins.isAttached(vethName(e.Veth)) {
			parts |= PartEndpoints
		}
	}
	return parts
}

// devicePins are the links that are not pods'.
func (d *Datapath) devicePins() []string {
	names := []string{hostDevice}
	if device := d.cfg.tunnelDevice(); device != "" {
		names = append(names, device)
	}
	if !d.cfg.KubeProxyReplacement {
		return names
	}
	for _, device := range d.devices() {
		in, out := nicHooks(device, 0)
		names = append(names, in.pinName(), out.pinName())
	}
	for _, h := range d.progs.services.sockets() {
		names = append(names, h.pin)
	}
	return names
}

// routed is what the routes were made for last.
type routed struct {
	mu    sync.Mutex
	nodes []netip.Addr
	cidrs []netip.Prefix
}

func (r *routed) set(nodes []Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes, r.cidrs = nil, nil
	for _, n := range nodes {
		r.nodes = append(r.nodes, n.IP)
		r.cidrs = append(r.cidrs, n.PodCIDRs...)
	}
}

// concern says whether a route to dst is one to a node or to pods.
func (r *routed) concern(dst netip.Prefix) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.nodes, dst.Contains) || slices.ContainsFunc(r.cidrs, dst.Overlaps)
}
