package checks

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// apiServer has the demo's Service and the endpoints of all; in it Leaver goes away.
func (w *world) apiServer() *fake.Clientset {
	demo := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}}
	demo.Spec.ClusterIP = w.demo().Addr.String()
	demo.Spec.Ports = []corev1.ServicePort{{Port: 8080, NodePort: 32000, Protocol: corev1.ProtocolTCP}}
	objects := []runtime.Object{demo}
	for _, s := range w.services() {
		objects = append(objects, sliceOf(s))
	}
	for _, n := range w.env.Nodes {
		name, image := "coredns", "coredns:1"
		if !w.env.KubeProxyReplacement() {
			name, image = "kube-proxy", "kube-proxy:1"
		}
		objects = append(objects, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name + "-" + n.Node},
			Spec:       corev1.PodSpec{NodeName: n.Node, Containers: []corev1.Container{{Image: image}}},
		})
	}
	kube := fake.NewClientset(objects...)
	kube.PrependReactor("delete", "pods", func(action k8stesting.Action) (bool, runtime.Object, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if action.(k8stesting.DeleteAction).GetName() == w.env.Leaver.Self && !w.immortal {
			w.env.Changing.Backends = slices.DeleteFunc(slices.Clone(w.env.Changing.Backends), func(h field.Peer) bool { return h.Self == w.env.Leaver.Self })
		}
		return true, nil, nil
	})
	return kube
}

// sliceOf has a Service's backends, all of them ready.
func sliceOf(s field.Service) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: s.Namespace, Name: s.Name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: s.Name},
	}}
	ready, port := true, int32(field.PodPort)
	protocols := []corev1.Protocol{corev1.ProtocolTCP}
	if s.NodePortUDP != 0 {
		protocols = append(protocols, corev1.ProtocolUDP)
	}
	for _, p := range protocols {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Protocol: &p, Port: &port})
	}
	for _, b := range s.Backends {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{b.Addr.String()}, NodeName: &b.Node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef:  &corev1.ObjectReference{Name: b.Self},
		})
	}
	return slice
}

// row is how many numbers of slots and of backends each Service of the model has.
const row = 16

// readMap answers from the model's Services.
func (p *place) readMap(spec *probe.BPFMap) probe.Reply {
	result := &probe.BPFMapResult{Path: spec.Path}
	switch {
	case strings.HasSuffix(spec.Path, "/lab_services"):
		for i, s := range p.w.services() {
			result.Entries = append(result.Entries, p.frontends(i, s)...)
		}
	case strings.HasSuffix(spec.Path, "/lab_ipcache"):
		result.Entries = p.holders()
	case strings.HasSuffix(spec.Path, "/lab_slots"):
		for _, index := range spec.Indexes {
			result.Entries = append(result.Entries, mapEntry(index, index))
		}
	case strings.HasSuffix(spec.Path, "/lab_backends"):
		for _, index := range spec.Indexes {
			backend := p.w.services()[index/row].Backends[index%row]
			result.Entries = append(result.Entries, mapEntry(index, map[string]any{"addr": addrInMap(backend.Addr), "port": field.PodPort}))
		}
	default:
		return probe.Reply{Error: "the model has no map at " + spec.Path}
	}
	return probe.Reply{BPFMap: result}
}

func (p *place) frontends(i int, s field.Service) []probe.BPFEntry {
	var entries []probe.BPFEntry
	add := func(addr netip.Addr, port uint16, proto, scope int) {
		key := map[string]any{"addr": addrInMap(addr), "port": port, "proto": proto, "scope": scope}
		entries = append(entries, mapEntry(key, map[string]any{"first": i * row, "count": len(s.Backends)}))
	}
	for proto, nodePort := range map[int]uint16{field.ProtoTCP: s.NodePortTCP, field.ProtoUDP: s.NodePortUDP} {
		if nodePort != 0 {
			add(s.Addr, s.Port, proto, field.ScopeInside)
			add(p.addr, nodePort, proto, field.ScopeInside)
			add(p.addr, nodePort, proto, field.ScopeOutside)
		}
	}
	return entries
}

// holders are who has the addresses of nodes, of their podCIDRs and of the run's pods, as the place's node knows.
func (p *place) holders() (entries []probe.BPFEntry) {
	for _, n := range p.w.env.Nodes {
		node := netip.IPv6Unspecified()
		if n != p.node {
			node = n.Addr
		}
		add := func(of netip.Prefix, id uint32, flags int) {
			entries = append(entries, holderOf(of, node, id, flags))
		}
		add(n.PodCIDR, 0, 0)
		for _, pod := range []field.Peer{n.Client, n.Server} {
			if pod.Addr.IsValid() {
				add(field.Single(pod.Addr), identityOf(p.w.places[pod.Name]), 0)
			}
		}
		add(field.Single(n.Addr), 6, 1)
	}
	return entries
}

func holderOf(of netip.Prefix, node netip.Addr, id uint32, flags int) probe.BPFEntry {
	key := map[string]any{"bits": 32 + 96 + of.Bits(), "pad": 0, "addr": addrInMap(of.Addr())}
	return mapEntry(key, map[string]any{"flags": flags, "identity": id, "node": addrInMap(node)})
}

// labNodes is what the nodes tell of themselves.
func (w *world) labNodes(context.Context) (map[string]field.LabNode, error) {
	told := map[string]field.LabNode{}
	for _, p := range w.places {
		if p.isPod() && p.addr.IsValid() {
			n := told[p.node.Node]
			if n.Endpoints == nil {
				n = field.LabNode{PodCIDR: p.node.PodCIDR, Endpoints: map[netip.Addr]uint32{}}
			}
			n.Endpoints[p.addr] = identityOf(p)
			told[p.node.Node] = n
		}
	}
	return told, nil
}

// identityOf is whom nodes take a place for.
func identityOf(p *place) uint32 {
	switch {
	case !p.isPod():
		return 6
	case strings.HasPrefix(p.name, field.PodPrefix+field.RoleServer):
		return 301
	}
	return 300
}

func addrInMap(addr netip.Addr) map[string]any {
	b := addr.As16()
	return map[string]any{"b": hex.EncodeToString(b[:])}
}

func mapEntry(key, value any) probe.BPFEntry {
	return probe.BPFEntry{Key: json.RawMessage(toJSON(key)), Value: json.RawMessage(toJSON(value))}
}

// health answers at the health-check nodePort as whoever serves Services does.
func (w *world) health(to netip.AddrPort) (probe.Reply, bool) {
	at := w.at(to.Addr())
	if at == nil || !at.isNode || to.Port() != w.env.Local.HealthPort {
		return probe.Reply{}, false
	}
	status := http.StatusServiceUnavailable
	if w.env.Local.HasBackend(at.node) {
		status = http.StatusOK
	}
	return probe.Reply{Failure: fmt.Sprintf("status %d: not from nettool", status), HTTP: &probe.HTTPResult{Status: status}}, true
}

// processes are the names of a node's processes.
func (p *place) processes() string {
	if p.w.env.KubeProxyReplacement() {
		return "systemd\nkubelet\nnettool\n"
	}
	return "systemd\nkubelet\nkube-proxy\nnettool\n"
}
