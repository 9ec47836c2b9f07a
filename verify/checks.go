package verify

import (
	"crypto/rand"
	"slices"
	"time"

	"wirelab.dev/wirelab/verify/probe"
)

// Modes a profile can choose, as everywhere in wirelab.
const (
	modeKubeProxy   = "kubeproxy"
	modeReplacement = "kubeproxy-replacement"
	modeEBPF        = "ebpf"
)

// watchTimeout bounds a capture that a check ends itself, or that ends by a
// packet which is sent at once.
const watchTimeout = probe.Duration(4 * time.Second)

// Checks returns every check there is, in the order of reports. The slow ones
// of a group come first, as they start in this order.
func Checks() []Check {
	return slices.Concat(pathChecks(), hopChecks(), hostChecks(), nodeChecks(), podChecks(), outsideChecks(),
		serviceChecks(), policyChecks(), dnsChecks(), mapChecks(), ruleChecks(), kubeProxyChecks(), []Check{demoCheck()})
}

// newMarker returns a payload no other probe of any run has.
func newMarker() string { return rand.Text() }
