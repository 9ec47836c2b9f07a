package datapath

import (
	"testing"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/settings"
)

// TestDropsThatAreKnown holds that a drop is counted from 0 on where a program can make it, and nowhere else.
func TestDropsThatAreKnown(t *testing.T) {
	const (
		fromPod, fromNetwork = bpf.PodLabDirectionDIR_FROM_POD, bpf.PodLabDirectionDIR_FROM_NETWORK
		forged, noNode       = bpf.PodLabReasonREASON_FORGED_SOURCE, bpf.PodLabReasonREASON_NO_NODE
		malformed, noBackend = bpf.PodLabReasonREASON_MALFORMED, bpf.PodLabReasonREASON_NO_BACKEND
	)
	kubeProxy := settings.Network{RoutingMode: settings.RoutingNative}
	replacement := settings.Network{RoutingMode: settings.RoutingNative, KubeProxyReplacement: true}
	tunneled := func(n settings.Network) settings.Network {
		n.RoutingMode, n.TunnelProtocol = settings.RoutingTunnel, settings.TunnelVXLAN
		return n
	}
	for _, test := range []struct {
		name    string
		network settings.Network
		dir     bpf.Direction
		reason  bpf.Reason
		want    bool
	}{
		{"no NIC has a program", kubeProxy, fromNetwork, malformed, false},
		{"a pod's veth has", kubeProxy, fromPod, malformed, true},
		{"nor translates it", kubeProxy, fromPod, noBackend, false},
		{"a NIC has", replacement, fromNetwork, malformed, true},
		{"and translates", replacement, fromNetwork, noBackend, true},
		{"there is no tunnel", replacement, fromNetwork, forged, false},
		{"nothing comes by it", replacement, fromNetwork, noNode, false},
		{"the tunnel has a program", tunneled(kubeProxy), fromNetwork, malformed, true},
		{"which looks who sends", tunneled(kubeProxy), fromNetwork, forged, true},
		{"and from where", tunneled(replacement), fromNetwork, noNode, true},
		{"which pods' veths do not", tunneled(replacement), fromPod, forged, false},
	} {
		if got := (Config{Network: test.network}).counts(test.dir, test.reason); got != test.want {
			t.Errorf("%s: %s %s is counted from 0 on: %v", test.name, reasons[test.reason], directions[test.dir], got)
		}
	}
}
