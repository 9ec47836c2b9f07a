package settings

import (
	"fmt"
	"net/netip"
)

// Validate reports everything that is wrong with the pool at once, as [*Fault]s. At is the path of i in its document. The
// pool is looked at where Mode has no use for it, too: a mistake in it shows when it is made.
func (i IPAM) Validate(at string) (errs []error) {
	list, mask := Join(at, "operator.clusterPoolIPv4PodCIDRList"), Join(at, "operator.clusterPoolIPv4MaskSize")
	if i.Mode == IPAMClusterPool && len(i.Operator.ClusterPoolIPv4PodCIDRList) == 0 {
		errs = append(errs, &Fault{Keys: []string{list}, Message: "is empty, and " + Join(at, "mode") + " is cluster-pool: name the CIDRs that podCIDRs come from, such as 10.0.0.0/12"})
	}
	var before []netip.Prefix
	for n, item := range i.Operator.ClusterPoolIPv4PodCIDRList {
		bad := func(format string, args ...any) { errs = append(errs, itemFault(list, n, format, args...)) }
		value, wrong := parsePrefix(item)
		cidr, _ := value.(netip.Prefix)
		switch {
		case wrong != nil:
			bad("%s", wrong.Message)
			continue
		case !cidr.IsValid():
			bad("is empty; write an IPv4 CIDR such as 10.0.0.0/12")
			continue
		case cidr.Bits() > i.Operator.ClusterPoolIPv4MaskSize:
			bad("%s has no room for a node, each of which gets a /%d (%s); widen it, or raise that number", cidr, i.Operator.ClusterPoolIPv4MaskSize, mask)
		}
		for _, other := range before {
			if cidr.Overlaps(other) {
				bad("%s overlaps %s, which is in the list, too; leave out the smaller one", cidr, other)
			}
		}
		before = append(before, cidr)
	}
	return errs
}

// pool holds the pool against the addresses that pods keep.
func (n Network) pool(at string) (errs []error) {
	native := n.IPv4NativeRoutingCIDR
	if n.IPAM.Mode != IPAMClusterPool || !n.EnableIPv4Masquerade || !native.IsValid() {
		return nil
	}
	list, key := Join(at, "ipam.operator.clusterPoolIPv4PodCIDRList"), Join(at, "ipv4NativeRoutingCIDR")
	for _, cidr := range n.IPAM.Operator.Pool() {
		if cidr.Bits() < native.Bits() || !native.Contains(cidr.Addr()) {
			errs = append(errs, &Fault{Keys: []string{list, key}, Message: fmt.Sprintf(
				"%s %s is not inside %s %s, so traffic between pods would be masqueraded; widen the latter or move the former", list, cidr, key, native)})
		}
	}
	return errs
}
