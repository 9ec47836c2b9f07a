package ui

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/api"
)

// drawnAs is a plan in short: each box by its kind, "!" where pods' packets between nodes pass it, and its programs.
func drawnAs(p plan) (out []string) {
	for _, b := range p.Boxes {
		s := b.Kind
		if b.Passed {
			s += "!"
		}
		for _, g := range b.Programs {
			s += " " + g.Name + "@" + g.Hook
		}
		out = append(out, s)
	}
	return out
}

// TestPlans: each mode and the tunnel is drawn with what its nodes have, and what is missing is told.
func TestPlans(t *testing.T) {
	ebpf := nodeStatus()
	if got, want := drawnAs(planOf(NodeDatapath{Status: ebpf})), []string{
		"sockets lab_connect4@cgroup lab_sendmsg4@cgroup", "pods! lab_from_pod@tcx ingress", "host lab_to_pod@tcx egress", "stack",
		"nic! lab_from_network@tcx ingress lab_to_network@tcx egress",
	}; !slices.Equal(got, want) {
		t.Errorf("mode ebpf is\n%q, want\n%q", got, want)
	}

	tunnel := nodeStatus()
	d := tunnel.Datapath
	d.Routing.Network, d.Routing.Tunnel = "tunnel", &api.Tunnel{Protocol: "vxlan", Port: 8472, Device: "lab_vxlan"}
	d.Devices = append(d.Devices, api.Device{Name: "lab_vxlan", Up: true})
	d.Programs = append(d.Programs, api.Program{Name: "lab_from_tunnel", Hook: "tcx ingress", AttachedTo: []string{"lab_vxlan"}})
	if got := drawnAs(planOf(NodeDatapath{Status: tunnel})); got[4] != "tunnel! lab_from_tunnel@tcx ingress" || !strings.HasPrefix(got[5], "nic!") {
		t.Errorf("with a tunnel it is %q", got)
	}

	iptables := nodeStatus()
	d = iptables.Datapath
	d.Mode, d.Services, d.Masquerading.Kind, d.Programs = "kubeproxy", nil, "iptables", d.Programs[:2]
	d.Routing.Host, d.Routing.Reason = "Legacy", "needs BPF masquerade"
	p := planOf(NodeDatapath{Status: iptables})
	if got, want := drawnAs(p), []string{"pods! lab_from_pod@tcx ingress", "host! lab_to_pod@tcx egress", "stack!", "nic!"}; !slices.Equal(got, want) {
		t.Errorf("mode kubeproxy is %q, want %q", got, want)
	}
	says := strings.Join(slices.Concat(p.Facts, p.Boxes[2].Says), "; ")
	for _, want := range []string{"Services: kube-proxy", "Host routing: Legacy (needs BPF masquerade)", "kube-proxy's rules pick backends", "10.0.0.0/8"} {
		if !strings.Contains(says, want) {
			t.Errorf("%q is not said in %q", want, says)
		}
	}

	broken := nodeStatus()
	d = broken.Datapath
	d.Programs[0].AttachedTo, d.Services.Sockets, d.Devices[0].Up = []string{"lxc2"}, nil, false
	var wrong []string
	for _, b := range planOf(NodeDatapath{Status: broken}).Boxes {
		wrong = append(wrong, b.Wrong)
	}
	if want := []string{"no program is at the node's cgroups", "lab_from_pod is on 1 of 2 veths", "", "", "down"}; !slices.Equal(wrong, want) {
		t.Errorf("what is wrong is %q, want %q", wrong, want)
	}
	d.Programs = nil
	if b := planOf(NodeDatapath{Status: broken}).Boxes[1]; b.Wrong != "no program is on a pod's veth" {
		t.Errorf("without a program the pods' box says %q", b.Wrong)
	}
	if p := planOf(NodeDatapath{Status: &api.Status{}}); p.Away != "the datapath is not open" || p.Boxes != nil {
		t.Errorf("a node whose datapath is not open is %+v", p)
	}
	d.Devices[0].Addrs = append(d.Devices[0].Addrs, netip.MustParsePrefix("2001:db8::1/64"))
	if b := planOf(NodeDatapath{Status: broken}).Boxes; !slices.Equal(b[len(b)-1].Says, []string{"172.18.0.2/16", "2001:db8::1/64"}) {
		t.Errorf("the NIC says %q", b[len(b)-1].Says)
	}
}

// TestDatapathsThatCannotBeRead: the reason is a sentence, and no answer.
func TestDatapathsThatCannotBeRead(t *testing.T) {
	s := &Server{lab: Lab{Datapaths: func(context.Context) ([]NodeDatapath, error) {
		return nil, errors.New("the API server does not answer")
	}}}
	w := httptest.NewRecorder()
	s.datapaths(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/datapath", nil))
	if w.Code != http.StatusBadGateway || w.Body.String() != "the API server does not answer\n" {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
