package datapath

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/netnstest"
)

// All sixteen: what is missing has its own sentence, always in the same order.
func TestHostRouting(t *testing.T) {
	const (
		helpers     = "the kernel lacks bpf_redirect_peer, bpf_redirect_neigh"
		replacement = "needs kube-proxy replacement"
		masquerade  = "needs BPF masquerade"
		switchedOff = "switched off by bpf.hostLegacyRouting"
	)
	missing := []string{"bpf_redirect_peer", "bpf_redirect_neigh"}
	for _, test := range []struct {
		wanted  Wanted
		asked   Routing
		reasons []string
	}{
		{Wanted{nil, true, false, false}, RoutingBPF, nil},
		{Wanted{nil, true, false, true}, RoutingLegacy, []string{switchedOff}},
		{Wanted{nil, true, true, false}, RoutingLegacy, []string{masquerade}},
		{Wanted{nil, true, true, true}, RoutingLegacy, []string{masquerade, switchedOff}},
		{Wanted{nil, false, false, false}, RoutingLegacy, []string{replacement}},
		{Wanted{nil, false, false, true}, RoutingLegacy, []string{replacement, switchedOff}},
		{Wanted{nil, false, true, false}, RoutingLegacy, []string{replacement, masquerade}},
		{Wanted{nil, false, true, true}, RoutingLegacy, []string{replacement, masquerade, switchedOff}},
		{Wanted{missing, true, false, false}, RoutingBPF, []string{helpers}},
		{Wanted{missing, true, false, true}, RoutingLegacy, []string{helpers, switchedOff}},
		{Wanted{missing, true, true, false}, RoutingLegacy, []string{helpers, masquerade}},
		{Wanted{missing, true, true, true}, RoutingLegacy, []string{helpers, masquerade, switchedOff}},
		{Wanted{missing, false, false, false}, RoutingLegacy, []string{helpers, replacement}},
		{Wanted{missing, false, false, true}, RoutingLegacy, []string{helpers, replacement, switchedOff}},
		{Wanted{missing, false, true, false}, RoutingLegacy, []string{helpers, replacement, masquerade}},
		{Wanted{missing, false, true, true}, RoutingLegacy, []string{helpers, replacement, masquerade, switchedOff}},
	} {
		effective, reasons := HostRouting(test.wanted)
		if (effective == RoutingBPF) != (test.reasons == nil) || !slices.Equal(reasons, test.reasons) || test.wanted.Asked() != test.asked {
			t.Errorf("%+v: %s, asked for %s, for %q; want reasons %q, asked for %s", test.wanted, effective, test.wanted.Asked(), reasons, test.reasons, test.asked)
		}
	}
}

// The settings and the mode, in the words that people see.
func TestChosenRouting(t *testing.T) {
	lacking := []string{"bpf_redirect_peer"}
	for name, test := range map[string]struct {
		cfg     Config
		missing []string
		mode    Mode
		status  string
		refused string
	}{
		"kube-proxy":                  {Config{Mode: ModeKubeProxy, Masquerade: true}, nil, ModeKubeProxy, "Legacy (needs kube-proxy replacement; needs BPF masquerade)", ""},
		"iptables":                    {Config{Mode: ModeKubeProxyReplacement, Masquerade: true}, nil, ModeKubeProxyReplacement, "Legacy (needs BPF masquerade)", ""},
		"BPF":                         {Config{Mode: ModeKubeProxyReplacement, Masquerade: true, BPFMasquerade: true}, nil, ModeEBPF, "BPF", ""},
		"BPF, by its mode":            {Config{Mode: ModeEBPF, Masquerade: true, BPFMasquerade: true}, nil, ModeEBPF, "BPF", ""},
		"no masquerading":             {Config{Mode: ModeKubeProxyReplacement}, nil, ModeEBPF, "BPF", ""},
		"switched off":                {Config{Mode: ModeEBPF, LegacyRouting: true}, nil, ModeKubeProxyReplacement, "Legacy (switched off by bpf.hostLegacyRouting)", ""},
		"an old kernel":               {Config{Mode: ModeKubeProxyReplacement}, lacking, "", "", "bpf.allowFallback"},
		"an old kernel, fallback":     {Config{Mode: ModeKubeProxyReplacement, AllowFallback: true}, lacking, ModeKubeProxyReplacement, "Legacy (the kernel lacks bpf_redirect_peer)", ""},
		"an old kernel, not asked to": {Config{Mode: ModeKubeProxyReplacement, LegacyRouting: true}, lacking, ModeKubeProxyReplacement, "Legacy (the kernel lacks bpf_redirect_peer; switched off by bpf.hostLegacyRouting)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.cfg.chooseRouting(test.missing)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) || !strings.Contains(err.Error(), lacking[0]) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || test.cfg.Mode != test.mode || test.cfg.routing.String() != test.status {
				t.Errorf("got %q, %q, %v; want %q, %q", test.cfg.Mode, test.cfg.routing, err, test.mode, test.status)
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
		Mode: ModeKubeProxyReplacement, NodeName: "node", NodeIP: host.Addr, PodCIDR: netip.MustParsePrefix("10.244.0.0/24"), NativeCIDR: netip.MustParsePrefix("10.0.0.0/8"),
		Masquerade: true, BPFMasquerade: true, BPFFS: host.BPFFS, CgroupRoot: netnstest.NewCgroup(t).Path, lackHelpers: []string{"bpf_redirect_peer"},
	}
	host.Do(func() {
		if d, err := Open(context.Background(), cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Error("it was opened")
			d.Close()
		}
		cfg.AllowFallback = true
		d, err := Open(context.Background(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		s, err := d.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		want := HostRoutingStatus{Requested: RoutingBPF, Effective: RoutingLegacy, Reason: "the kernel lacks bpf_redirect_peer"}
		if s.HostRouting != want || s.Mode != ModeKubeProxyReplacement || s.Masquerade.Kind != masqueradeBPF {
			t.Errorf("status is %+v", s)
		}
	})
}
