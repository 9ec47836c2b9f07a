package reach

import (
	"net/netip"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// reached sums probes up.
func reached(probes []api.Probe) api.Reach {
	answered := 0
	for _, p := range probes {
		if p.Error == "" {
			answered++
		}
	}
	switch answered {
	case len(probes):
		return api.Reached
	case 0:
		return api.NotReached
	}
	return api.ReachedPartly
}

// failing is a sentence on what a node that is not reached in every way
// answers and what it does not; empty when it is.
func failing(n api.NodeHealth) string {
	begin := "node " + n.Name + " is not reached: "
	switch n.Reached {
	case api.Reached:
		return ""
	case api.ReachedPartly:
		begin = "node " + n.Name + " is partly reached: "
	}
	var parts []string
	for _, target := range []struct {
		name, what string
		addr       netip.Addr
	}{{onNode, "its address", n.Addr}, {onEndpoint, "its health endpoint", n.Endpoint}} {
		ways := waysTo(n.Probes, target.name, n.Reached == api.ReachedPartly)
		if ways == "" {
			continue
		}
		what := target.what
		if target.addr.IsValid() {
			what += " " + target.addr.String()
		}
		parts = append(parts, what+" "+ways)
	}
	return begin + strings.Join(parts, "; ")
}

// waysTo names the protocols by which a target answers and those by which it
// does not, each with its reason, or both with one. Where nothing of a node
// answers, the sentence has its "not" already.
func waysTo(probes []api.Probe, target string, partly bool) string {
	var good, bad, reasons []string
	for _, p := range probes {
		switch {
		case p.Target != target:
		case p.Error == "":
			good = append(good, p.Protocol)
		default:
			bad, reasons = append(bad, p.Protocol), append(reasons, p.Error)
		}
	}
	both := " and "
	if partly {
		both = " nor "
	}
	lost := strings.Join(bad, both)
	switch {
	case len(reasons) == 2 && reasons[0] != reasons[1]:
		lost = bad[0] + " (" + reasons[0] + ")" + both + bad[1] + " (" + reasons[1] + ")"
	case len(reasons) > 0:
		lost += " (" + reasons[0] + ")"
	}
	switch {
	case len(bad) == 0 && len(good) == 0:
		return ""
	case len(bad) == 0:
		return "by " + strings.Join(good, " and ")
	case len(good) > 0:
		return "by " + strings.Join(good, " and ") + ", not by " + lost
	case partly && len(bad) > 1:
		return "by neither " + lost
	case partly:
		return "not by " + lost
	}
	return "by " + lost
}
