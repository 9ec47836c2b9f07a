package profiles

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// checker holds a merged profile against the rules that involve more than one value's
// own form. What has a problem already is not complained about again.
type checker struct {
	p       *Profile
	origins map[string]origin
	// partial: a file was not read, so what looks like a default may have been set.
	partial bool
	found   *problems
	known   problems
}

func validate(p *Profile, origins map[string]origin, partial bool, found *problems) {
	c := &checker{p: p, origins: origins, partial: partial, found: found, known: slices.Clone(*found)}
	c.name()
	c.subnets()
	c.nodes()
	c.masquerade()
	c.bpfMasquerade()
	c.services()
	c.devices()
	c.mirrors()
	c.skip()
}

// report adds a problem with key, which stands where the value came from.
func (c *checker) report(key, format string, args ...any) {
	at, ok := c.origins[key]
	if !ok && c.partial {
		return
	}
	c.found.add(&Problem{Source: at.source, Line: at.line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// later is the one of two keys that was set where it counts more: when they contradict
// each other, it is the one that was written against the other.
func (c *checker) later(a, b string) string {
	if c.origins[b].rank > c.origins[a].rank {
		return b
	}
	return a
}

// sound says whether none of the keys has been found wrong while reading.
func (c *checker) sound(keys ...string) bool {
	return !slices.ContainsFunc(keys, c.known.touches)
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// maxName leaves room for "-control-plane" in a host name of at most 63 characters.
const maxName = 63 - len("-control-plane")

// CheckName says what is wrong with name as the name of a lab, or nil.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("%q has %d characters; %d are the most, as the nodes are named after it", name, len(name), maxName)
	case !nameForm.MatchString(name):
		return fmt.Errorf("%q is not a name of lower-case letters, digits and dashes that starts and ends with a letter or digit", name)
	}
	return nil
}

func (c *checker) name() {
	const key = "metadata.name"
	if !c.sound(key) {
		return
	}
	if err := CheckName(c.p.Metadata.Name); err != nil {
		c.report(key, "%s", err)
	}
}

// nodes checks that the pod subnet has a /24 for each node: that is what the cluster's
// controller manager cuts it into.
func (c *checker) nodes() {
	const key = "cluster.podSubnet"
	subnet := c.p.Cluster.PodSubnet
	if !c.sound(key, "cluster.workers", "cluster.controlPlanes") || !subnet.IsValid() {
		return
	}
	const perNode, widest = 24, 8
	switch bits := subnet.Bits(); {
	case bits < widest:
		c.report(key, "%s is wider than a /%d, the widest that Kubernetes cuts into a /%d per node", subnet, widest, perNode)
	case bits > perNode:
		c.report(key, "%s has no room for a node, each of which gets a /%d; use a /16", subnet, perNode)
	case 1<<(perNode-bits) < c.p.Nodes():
		c.report(key, "%s has room for %d nodes (each gets a /%d), but the cluster has %d; widen it or lower cluster.workers",
			subnet, 1<<(perNode-bits), perNode, c.p.Nodes())
	}
}

// masquerade checks the native-routing CIDR against what it is there for.
func (c *checker) masquerade() {
	const key, podKey = "network.ipv4NativeRoutingCIDR", "cluster.podSubnet"
	n, pods := c.p.Network, c.p.Cluster.PodSubnet
	if !c.sound(key, "network.enableIPv4Masquerade", "network.routingMode") {
		return
	}
	native := n.IPv4NativeRoutingCIDR
	switch {
	case n.RoutingMode != RoutingNative:
	case !native.IsValid() && n.EnableIPv4Masquerade:
		c.report(key, "is needed, as native routing with masquerade has to know what not to masquerade; set it to a CIDR around the pod subnet, such as 10.0.0.0/8, or network.enableIPv4Masquerade to false")
	case !native.IsValid():
	case native.Bits() == 0 && n.EnableIPv4Masquerade:
		c.report(key, "%s covers every address, so nothing would be masqueraded; narrow it, or set network.enableIPv4Masquerade to false", native)
	case c.sound(podKey) && pods.IsValid() && unusable(pods) == "" && !contains(native, pods):
		c.report(c.later(key, podKey), "the native-routing CIDR %s does not contain the pod subnet %s, so traffic between pods would be masqueraded; widen the one or move the other", native, pods)
	}
}

// bpfMasquerade: where kube-proxy translates, only the stack knows what it has translated.
func (c *checker) bpfMasquerade() {
	const key, needs = "network.bpf.masquerade", "network.kubeProxyReplacement"
	if !c.sound(key, needs) {
		return
	}
	if c.p.Network.BPF.Masquerade && !c.p.Network.KubeProxyReplacement {
		c.report(c.later(key, needs), "masquerade in BPF (%s true) needs Services in BPF (%s true); set the second to true or the first to false", key, needs)
	}
}

// services checks that there is exactly one to serve Services.
func (c *checker) services() {
	const proxyKey, key = "cluster.kubeProxyMode", "network.kubeProxyReplacement"
	if !c.sound(proxyKey, key) {
		return
	}
	mode, replaced := c.p.Cluster.KubeProxyMode, c.p.Network.KubeProxyReplacement
	switch {
	case replaced && mode != KubeProxyNone:
		c.report(c.later(proxyKey, key), "kube-proxy (%s %s) and its replacement (%s true) would both serve Services; set the first to %s or the second to false", proxyKey, mode, key, KubeProxyNone)
	case !replaced && mode == KubeProxyNone:
		c.report(c.later(key, proxyKey), "nothing would serve Services without kube-proxy (%s none) and without its replacement (%s false); set the first to %s or the second to true", proxyKey, key, KubeProxyIPTables)
	}
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

var deviceForm = regexp.MustCompile(`^[^\s/:]{1,15}$`)

func (c *checker) devices() {
	const key = "network.devices"
	for i, name := range c.p.Network.Devices {
		at := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case !deviceForm.MatchString(name) || name == "." || name == "..":
			c.item(key, at, "%q is not a device name, which has 1 to 15 characters without spaces, slashes and colons", name)
		case name == "lo" || strings.HasPrefix(name, "lab_") || strings.HasPrefix(name, "lxc"):
			c.item(key, at, "%s does not lead out of the node; name a network device such as eth0", name)
		case slices.Index(c.p.Network.Devices, name) < i:
			c.item(key, at, "%s is listed twice", name)
		}
	}
}

func (c *checker) skip() {
	const key = "verify.skip"
	for i, pattern := range c.p.Verify.Skip {
		at := fmt.Sprintf("%s[%d]", key, i)
		_, err := path.Match(pattern, "")
		switch {
		case err != nil || pattern == "" || strings.ContainsFunc(pattern, unicode.IsSpace):
			c.item(key, at, "%q is not the name of a check; `lab verify --list` prints them", pattern)
		case slices.Index(c.p.Verify.Skip, pattern) < i:
			c.item(key, at, "%s is listed twice", pattern)
		}
	}
}

// item reports a problem with one item of the list key; at is its path. A list from
// the environment or --set has one place for all items.
func (c *checker) item(key, at, format string, args ...any) {
	if !c.sound(at) {
		return
	}
	where := c.origins[key]
	if item, ok := c.origins[at]; ok && item.source == where.source {
		where = item
	}
	c.found.add(&Problem{Source: where.source, Line: where.line, Key: at, Message: fmt.Sprintf(format, args...)})
}
