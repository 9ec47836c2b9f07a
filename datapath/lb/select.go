package lb

import "slices"

// choice are the backends of a Service to which this node sends new connections.
type choice struct {
	// cluster are for traffic without a policy: all that are ready, or those that topology hints
	// allot to this node or its zone.
	cluster []Backend
	// local are those on this node, for the traffic policies "Local".
	local []Backend
	// elsewhere says that local may be empty although the Service has backends.
	elsewhere bool
}

// choose applies readiness, topology hints and locality, in the way of the API's documentation: backends
// that terminate but still serve are used when no other one is left, in each list by itself.
func (s Service) choose(node, zone string) choice {
	var c choice
	ready := sift(s.Backends, func(b Backend) bool { return b.Ready })
	c.cluster = hinted(ready, node, zone)
	if len(c.cluster) == 0 {
		c.cluster = lastResort(s.Backends)
	}
	onNode := func(b Backend) bool { return node != "" && b.Node == node }
	c.local = sift(ready, onNode)
	if len(c.local) == 0 {
		c.local = sift(lastResort(s.Backends), onNode)
	}
	c.elsewhere = len(c.cluster) > 0
	c.cluster, c.local = inOrder(c.cluster), inOrder(c.local)
	return c
}

// lastResort are the terminating backends that still serve.
func lastResort(backends []Backend) []Backend {
	return sift(backends, func(b Backend) bool { return b.Serving && b.Terminating })
}

// hinted are the backends allotted to this node, or else to its zone. Hints count only when every
// backend has some and at least one is meant for here: traffic is never lost for the sake of a hint.
func hinted(ready []Backend, node, zone string) []Backend {
	for _, hint := range []struct {
		here string
		of   func(Backend) []string
	}{
		{node, func(b Backend) []string { return b.ForNodes }},
		{zone, func(b Backend) []string { return b.ForZones }},
	} {
		if hint.here == "" || slices.ContainsFunc(ready, func(b Backend) bool { return len(hint.of(b)) == 0 }) {
			continue
		}
		here := sift(ready, func(b Backend) bool { return slices.Contains(hint.of(b), hint.here) })
		if len(here) > 0 {
			return here
		}
	}
	return ready
}

// inOrder sorts by address, so that the same backends make the same list, and removes duplicates.
func inOrder(backends []Backend) []Backend {
	sorted := slices.Clone(backends)
	slices.SortStableFunc(sorted, func(a, b Backend) int { return a.Addr.Compare(b.Addr) })
	return slices.CompactFunc(sorted, func(a, b Backend) bool { return a.Addr == b.Addr })
}
