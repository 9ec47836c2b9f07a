package profiles

import (
	"net/netip"

	"wirelab.dev/wirelab/internal/settings"
)

const (
	podSubnetKey = "cluster.podSubnet"
	poolKey      = "network.ipam.operator.clusterPoolIPv4PodCIDRList"
	ipamModeKey  = "network.ipam.mode"
)

// widestFollowed is the length of the pod subnet that a pool gets, or less.
const widestFollowed = 16

// pooled says whether pods have their addresses out of a pool.
func (p *Profile) pooled() bool { return p.Network.IPAM.Mode == settings.IPAMClusterPool }

// Pool is what pods have their addresses from; nil where that is whatever Kubernetes gave their nodes.
func (p *Profile) Pool() []netip.Prefix {
	if !p.pooled() {
		return nil
	}
	return p.Network.IPAM.Operator.Pool()
}

// follow keeps pod subnet and pool together: kube-proxy tells pods from strangers by the first. Of the two, the one that
// was set where it counts less follows the other; where both were set at one place, both stand. It tells whether the pool
// followed.
func (p *Profile) follow(origins map[string]origin) bool {
	subnet, pool := origins[podSubnetKey].rank, origins[poolKey].rank
	switch {
	case !p.pooled() || subnet == pool && subnet > 0:
		return false
	case subnet > pool:
		p.Network.IPAM.Operator.ClusterPoolIPv4PodCIDRList = []string{p.Cluster.PodSubnet.String()}
		return true
	}
	if pool := p.Network.IPAM.Operator.Pool(); len(pool) > 0 {
		p.Cluster.PodSubnet = around(pool)
	}
	return false
}

// around is the longest CIDR, of /16 or less, that contains all of pool.
func around(pool []netip.Prefix) netip.Prefix {
	a := netip.PrefixFrom(pool[0].Addr(), min(pool[0].Bits(), widestFollowed)).Masked()
	for _, cidr := range pool[1:] {
		for !contains(a, cidr) && a.Bits() > 0 {
			a = netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
		}
	}
	return a
}

// subnetKey is the setting that the pod subnet comes from.
func (c *checker) subnetKey() string {
	if c.p.pooled() && c.origins[podSubnetKey].rank < c.origins[poolKey].rank {
		return poolKey
	}
	return podSubnetKey
}

// pool checks the pool against the cluster's other addresses, and that every node gets something of it.
func (c *checker) pool() {
	if !c.p.pooled() || c.poolFollows || !c.sound(poolKey, podSubnetKey, ipamModeKey) {
		return
	}
	if len(c.p.Network.IPAM.Validate("")) > 0 {
		return // which has been said
	}
	o, pods := c.p.Network.IPAM.Operator, c.p.Cluster.PodSubnet
	room := 0
	for _, cidr := range o.Pool() {
		if taken := unusable(cidr); taken != "" {
			c.report(poolKey, "%s overlaps %s, where nothing can have its address; use a private range such as 10.0.0.0/12", cidr, taken)
		}
		if services := c.p.Cluster.ServiceSubnet; services.IsValid() && cidr.Overlaps(services) {
			c.report(c.later("cluster.serviceSubnet", poolKey), "the pool %s (%s) and the Service subnet %s (cluster.serviceSubnet) overlap; move one of them", cidr, poolKey, services)
		}
		if pods.IsValid() && !contains(pods, cidr) {
			c.report(c.later(podSubnetKey, poolKey), "the pod subnet %s does not contain %s of %s, so kube-proxy would take those pods for strangers; leave cluster.podSubnet out, which makes it follow the pool, or move the pool into it", pods, cidr, poolKey)
		}
		if more := o.ClusterPoolIPv4MaskSize - cidr.Bits(); more >= 0 && room < c.p.Nodes() {
			room += 1 << min(more, 16)
		}
	}
	if room < c.p.Nodes() {
		c.report(poolKey, "there is room for %d nodes (each gets a /%d), but the cluster has %d; add a CIDR, or raise %s", room,
			o.ClusterPoolIPv4MaskSize, c.p.Nodes(), "network.ipam.operator.clusterPoolIPv4MaskSize")
	}
}

// PodSubnetKey is the setting that decides about the pod subnet: its own, or that of the pool which it follows.
func (p *Profile) PodSubnetKey() string {
	if p.pooled() {
		return poolKey
	}
	return podSubnetKey
}
