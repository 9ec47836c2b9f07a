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

	"wirelab.dev/wirelab/internal/settings"
)

// checker holds a merged profile against the rules that involve more than one value's
// own form. What has a problem already is not complained about again.
type checker struct {
	p       *Profile
	origins map[string]origin
	// poolFollows: the pool is the pod subnet, so that what is wrong with it is the latter's.
	poolFollows bool
	// partial: a file was not read, so what looks like a default may have been set.
	partial bool
	found   *problems
	known   problems
}

func validate(p *Profile, origins map[string]origin, poolFollows, partial bool, found *problems) {
	c := &checker{p: p, origins: origins, poolFollows: poolFollows, partial: partial, found: found, known: slices.Clone(*found)}
	c.name()
	c.subnets()
	c.nodes()
	c.network()
	c.native()
	c.pool()
	c.services()
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
	const key = podSubnetKey
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

// network takes over what is wrong with the network by itself.
func (c *checker) network() {
	for _, f := range settings.Faults(c.p.Network.Validate("network")) {
		key := f.Keys[0]
		if len(f.Keys) == 2 {
			key = c.later(key, f.Keys[1])
		}
		switch list, _, item := strings.Cut(key, "["); {
		case !c.sound(f.Keys...), c.poolFollows && strings.HasPrefix(f.Keys[0], poolKey):
		case item:
			c.item(list, key, "%s", f.Message)
		default:
			c.report(key, "%s", f.Message)
		}
	}
}

// native checks the native-routing CIDR against what it is there for.
func (c *checker) native() {
	if c.p.pooled() && !c.poolFollows {
		return // it is the pool that counts
	}
	const key, podKey = "network.ipv4NativeRoutingCIDR", "cluster.podSubnet"
	native, pods := c.p.Network.IPv4NativeRoutingCIDR, c.p.Cluster.PodSubnet
	if !c.sound(key, podKey) || !native.IsValid() || !pods.IsValid() || unusable(pods) != "" {
		return
	}
	if !contains(native, pods) {
		c.report(c.later(key, podKey), "the native-routing CIDR %s does not contain the pod subnet %s, so traffic between pods would be masqueraded; widen the one or move the other", native, pods)
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
