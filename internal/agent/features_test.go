package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/api"
)

// TestFeatures: what is on is what the node does, and not what was asked for; every feature is there once.
func TestFeatures(t *testing.T) {
	noPeer := func(part string) (bool, error) { return part != "bpf_redirect_peer", nil }
	list := func(r running) map[string]api.Feature {
		all, err := listFeatures(r, noPeer)
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]api.Feature{}
		for _, f := range all {
			if _, twice := by[f.Name]; twice {
				t.Errorf("%s is there twice", f.Name)
			}
			by[f.Name] = f
			if f.State == api.FeatureOn != (f.Value != "") || f.State == api.FeatureNone && f.Value != "" {
				t.Errorf("%+v", f)
			}
		}
		return by
	}
	want := config.Config{}
	want.Prometheus.Port = 9962
	want.BPF.Masquerade, want.EnableIPv4Masquerade, want.KubeProxyReplacement = true, true, true
	legacy := list(running{&api.Datapath{AttachMode: "tcx", Routing: api.Routing{Network: "native", Host: "Legacy"}, Masquerading: api.Masquerading{Enabled: true, Kind: "iptables", Backend: "nf_tables"}}, want})
	want.Flows.Capacity, want.Flows.Metrics, want.Prometheus.Enabled = 4096, []string{"drop", "icmp"}, true
	ebpf := list(running{&api.Datapath{
		Routing:      api.Routing{Network: "tunnel", Host: "BPF", Tunnel: &api.Tunnel{Protocol: "vxlan", Port: 8472, Device: "lab_vxlan"}},
		Masquerading: api.Masquerading{Enabled: true, Kind: "BPF", Devices: []string{"eth0"}}, Services: &api.Services{Sockets: []string{"connect4"}, Devices: []string{"eth0"}},
	}, want})
	for _, tt := range []struct {
		of          map[string]api.Feature
		name, state string
		value       string
	}{
		{legacy, "BPF host routing", api.FeatureOff, ""},
		{ebpf, "BPF host routing", api.FeatureOn, "BPF"},
		{legacy, "Masquerading (iptables)", api.FeatureOn, "nf_tables"},
		{legacy, "Masquerading (BPF)", api.FeatureOff, ""},
		{ebpf, "Masquerading (BPF)", api.FeatureOn, "eth0"},
		{legacy, "Attachment by tcx", api.FeatureOn, "tcx"},
		{ebpf, "Attachment by tcx", api.FeatureOff, ""},
		{legacy, "Native routing", api.FeatureOn, "native"},
		{ebpf, "Native routing", api.FeatureOff, ""},
		{ebpf, "Tunnel (VXLAN)", api.FeatureOn, "lab_vxlan, port 8472"},
		{ebpf, "Tunnel (Geneve)", api.FeatureOff, ""},
		{legacy, "Socket load balancing", api.FeatureOff, ""},
		{ebpf, "Socket load balancing", api.FeatureOn, "connect4"},
		{legacy, "HostPort", api.FeatureOn, "iptables"},
		{legacy, "Flow records", api.FeatureOff, ""},
		{ebpf, "Flow records", api.FeatureOn, "the latest 4096"},
		{legacy, "Prometheus metrics", api.FeatureOff, ""},
		{ebpf, "Prometheus metrics", api.FeatureOn, "port 9962"},
		{legacy, "Flow metrics", api.FeatureOff, ""},
		{ebpf, "Flow metrics", api.FeatureOn, "drop icmp"},
		{ebpf, "Flow metrics of DNS and HTTP", api.FeatureNone, ""},
		{ebpf, "HostPort", api.FeatureOn, "BPF"},
		{ebpf, "Egress gateway", api.FeatureNone, ""},
	} {
		if f := tt.of[tt.name]; f.State != tt.state || f.Value != tt.value {
			t.Errorf("%s: %+v, want %s %s", tt.name, f, tt.state, tt.value)
		}
	}
	if got := ebpf["BPF host routing"].Kernel; got != "has bpf_redirect_neigh, bpf_fib_lookup; lacks bpf_redirect_peer" {
		t.Errorf("the kernel %s", got)
	}
	if _, err := listFeatures(running{&api.Datapath{}, want}, func(string) (bool, error) { return false, errors.New("not allowed") }); err == nil {
		t.Error("a kernel that could not be asked is no error")
	}
}

// TestKernelIsAskedForKnownParts: there is a way to ask for every part that a feature names.
func TestKernelIsAskedForKnownParts(t *testing.T) {
	var parts []string
	for _, f := range features() {
		parts = append(parts, f.kernel...)
	}
	slices.Sort(parts)
	for _, p := range slices.Compact(parts) {
		if _, err := datapath.KernelHas(p); err != nil && strings.Contains(err.Error(), "no way to") {
			t.Error(err)
		}
	}
	if _, err := datapath.KernelHas("magic"); err == nil {
		t.Error("the kernel has magic")
	}
}
