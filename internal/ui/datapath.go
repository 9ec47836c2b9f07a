package ui

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// NodeDatapath is what a node's agent says; Away is why it says nothing, where Status or its Datapath is nil.
type NodeDatapath struct {
	Node   string
	Status *api.Status
	Away   string
}

// datapathPatience is how long nodes may take to be read.
const datapathPatience = 20 * time.Second

// datapaths answers with how each node carries packets, as boxes to be drawn.
func (s *Server) datapaths(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), datapathPatience)
	defer cancel()
	nodes, err := s.lab.Datapaths(ctx)
	if err != nil {
		http.Error(w, strings.TrimSpace(err.Error()), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	plans := []plan{}
	for _, n := range nodes {
		plans = append(plans, planOf(n))
	}
	_ = json.NewEncoder(w).Encode(plans) // who has gone reads nothing
}

// plan is a node as it is drawn: boxes from its pods down to its NICs.
type plan struct {
	Node  string   `json:"node"`
	Away  string   `json:"away,omitempty"` // why there are no boxes
	Mode  string   `json:"mode,omitempty"`
	Facts []string `json:"facts,omitempty"` // what holds for the whole node
	Boxes []box    `json:"boxes,omitempty"`
}

// box is a device, or what else a packet passes.
type box struct {
	Kind  string   `json:"kind"` // sockets | pods | host | stack | tunnel | nic
	Title string   `json:"title"`
	Says  []string `json:"says,omitempty"`
	// Passed says that packets of pods between nodes pass it.
	Passed   bool         `json:"passed"`
	Programs []programBox `json:"programs,omitempty"`
	Wrong    string       `json:"wrong,omitempty"` // what is not as it should be
}

type programBox struct {
	Name string `json:"name"`
	Hook string `json:"hook"`
}

const lxcPrefix = "lxc" // host-side veths

func planOf(n NodeDatapath) plan {
	p := plan{Node: n.Node, Away: n.Away}
	if n.Status == nil || n.Status.Datapath == nil {
		p.Away = cmp.Or(p.Away, "the datapath is not open")
		return p
	}
	d := n.Status.Datapath
	p.Mode = d.Mode
	hostRouting := d.Routing.Host == "BPF"
	p.Facts = factsOf(d)
	if s := d.Services; s != nil {
		sockets := box{Kind: "sockets", Title: "sockets", Says: []string{"a Service's address is replaced as a socket connects or sends"}}
		for _, hook := range s.Sockets {
			sockets.Programs = append(sockets.Programs, programBox{"lab_" + hook, "cgroup"})
		}
		if len(s.Sockets) == 0 {
			sockets.Wrong = "no program is at the node's cgroups"
		}
		p.Boxes = append(p.Boxes, sockets)
	}
	p.Boxes = append(p.Boxes, podsOf(d, n.Status.Endpoints))
	for _, device := range d.Devices {
		b := box{Kind: "nic", Title: device.Name, Passed: true, Programs: programsAt(d.Programs, device.Name)}
		for _, a := range device.Addrs {
			b.Says = append(b.Says, a.String())
		}
		switch t := d.Routing.Tunnel; {
		case device.Name == "lab_host":
			b.Kind, b.Passed = "host", !hostRouting
			b.Says = append(b.Says, "between the node's stack and its pods")
		case t != nil && device.Name == t.Device:
			b.Kind = "tunnel"
			b.Says = append(b.Says, fmt.Sprintf("%s, UDP port %d", t.Protocol, t.Port))
		case device.Name == "lab_net": // the other end of lab_host
			continue
		}
		if !device.Up {
			b.Wrong = "down"
		}
		p.Boxes = append(p.Boxes, b)
	}
	p.Boxes = append(p.Boxes, stackOf(d, hostRouting))
	slices.SortStableFunc(p.Boxes, func(a, b box) int { return cmp.Compare(slices.Index(kinds(), a.Kind), slices.Index(kinds(), b.Kind)) })
	return p
}

// kinds are those of boxes, from the pods down.
func kinds() []string { return []string{"sockets", "pods", "host", "stack", "tunnel", "nic"} }

func factsOf(d *api.Datapath) []string {
	services := "kube-proxy"
	if d.Services != nil {
		services = "BPF"
	}
	masquerade := "none"
	if d.Masquerading.Enabled {
		masquerade = d.Masquerading.Kind
	}
	routing := d.Routing.Network
	if t := d.Routing.Tunnel; t != nil {
		routing += ", " + t.Protocol
	}
	host := d.Routing.Host
	if d.Routing.Reason != "" {
		host += " (" + d.Routing.Reason + ")"
	}
	return []string{"Services: " + services, "Masquerade: " + masquerade, "Routing: " + routing, "Host routing: " + host}
}

// podsOf is the box of the pods' veths. They are alike, so one box stands for all.
func podsOf(d *api.Datapath, endpoints int) box {
	b := box{Kind: "pods", Title: fmt.Sprintf("%d pods, each with a veth lxc…", endpoints), Passed: true}
	for _, p := range d.Programs {
		veths := 0
		for _, device := range p.AttachedTo {
			if strings.HasPrefix(device, lxcPrefix) {
				veths++
			}
		}
		switch {
		case veths == 0:
			continue
		case veths < endpoints:
			b.Wrong = fmt.Sprintf("%s is on %d of %d veths", p.Name, veths, endpoints)
		}
		b.Programs = append(b.Programs, programBox{p.Name, p.Hook})
	}
	if len(b.Programs) == 0 && endpoints > 0 {
		b.Wrong = "no program is on a pod's veth"
	}
	return b
}

func programsAt(programs []api.Program, device string) (out []programBox) {
	for _, p := range programs {
		if slices.Contains(p.AttachedTo, device) {
			out = append(out, programBox{p.Name, p.Hook})
		}
	}
	return out
}

func stackOf(d *api.Datapath, hostRouting bool) box {
	b := box{Kind: "stack", Title: "the node's stack", Passed: !hostRouting}
	if hostRouting {
		b.Says = append(b.Says, "packets of pods between nodes do not pass it")
	} else {
		b.Says = append(b.Says, "it forwards packets of pods between nodes")
	}
	if d.Services == nil {
		b.Says = append(b.Says, "kube-proxy's rules pick backends")
	}
	if d.Masquerading.Enabled && d.Masquerading.Kind == "iptables" {
		b.Says = append(b.Says, "iptables masquerades what leaves "+d.Masquerading.NativeCIDR.String())
	}
	return b
}
