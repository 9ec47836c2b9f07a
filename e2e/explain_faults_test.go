//go:build e2e

package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// concerned is a packet that a fault concerns, and what its passport says while the fault is there. Ends are node, the fault's
// node, pod, the demo's pod on that, far, that of the other node, router, the address that the other node has among those of its
// pods, gateway, who is outside, and dns, the cluster's Service for names, which is sent a datagram.
type concerned struct {
	from, to string
	says     []string
}

// in is a fault's packet that is explained in labs of one profile.
func in(profile string, c concerned) map[string]concerned { return map[string]concerned{profile: c} }

// explain holds that the passport of a packet that the fault concerns names where it ended, why, and the way out. As verify
// does, it looks again should the agent have mended it meanwhile.
func (p planted) explain(t *testing.T, f faulty, each fault, profile string) {
	t.Helper()
	c, known := each.passport[profile]
	if !known {
		return
	}
	ends := []string{f.end(t, c.from), f.end(t, c.to)}
	if c.to == "dns" {
		ends = append(ends, "--proto", "udp")
	}
	for range 3 {
		before, began := p.count(), time.Now()
		said := mustLab(t, append([]string{"explain", "--name", f.lab}, ends...)...).stdout
		if p.count() != before {
			t.Log("the agent has mended it meanwhile")
			continue
		}
		t.Logf("explained in %.1f s", time.Since(began).Seconds())
		for _, want := range c.says {
			if !strings.Contains(said, want) {
				t.Errorf("lab explain %s does not say %q:\n%s", strings.Join(ends, " "), want, said)
			}
		}
		return
	}
	t.Fatal("the agent mends it each time before it is explained")
}

// end is an end of a packet that a fault concerns, as lab explain takes it.
func (f faulty) end(t *testing.T, of string) string {
	t.Helper()
	node := f.node
	switch of {
	case "node":
		return f.node
	case "dns":
		return "kube-system/kube-dns:53"
	case "router":
		cidr := netip.MustParsePrefix(kubectl(t, f.lab, "get", "labnode", f.other, "-o", "jsonpath={.spec.podCIDRs[0]}"))
		return cidr.Addr().Next().String()
	case "gateway":
		return strings.Fields(onNode(t, f.node, "ip", "route", "show", "default"))[2]
	case "far":
		node = f.other
	}
	for _, p := range podsOf(t, f.lab, "default", "app=demo") {
		if p.Node == node {
			return p.Name
		}
	}
	t.Fatalf("no pod of the demo is on %s", node)
	return ""
}
