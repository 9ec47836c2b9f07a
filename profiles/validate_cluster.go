package profiles

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// unusable says which special range subnet overlaps, in which no pod or Service can have
// its address; empty when none.
func unusable(subnet netip.Prefix) string {
	for _, taken := range []struct{ subnet, what string }{
		{"0.0.0.0/8", "\"this network\""},
		{"127.0.0.0/8", "loopback"},
		{"169.254.0.0/16", "link-local"},
		{"224.0.0.0/4", "multicast"},
		{"240.0.0.0/4", "reserved"},
	} {
		if netip.MustParsePrefix(taken.subnet).Overlaps(subnet) {
			return taken.subnet + " (" + taken.what + ")"
		}
	}
	return ""
}

func (c *checker) subnets() {
	const podKey, serviceKey = "cluster.podSubnet", "cluster.serviceSubnet"
	pods, services := c.p.Cluster.PodSubnet, c.p.Cluster.ServiceSubnet
	podsFine := c.subnet(podKey, pods)
	servicesFine := c.subnet(serviceKey, services)
	if servicesFine && (services.Bits() < 12 || services.Bits() > 28) {
		// kubeadm takes at most 20 bits of addresses and wants at least ten of them.
		c.report(serviceKey, "%s is outside of what Kubernetes takes, a /12 to a /28; use a /16", services)
	}
	if podsFine && servicesFine && pods.Overlaps(services) && (c.poolFollows || !slices.ContainsFunc(c.p.Pool(), services.Overlaps)) {
		c.report(c.later(serviceKey, c.subnetKey()), "the pod subnet %s and the Service subnet %s overlap; move one of them", pods, services)
	}
}

// subnet checks one CIDR by itself and says whether it can be compared with others.
func (c *checker) subnet(key string, subnet netip.Prefix) bool {
	if !c.sound(key) {
		return false
	}
	if !subnet.IsValid() {
		c.report(key, "is empty; write an IPv4 CIDR such as 10.244.0.0/16")
		return false
	}
	if taken := unusable(subnet); taken != "" {
		c.report(key, "%s overlaps %s, where nothing can have its address; use a private range such as 10.244.0.0/16", subnet, taken)
		return false
	}
	return true
}

// registryForm is a registry as it stands before the first slash of an image name.
var registryForm = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]{1,5})?$`)

func (c *checker) mirrors() {
	const key = "cluster.registryMirrors"
	mirrors := c.p.Cluster.RegistryMirrors
	for i, m := range mirrors {
		host := fmt.Sprintf("%s[%d].host", key, i)
		switch {
		case strings.Contains(m.Host, "://"):
			c.item(key, host, "%q is a URL; write the host alone, as it stands in image names", m.Host)
		case !registryForm.MatchString(m.Host):
			c.item(key, host, "%q is not a registry as it stands in image names: a host, or host:port", m.Host)
		case slices.IndexFunc(mirrors, func(o RegistryMirror) bool { return o.Host == m.Host }) < i:
			c.item(key, host, "%s has a mirror already; keep one of them", m.Host)
		}
		endpoint := fmt.Sprintf("%s[%d].endpoint", key, i)
		if message := endpointProblem(m.Endpoint); message != "" {
			c.item(key, endpoint, "%s", message)
		}
	}
}

// endpointProblem says why the nodes cannot use raw as a mirror; empty when they can.
func endpointProblem(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return fmt.Sprintf("%q is not a URL such as http://192.168.1.5:5000", raw)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("%q does not start with http:// or https://", raw)
	case u.Hostname() == "" || strings.ContainsAny(u.Host, " \"'"):
		return fmt.Sprintf("%q names no host", raw)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Sprintf("%q holds more than a mirror's address: leave out user, ? and #", u.Redacted())
	case strings.ContainsAny(raw, "\"\\\n"):
		return fmt.Sprintf("%q holds characters that no mirror's address has", raw)
	}
	if port := u.Port(); port != "" {
		if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 {
			return fmt.Sprintf("%q has no usable port; ports are 1 to 65535", raw)
		}
	}
	ip := net.ParseIP(u.Hostname())
	if u.Hostname() == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		return fmt.Sprintf("%q is the node itself, seen from a node; write an address of this machine that the nodes reach", raw)
	}
	return ""
}
