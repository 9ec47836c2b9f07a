package main

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

func services() map[string][]any {
	here := api.Backend{ID: 1, Addr: netip.MustParseAddrPort("10.0.1.5:80"), OnNode: true}
	demo := netip.MustParseAddrPort("10.96.0.9:8080")
	dns := netip.MustParseAddrPort("10.96.0.10:53")
	flow := api.Flow{
		Protocol: "tcp", Src: netip.MustParseAddrPort("10.0.1.7:40000"), Dst: demo,
		NewSrc: netip.MustParseAddrPort("10.0.1.7:40000"), NewDst: here.Addr, Service: "default/demo:http", State: "answered", Expires: time.Hour,
	}
	return map[string][]any{
		api.ServicesPath: {[]api.Service{
			{ID: 1, Service: "default/demo:http", Protocol: "tcp", Frontends: []api.ServiceFrontend{{Type: "ClusterIP", Addr: demo, Backends: []api.Backend{here}}}, Backends: []api.Backend{here}},
			{ID: 2, Service: "kube-system/dns", Protocol: "udp", Frontends: []api.ServiceFrontend{{Type: "ClusterIP", Addr: dns}}},
		}},
		api.FrontendsPath: {[]api.Frontend{
			{ID: 1, Service: "default/demo:http", Type: "ClusterIP", Addr: demo, Protocol: "tcp", From: "inside", Backends: []api.Backend{here}},
			{ID: 2, Service: "kube-system/dns", Type: "ClusterIP", Addr: dns, Protocol: "udp", From: "inside"},
		}},
		api.FlowsPath:        {[]api.Flow{flow}},
		api.TranslationsPath: {[]api.Flow{{Protocol: "tcp", Src: here.Addr, Dst: flow.Src, NewSrc: demo, NewDst: flow.Src, State: "closing"}}},
		api.IPCachePath: {[]api.IPCacheEntry{
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Identity: 2},
			{Prefix: netip.MustParsePrefix("10.0.2.0/24"), Node: netip.MustParseAddr("172.18.0.3")},
		}},
		api.TunnelsPath:   {[]api.TunnelEnd{{PodCIDR: netip.MustParsePrefix("10.0.2.0/24"), Node: netip.MustParseAddr("172.18.0.3")}}},
		api.EndpointsPath: {[]api.Endpoint{{ID: 2, Namespace: "default", Pod: "demo", Addr: netip.MustParseAddr("10.0.1.5"), HostIndex: 9, PodMAC: api.MAC{2, 5: 1}, HostMAC: api.MAC{2, 5: 2}}}},
	}
}

func TestLists(t *testing.T) {
	socket := serve(t, services())
	for _, tt := range []struct {
		command    string
		has, hasNo []string
	}{
		{"service list", []string{"10.96.0.9:8080/tcp", "10.0.1.5:80 here", "default/demo:http", "none: refused"}, nil},
		{"service list --service kube-system/dns", []string{"10.96.0.10:53/udp"}, []string{"demo"}},
		{"bpf lb list --frontend 10.96.0.9:8080", []string{"10.96.0.9:8080/tcp", "inside", "10.0.1.5:80 here"}, []string{"dns"}},
		{"bpf ct list", []string{"10.0.1.7:40000 > 10.96.0.9:8080", "> 10.0.1.5:80", "answered", "1h"}, nil},
		{"bpf ct list --address 10.0.1.8", []string{"SENT"}, []string{"10.0.1.7"}},
		{"bpf nat list", []string{"10.0.1.5:80 > 10.0.1.7:40000", "10.96.0.9:8080 >", "due"}, nil},
		{"bpf ipcache list", []string{"0.0.0.0/0    2         -", "10.0.2.0/24  0         172.18.0.3"}, nil},
		{"bpf tunnel list", []string{"10.0.2.0/24  172.18.0.3"}, nil},
		{"bpf endpoint list", []string{"10.0.1.5", "default/demo", "NODE MAC"}, nil},
	} {
		out, err := runCmd(t, append(strings.Fields(tt.command), "--socket", socket)...)
		missing := slices.ContainsFunc(tt.has, func(s string) bool { return !strings.Contains(out, s) })
		extra := slices.ContainsFunc(tt.hasNo, func(s string) bool { return strings.Contains(out, s) })
		if err != nil || missing || extra {
			t.Errorf("%s: %v, want %q and not %q in\n%s", tt.command, err, tt.has, tt.hasNo, out)
		}
	}
}

func TestListsAsJSON(t *testing.T) {
	socket := serve(t, services())
	out, err := runCmd(t, "service", "list", "--service", "default/demo", "-o", "json", "--socket", socket)
	var got []api.Service
	if jsonErr := json.Unmarshal([]byte(out), &got); err != nil || jsonErr != nil || len(got) != 1 || got[0].Service != "default/demo:http" {
		t.Errorf("%v, %v: %s", err, jsonErr, out)
	}
	out, err = runCmd(t, "bpf", "ct", "list", "--address", "192.0.2.1", "-o", "json", "--socket", socket)
	if err != nil || strings.TrimSpace(out) != "[]" {
		t.Errorf("no flows: %v, %s", err, out)
	}
}

func TestListsThatFail(t *testing.T) {
	refusing := serve(t, map[string][]any{api.FrontendsPath: {api.HTTPError{Message: "mode kubeproxy has no Services in BPF"}}})
	for command, want := range map[string]string{
		"bpf lb list":                  "mode kubeproxy has no Services in BPF",
		"bpf lb list --service demo":   "namespace/name",
		"bpf lb list --frontend x":     `"x"`,
		"bpf ct list --address x":      `"x"`,
		"bpf ct list --frontend x":     "unknown flag",
		"bpf nothing":                  "unknown",
		"bpf endpoint list everything": "unknown command",
	} {
		out, err := runCmd(t, append(strings.Fields(command), "--socket", refusing)...)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || out != "" {
			t.Errorf("%s: %v, want an error with %q", command, err, want)
		}
	}
}

func TestListsCompleteTheirFlags(t *testing.T) {
	socket := serve(t, services())
	for command, want := range map[string]string{
		"service list --service":   "kube-system/dns",
		"bpf lb list --frontend":   "10.96.0.10:53",
		"bpf endpoint list":        "ShellCompDirectiveNoFileComp",
		"bpf ct list --output":     "json",
		"bpf ct list --address":    "ShellCompDirectiveNoFileComp",
		"service list --frontend=": "10.96.0.9:8080",
	} {
		args := append([]string{"__complete"}, strings.Fields(command)...)
		args = slices.Insert(args, 3, "--socket", socket)
		if !strings.HasSuffix(command, "=") {
			args = append(args, "")
		}
		var out strings.Builder
		if err := run(t.Context(), args, &out, &out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, want %q in\n%s", command, err, want, out.String())
		}
	}
}

func TestCommandsOfListsHelp(t *testing.T) {
	for _, command := range []string{"service list", "bpf lb list", "bpf ct list", "bpf nat list", "bpf endpoint list", "bpf ipcache list", "bpf tunnel list"} {
		out, err := runCmd(t, append(strings.Fields(command), "--help")...)
		if err != nil || !strings.Contains(out, "Examples:\n  wirelab-agent "+command) {
			t.Errorf("%s --help: %v\n%s", command, err, out)
		}
	}
}
