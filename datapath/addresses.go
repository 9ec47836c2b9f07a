package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// Maps remember a pod by its address: in flows, translations and choices of backends. The next pod with the same address
// must not meet any of it. So when an endpoint is deleted, its address is first written into lab_resting, and then
// purged: all entries that name it are removed. No endpoint gets an address that rests and is not purged. lab_resting is
// pinned outside the directories of the layouts, so it survives a restart or upgrade between deletion and purge.

const (
	restingMap = "lab_resting"
	// maxResting is as many as lab_endpoints holds.
	maxResting = 16384
	// grace is how long others may still send to an address that was freed: new lists of backends, without it, take
	// that long to reach the nodes. Entries that such packets make are purged after it.
	grace = 5 * time.Second
	// purgeRounds bounds how often one purge looks again, because of packets that put back what it removed.
	purgeRounds = 3
)

// resting is an address's value in lab_resting: nanoseconds of CLOCK_MONOTONIC.
type resting struct {
	Freed  uint64
	Purged uint64 // when the latest purge began; 0: it is not purged
}

func (r resting) isPurged() bool {
	return r.Purged != 0 && int64(r.Purged-r.Freed) >= int64(grace) //nolint:gosec // of one clock
}

// RestingAddr is an address that an endpoint had, and no other has had since.
type RestingAddr struct {
	Addr netip.Addr
	// For is how long ago it was given up.
	For time.Duration
}

func restingSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: restingMap, Type: ebpf.Hash, KeySize: 16, ValueSize: 16, MaxEntries: maxResting, Flags: unix.BPF_F_NO_PREALLOC}
}

// rest has an address rest from now on, unpurged.
func (m *maps) rest(addr netip.Addr) error {
	if err := m.resting.Put(bpf.IPOf(addr), resting{Freed: monotonic()}); err != nil {
		return fmt.Errorf("have address %s rest: %w", addr, err)
	}
	return nil
}

func (m *maps) restingAddrs() (map[netip.Addr]resting, error) {
	all := map[netip.Addr]resting{}
	if err := eachEntry(m.resting, func(ip bpf.IP, r resting) { all[bpf.AddrOf(ip)] = r }); err != nil {
		return nil, fmt.Errorf("read the addresses that rest: %w", err)
	}
	return all, nil
}

// Resting lists the addresses that rest, those that have for longest first.
func (d *Datapath) Resting(_ context.Context) ([]RestingAddr, error) {
	all, err := d.maps.restingAddrs()
	if err != nil {
		return nil, err
	}
	now := monotonic()
	list := make([]RestingAddr, 0, len(all))
	for addr, r := range all {
		list = append(list, RestingAddr{Addr: addr, For: time.Duration(now - r.Freed)}) //nolint:gosec // of one clock
	}
	slices.SortFunc(list, func(a, b RestingAddr) int { return cmp.Or(cmp.Compare(b.For, a.For), a.Addr.Compare(b.Addr)) })
	return list, nil
}

// PurgeAddresses removes all that is remembered of addresses that rest, and ends the rest of those that have rested for
// as long as rest and that are free to be another pod's. It is to be called when endpoints are gone, and periodically.
func (d *Datapath) PurgeAddresses(_ context.Context, rest time.Duration, free func(netip.Addr) bool) error {
	d.purging.Lock()
	defer d.purging.Unlock()
	if err := d.purge(); err != nil {
		return err
	}
	all, err := d.maps.restingAddrs()
	if err != nil {
		return err
	}
	now := monotonic()
	var errs []error
	for addr, r := range all {
		if r.isPurged() && now-r.Freed >= uint64(rest) && free(addr) {
			errs = append(errs, forget(d.maps.resting, bpf.IPOf(addr)))
		}
	}
	return errors.Join(errs...)
}

// takeAddress gives an address to an endpoint: it is purged if need be, and rests no more. own says that the endpoint had
// the address before, so the flows are its own and stay. putBack undoes it after a failure.
func (d *Datapath) takeAddress(addr netip.Addr, own bool) (putBack func() error, err error) {
	nothing := func() error { return nil }
	asked := monotonic()
	if _, ok, err := d.maps.restOf(addr); err != nil || !ok {
		return nothing, err // most addresses have never been another pod's: nobody waits for a purge
	}
	d.purging.Lock()
	defer d.purging.Unlock()
	r, ok, err := d.maps.restOf(addr)
	if err != nil || !ok {
		return nothing, err
	}
	// Whoever held the lock may have purged it meanwhile.
	if !own && !r.isPurged() && r.Purged < asked {
		if err := d.purge(); err != nil {
			return nothing, err
		}
	}
	if err := forget(d.maps.resting, bpf.IPOf(addr)); err != nil {
		return nothing, fmt.Errorf("end the rest of address %s: %w", addr, err)
	}
	return func() error { return d.maps.resting.Put(bpf.IPOf(addr), resting{Freed: r.Freed}) }, nil
}

func (m *maps) restOf(addr netip.Addr) (r resting, ok bool, err error) {
	err = m.resting.Lookup(bpf.IPOf(addr), &r)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("look up the rest of address %s: %w", addr, err)
	}
	return r, true, nil
}

// purge purges all addresses that rest unpurged. The caller holds d.purging.
func (d *Datapath) purge() error {
	began := monotonic()
	all, err := d.maps.restingAddrs()
	if err != nil {
		return err
	}
	due := map[bpf.IP]resting{}
	for addr, r := range all {
		var e bpf.Endpoint
		switch err := d.maps.endpoints.Lookup(bpf.IPOf(addr), &e); {
		case err == nil:
			continue // it is being removed just now, or that was cut off: it is not free
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return fmt.Errorf("look up endpoint %s: %w", addr, err)
		}
		if !r.isPurged() {
			due[bpf.IPOf(addr)] = r
		}
	}
	if len(due) == 0 {
		return nil
	}
	if err := d.forgetAddrs(due); err != nil {
		return fmt.Errorf("forget the flows of %d addresses that were given up: %w", len(due), err)
	}
	var errs []error
	for ip, r := range due {
		r.Purged = began
		errs = append(errs, d.maps.resting.Update(ip, r, ebpf.UpdateExist))
	}
	return errors.Join(errs...)
}

// forgetAddrs removes what names one of the addresses from the programs' maps and the kernel's connection
// tracking.
func (d *Datapath) forgetAddrs(addrs map[bpf.IP]resting) error {
	names := func(ips ...bpf.IP) bool {
		return slices.ContainsFunc(ips, func(ip bpf.IP) bool { _, ok := addrs[ip]; return ok })
	}
	var errs []error
	removed := func(_ int, err error) { errs = append(errs, err) }
	removed(removeIf(d.maps.kernelCT, func(f bpf.KernelFlow, _ bpf.PodPresent) bool { return names(f.Lo, f.Hi) }))
	errs = append(errs, d.maps.forgetObserved(func(o bpf.Observed) bool { return names(o.Key.Lo, o.Key.Hi) }))
	if s := d.maps.services; s != nil {
		errs = append(errs, s.forgetFlows(func(t bpf.Tuple, e bpf.FlowEntry) bool { return names(t.Src, t.Dst, e.To.Src, e.To.Dst) }))
		removed(removeIf(s.affinity, func(k bpf.PodAffinityKey, _ bpf.PodAffinity) bool { return names(k.Client) }))
		removed(removeIf(s.fragments, func(k bpf.PodFragmentKey, _ bpf.PodFragmentPorts) bool { return names(k.Src, k.Dst) }))
		removed(removeIf(s.peers, func(k bpf.SockPeerKey, _ bpf.SockPeer) bool { return names(bpf.IP(k.Addr)) }))
	}
	tracked := func(f *netlink.ConntrackFlow) bool {
		ends := []net.IP{f.Forward.SrcIP, f.Forward.DstIP, f.Reverse.SrcIP, f.Reverse.DstIP}
		return slices.ContainsFunc(ends, func(ip net.IP) bool { return names(bpf.IPOf(toAddr(ip))) })
	}
	return errors.Join(append(errs, d.forgetTracked(tracked))...)
}

// forgetFlows removes flows from both maps. A packet that finds one entry of a flow puts the other one back,
// so it looks again until there is nothing left.
func (s *serviceMaps) forgetFlows(which func(bpf.Tuple, bpf.FlowEntry) bool) error {
	for range purgeRounds {
		answers, err := removeIf(s.nat, which)
		if err != nil {
			return err
		}
		flows, err := removeIf(s.ct, which)
		if err != nil || answers+flows == 0 {
			return err
		}
	}
	return nil
}

// forgetObserved has events forget flows.
func (m *maps) forgetObserved(which func(bpf.Observed) bool) error {
	var places []uint32
	err := eachBatch(m.observed, func(place uint32, o bpf.Observed) {
		if o.Began != 0 && which(o) {
			places = append(places, place)
		}
	})
	if err != nil {
		return err
	}
	for _, place := range places {
		if err := m.observed.Put(place, bpf.Observed{}); err != nil {
			return fmt.Errorf("forget a flow of map %s: %w", m.observed, err)
		}
	}
	return nil
}

// removeIf removes the entries of a hash map that which picks, and says how many there were.
func removeIf[K, V any](m *ebpf.Map, which func(K, V) bool) (int, error) {
	var due []K
	err := eachBatch(m, func(k K, v V) {
		if which(k, v) {
			due = append(due, k)
		}
	})
	if err != nil {
		return 0, err
	}
	for _, k := range due {
		if err := forget(m, k); err != nil {
			return 0, fmt.Errorf("remove from map %s: %w", m, err)
		}
	}
	return len(due), nil
}

// forgetTracked makes the kernel forget the flows that it tracks, whoever has it track them: iptables'
// masquerading, kube-proxy, a firewall.
func (d *Datapath) forgetTracked(which trackedFlows) error {
	count, err := readSysctl(d.cfg.Proc, "net/netfilter/nf_conntrack_count")
	if errors.Is(err, os.ErrNotExist) || count == "0" {
		return nil // a kernel that tracks nothing
	}
	if err != nil {
		return err
	}
	for range purgeRounds {
		_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, which)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("forget tracked flows: %w", err)
	}
	return nil
}
