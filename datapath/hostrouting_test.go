package datapath

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// The settings and the mode, in the words that people see.
func TestChosenRouting(t *testing.T) {
	lacking := []string{"bpf_redirect_peer"}
	for name, test := range map[string]struct {
		cfg     Config
		missing []string
		mode    settings.Mode
		status  string
		refused string
	}{
		"kube-proxy":                  {Config{Network: settings.Network{EnableIPv4Masquerade: true}}, nil, settings.ModeKubeProxy, "Legacy (needs kube-proxy replacement; needs BPF masquerade)", ""},
		"iptables":                    {Config{Network: settings.Network{KubeProxyReplacement: true, EnableIPv4Masquerade: true}}, nil, settings.ModeKubeProxyReplacement, "Legacy (needs BPF masquerade)", ""},
		"BPF":                         {Config{Network: settings.Network{KubeProxyReplacement: true, EnableIPv4Masquerade: true, BPF: settings.BPF{Masquerade: true}}}, nil, settings.ModeEBPF, "BPF", ""},
		"no masquerading":             {Config{Network: settings.Network{KubeProxyReplacement: true}}, nil, settings.ModeEBPF, "BPF", ""},
		"switched off":                {Config{Network: settings.Network{KubeProxyReplacement: true, BPF: settings.BPF{HostLegacyRouting: true}}}, nil, settings.ModeKubeProxyReplacement, "Legacy (switched off by bpf.hostLegacyRouting)", ""},
		"an old kernel":               {Config{Network: settings.Network{KubeProxyReplacement: true}}, lacking, "", "", "bpf.allowFallback"},
		"an old kernel, fallback":     {Config{Network: settings.Network{KubeProxyReplacement: true, BPF: settings.BPF{AllowFallback: true}}}, lacking, settings.ModeKubeProxyReplacement, "Legacy (the kernel lacks bpf_redirect_peer)", ""},
		"an old kernel, not asked to": {Config{Network: settings.Network{KubeProxyReplacement: true, BPF: settings.BPF{HostLegacyRouting: true}}}, lacking, settings.ModeKubeProxyReplacement, "Legacy (the kernel lacks bpf_redirect_peer; switched off by bpf.hostLegacyRouting)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.cfg.chooseRouting(test.missing)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) || !strings.Contains(err.Error(), lacking[0]) {
					t.Errorf("got %v", err)
				}
				return
			}
			r := test.cfg.routing()
			got := r.Host
			if r.Reason != "" {
				got += " (" + r.Reason + ")"
			}
			if err != nil || test.cfg.Mode() != test.mode || got != test.status {
				t.Errorf("got %q, %q, %v; want %q, %q", test.cfg.Mode(), got, err, test.mode, test.status)
			}
		})
	}
}

// This kernel has the helpers; one that had not would be refused by Open, with nothing left behind.
func TestOpenRefusesToFallBack(t *testing.T) {
	netnstest.RequireRoot(t)
	missing, err := missingHelpers()
	if err != nil || len(missing) != 0 {
		t.Fatalf("the kernel lacks %v, %v", missing, err)
	}
	host := netnstest.NewNetwork(t).AddHost("node")
	cfg := Config{
		NodeName: "node", NodeIP: host.Addr, PodCIDR: netip.MustParsePrefix("10.244.0.0/24"),
		Network: settings.Network{RoutingMode: settings.RoutingNative, KubeProxyReplacement: true, IPv4NativeRoutingCIDR: netip.MustParsePrefix("10.0.0.0/8"), EnableIPv4Masquerade: true, BPF: settings.BPF{Masquerade: true}},
		BPFFS:   host.BPFFS, CgroupRoot: netnstest.NewCgroup(t).Path, lackHelpers: []string{"bpf_redirect_peer"},
	}
	host.Do(func() {
		if d, err := Open(context.Background(), cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Error("it was opened")
			d.Close()
		}
		cfg.BPF.AllowFallback = true
		d, err := Open(context.Background(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		s, err := d.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		r := s.Routing
		if r.Requested != "BPF" || r.Host != "Legacy" || r.Reason != "the kernel lacks bpf_redirect_peer" || s.Mode != string(settings.ModeKubeProxyReplacement) || s.Masquerading.Kind != string(settings.MasqueradeBPF) {
			t.Errorf("status is %+v", s)
		}
	})
}
