package labs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/labs/passport"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// ExplainOptions say which packet's way to explain.
type ExplainOptions struct {
	// From is a pod or node, To one of them, a Service or an address, perhaps with a colon and a port.
	From, To string
	Protocol string // of those of package passport; empty: TCP, or what the Service's port has, where there is a port, otherwise ICMP
	// Watch waits so long for the next packet that From, a pod, sends to To, and explains that; 0: one is sent.
	Watch time.Duration
	// Watching is called when it waits, Meanwhile run then, to whose end it waits, too; nil: nothing is.
	Watching  func()
	Meanwhile func(context.Context)
}

const (
	// answerWithin is how long the probe waits. TCP would send it again after a second.
	answerWithin = 900 * time.Millisecond
	// explainPatience is how long an agent that starts is waited for, silentPatience one that is there and says nothing.
	explainPatience = 2 * time.Second
	silentPatience  = 10 * time.Second
)

// Explain sends one probe, or waits for a packet, and returns all that captures at the devices on its way, programs and the hooks
// of the nodes' stacks have seen meanwhile, of which [passport.Make] makes its passport. That nobody answers is no error, and that
// a node's agent is away is noted; that there is nobody to send it, no such target, or that no packet came, is an error.
func (l *Lab) Explain(ctx context.Context, o ExplainOptions) (in passport.Input, err error) {
	err = withFreePort(func() error {
		in, err = l.explain(ctx, o)
		return err
	})
	return in, err
}

// withFreePort tries something that sends from a port by chance again, where that port is somebody's: what counts the packet knows
// it by its port, so a port cannot be chosen later.
func withFreePort(try func() error) error {
	const tries = 3
	for range tries - 1 {
		if err := try(); !errors.Is(err, probe.ErrPortTaken) {
			return err
		}
	}
	return try()
}

// explain is Explain, from one port.
func (l *Lab) explain(ctx context.Context, o ExplainOptions) (passport.Input, error) {
	e := &explaining{lab: l, options: o, nodes: map[string]*passport.OnNode{}}
	if err := e.find(ctx); err != nil {
		return passport.Input{}, err
	}
	if err := e.look(ctx); err != nil {
		return passport.Input{}, err
	}
	err := e.counting(ctx)
	e.awaited.toEnd()
	if err != nil {
		return passport.Input{}, err
	}
	if e.unsent != nil {
		return passport.Input{}, fmt.Errorf("send a probe from %s: %w", e.from.Name, e.unsent)
	}
	if a := e.awaited; a != nil {
		if !a.seen.Load() {
			return passport.Input{}, cmp.Or(ctx.Err(), e.noneCame())
		}
		e.sent, e.in.Probe, e.in.Failed = true, a.watcher.Probe(), a.watcher.Failed()
	}
	if !e.sent {
		return passport.Input{}, cmp.Or(ctx.Err(), errors.New("the probe was not sent"))
	}
	for _, n := range l.Nodes {
		e.in.Nodes = append(e.in.Nodes, *e.nodes[n.Name])
	}
	return e.in, nil
}

// explaining is a probe on its way.
type explaining struct {
	lab      *Lab
	options  ExplainOptions
	from, to probeEnd
	in       passport.Input
	nodes    map[string]*passport.OnNode
	taps     map[string]*tap
	agents   map[string]*corev1.Pod // by node
	control  string                 // is in the packets that prove that hooks count
	sent     bool
	unsent   error
	awaited  *awaited // nil: a probe is sent

	mu sync.Mutex // what several nodes tell at once
}

// find says who sends what to whom.
func (e *explaining) find(ctx context.Context) (err error) {
	o := e.options
	place, port, err := splitTarget(o.To)
	if err != nil {
		return err
	}
	if e.from, err = e.lab.findEnd(ctx, o.From, false); err != nil {
		return err
	}
	if e.to, err = e.lab.findEnd(ctx, place, true); err != nil {
		return err
	}
	atNode := e.to.Kind == passport.Node && port != 0 && o.Protocol != passport.ICMP
	if atNode {
		if e.to, err = e.lab.nodePortEnd(ctx, e.to, port, o.Protocol); err != nil {
			return err
		}
	}
	if e.to.service != nil && e.to.backends == 0 {
		e.in.Notes = append(e.in.Notes, "Service "+e.to.Name+" has no backend that is ready: lab service list and kubectl get endpointslices say what it has")
	}
	protocol := o.Protocol
	switch {
	case protocol == passport.ICMP && port != 0:
		return errors.New("icmp has no ports: leave it out, or say --proto tcp or udp")
	case e.to.service != nil && protocol == passport.ICMP:
		e.in.Notes = append(e.in.Notes, "a Service answers at its ports alone")
	case e.to.service != nil && !atNode:
		var note string
		if port, protocol, note, err = e.to.portOf(port, protocol); err != nil {
			return err
		}
		if note != "" {
			e.in.Notes = append(e.in.Notes, note)
		}
	case protocol == "" && port == 0:
		protocol = passport.ICMP
	case port != 0:
		protocol = cmp.Or(protocol, passport.TCP)
	case protocol != passport.ICMP:
		return errNoPort
	}
	if e.to.Kind == passport.Outside {
		e.in.Nobody = nobodyHas(e.to.addr, e.lab.Profile)
	}
	e.control = rand.Text()[:16]
	e.in.Probe = passport.Probe{
		Protocol: protocol, From: e.from.End, To: e.to.End, Target: netip.AddrPortFrom(e.to.addr, port),
		Port: uint16(1<<15 + mathrand.N(28000)), Marker: rand.Text()[:16], //nolint:gosec // a port, of those that kernels give clients
	}
	if protocol == passport.ICMP {
		e.in.Probe.Port = 0
	}
	if e.from.Kind == passport.Pod {
		e.in.Probe.Source = e.from.addr
	}
	if o.Watch > 0 {
		return e.toAwait()
	}
	return nil
}

// nobodyHas says why an address that is no pod's, node's or Service's leads nowhere; empty where somebody outside may have it.
func nobodyHas(addr netip.Addr, p *profiles.Profile) string {
	for _, r := range []struct {
		key  string
		cidr netip.Prefix // zero: it has no addresses
		why  string
	}{
		{"cluster.serviceSubnet", p.Cluster.ServiceSubnet, "lab service list has the addresses of Services"},
		{"network.ipv4NativeRoutingCIDR", p.Network.IPv4NativeRoutingCIDR, "where packets are not masqueraded: lab endpoint list has the pods' addresses"},
	} {
		if r.cidr.Contains(addr) {
			return fmt.Sprintf("no pod, node or Service of the lab has %s, and it is inside %s, %s, %s", addr, r.key, r.cidr, r.why)
		}
	}
	return ""
}

// device is one of a node's, as ip prints it.
type device struct {
	Name      string          `json:"ifname"`
	MAC       string          `json:"address"`
	Addresses []deviceAddress `json:"addr_info"`
}

type deviceAddress struct {
	Local string `json:"local"`
}

// has says whether the device has an address.
func (d device) has(addr netip.Addr) bool {
	return slices.ContainsFunc(d.Addresses, func(a deviceAddress) bool { return a.Local == addr.String() })
}

// look says where to listen: at the NIC, the tunnel and lab_host of every node, and at both ends of the pods' interfaces.
func (e *explaining) look(ctx context.Context) error {
	var wg sync.WaitGroup
	var err error
	if e.agents, err = e.lab.agentPods(ctx); err != nil {
		return err
	}
	devices := make([][]device, len(e.lab.Nodes))
	for i, n := range e.lab.Nodes {
		on := &passport.OnNode{Name: n.Name, IP: n.IP}
		e.nodes[n.Name] = on
		if why := n.Down(); why != "" {
			on.Away = "the node " + why
			continue
		}
		if e.lab.Profile.Network.BPF.MonitorAggregation == settings.AggregationMaximum {
			on.Away = "its programs tell of drops alone: network.bpf.monitorAggregation none or medium has them tell of each hop"
		}
		wg.Go(func() { devices[i] = listDevices(ctx, n) })
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, explainPatience)
			defer cancel()
			if s, err := askAgent[*api.Status](ctx, e.lab, e.agents[n.Name], "status"); err == nil && s != nil && s.Datapath != nil {
				on.Programs = s.Datapath.Programs
			}
		})
	}
	wg.Wait()
	var points []*tapped
	for _, p := range slices.Concat(e.from.pods, e.to.pods) {
		of, err := podPoints(p, "")
		if err != nil {
			return err
		}
		points = append(points, of...)
	}
	for i, n := range e.lab.Nodes {
		for _, d := range devices[i] {
			switch {
			case d.has(n.IP):
				e.nodes[n.Name].NIC = d.Name
			case d.Name == "lab_vxlan" || d.Name == "lab_geneve":
				e.nodes[n.Name].Tunnel = d.Name
			case d.Name != field.RouterDevice:
				continue
			}
			points = append(points, &tapped{CapturePoint: CapturePoint{Node: n.Name}, where: probe.TapPoint{Device: d.Name}})
		}
	}
	e.taps = tapsAt(points)
	for i, n := range e.lab.Nodes {
		t := e.taps[n.Name]
		if t == nil {
			continue
		}
		t.prove = true
		if frame := e.controlFrame(i, devices[i]); frame != nil {
			t.frames = append(t.frames, probe.TapFrame{Device: "lab_net", Data: frame})
		}
	}
	return nil
}

// listDevices lists a node's; none where it cannot be asked, which its capture says then.
func listDevices(ctx context.Context, n cluster.Node) (out []device) {
	said, err := n.Run(ctx, nil, "ip", "-j", "addr")
	if err != nil || json.Unmarshal(said, &out) != nil {
		return nil
	}
	return out
}

// controlFrame is a packet that the node's stack forwards in every mode, which nobody answers: ICMP's obsolete request for
// information, to another node, from an address of RFC 5737 that is nobody's. It comes in at lab_host. Nil: there is no other
// node to be had.
func (e *explaining) controlFrame(i int, devices []device) []byte {
	at := slices.IndexFunc(devices, func(d device) bool { return d.Name == field.RouterDevice })
	if at < 0 || len(e.lab.Nodes) < 2 {
		return nil
	}
	mac, err := net.ParseMAC(devices[at].MAC)
	if err != nil {
		return nil
	}
	other := e.lab.Nodes[(i+1)%len(e.lab.Nodes)].IP
	b := gopacket.NewSerializeBuffer()
	err = gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 0}, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 8, Protocol: layers.IPProtocolICMPv4, SrcIP: controlSource().AsSlice(), DstIP: other.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeInfoRequest, 0)},
		gopacket.Payload(e.control))
	if err != nil || !other.Is4() {
		return nil
	}
	return b.Bytes()
}

// counted says what the hooks count.
func (e *explaining) counted() counted {
	p := e.in.Probe
	payload := func(marker string) string { return fmt.Sprintf("@th,64,128 0x%x", marker) }
	c := counted{control: "icmp type " + controlType + " " + payload(e.control)}
	if e.awaited != nil {
		c.noted, c.key = e.awaited.noted(p.Protocol)
		return c
	}
	switch p.Protocol {
	case passport.ICMP:
		c.request, c.reply = "icmp type echo-request "+payload(p.Marker), "icmp type echo-reply "+payload(p.Marker)
	case passport.UDP:
		c.request, c.reply = fmt.Sprintf("udp sport %d %s", p.Port, payload(p.Marker)), fmt.Sprintf("udp dport %d", p.Port)
	default:
		c.request = fmt.Sprintf("tcp flags & (fin|syn|rst|ack) == syn tcp sport %d", p.Port)
		c.reply = fmt.Sprintf("tcp dport %d tcp flags & (syn|rst) != 0", p.Port)
	}
	return c
}

// counting has the hooks of all nodes count while it watches.
func (e *explaining) counting(ctx context.Context) error {
	nodes := e.lab.running()
	counters := make([]*hookCounter, len(nodes))
	table := "lab_explain_" + strings.ToLower(rand.Text()[:8])
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			c, err := countHooks(context.WithoutCancel(ctx), n, table, e.counted())
			if err != nil {
				e.uncounted(n.Name, err)
			}
			counters[i] = c
		})
	}
	wg.Wait()
	err := e.watching(ctx)
	for i, c := range counters {
		if c == nil {
			continue
		}
		wg.Go(func() {
			hooks, err := c.hooks()
			if err != nil {
				e.uncounted(nodes[i].Name, err)
			}
			e.nodes[nodes[i].Name].Hooks = hooks
			_ = c.end() // with its input, if not now
		})
	}
	wg.Wait()
	return err
}

// watching captures what programs tell while it captures.
func (e *explaining) watching(ctx context.Context) error {
	var failed error
	captured := false
	w := &watch[api.Event]{
		lab: e.lab, nodes: e.lab.running(),
		who: "its agent", whom: "the agents of lab " + e.lab.Name, patience: silentPatience, say: func(string) {},
		begin: func([]string) error { return nil },
		while: func(ctx context.Context) { failed, captured = e.capturing(ctx), true },
		emit:  e.event,
		stream: func(ctx context.Context, n cluster.Node, each func(line[api.Event]) error) error {
			return e.lab.events(ctx, n, e.agents[n.Name], explainPatience, nil, each)
		},
	}
	err := w.watch(ctx)
	for i, why := range w.failures { // also of one that is there and says nothing
		if why != nil {
			e.away(w.nodes[i].Name, "its agent does not tell what its programs did: "+why.Error())
		}
	}
	if !captured && ctx.Err() == nil { // no agent tells anything
		return e.capturing(ctx)
	}
	if errors.Is(err, ErrPartly) {
		err = nil
	}
	return cmp.Or(failed, err)
}

func (e *explaining) away(node, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[node]
	n.Away = cmp.Or(n.Away, why)
}

// uncounted notes that a node's hooks are left out.
func (e *explaining) uncounted(node string, why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.in.Notes = append(e.in.Notes, fmt.Sprintf("node %s: the hooks of its stack did not count: %v", node, why))
}

func (e *explaining) event(event api.Event) error {
	if event.Type == api.EventLost {
		e.away(event.Node, fmt.Sprintf("%d events were lost, as there were too many at once", event.Missed))
	}
	e.in.Events = boundedBy(e.awaited, append(e.in.Events, event))
	return nil
}

// capturing captures while the probe is sent and answered, or another packet comes by.
func (e *explaining) capturing(ctx context.Context) error {
	o := CaptureOptions{
		Say: func(string) {}, While: e.send,
		Begin: func([]CapturePoint) error { return nil },
	}
	if e.awaited != nil {
		o.While = e.await
		o.Begin = func(points []CapturePoint) error {
			e.awaited.points = points
			return nil
		}
	}
	points, err := e.lab.capture(ctx, e.taps, o, func(c Captured) error {
		s := passport.Sight{Point: c.Point, Time: c.Time, Out: c.Out, Data: bytes.Clone(c.Data[:min(len(c.Data), maxSight)])}
		e.in.Sights = boundedBy(e.awaited, append(e.in.Sights, s))
		e.awaited.see(s)
		return nil
	})
	for _, p := range points {
		why := cmp.Or(p.Unproven, p.Gone)
		if p.Dropped > 0 {
			why = cmp.Or(why, fmt.Sprintf("the node was too slow to hand %d packets on", p.Dropped))
		}
		point := pointOf(p)
		point.Unproven = why
		e.in.Points = append(e.in.Points, point)
	}
	if errors.Is(err, ErrPartly) {
		return nil
	}
	return err
}

// pointOf is a point of a capture as passports have it.
func pointOf(p CapturePoint) passport.Point {
	return passport.Point{Node: p.Node, Device: p.Device, Pod: p.Pod, Host: p.Host, Raw: p.Raw, MAC: p.MAC}
}

// maxSight is what is kept of a packet: its headers, in a tunnel too, and what it is known by.
const maxSight = 256

// send sends the probe.
func (e *explaining) send(ctx context.Context) {
	p := e.in.Probe
	request := probe.Request{Timeout: probe.Duration(answerWithin)}
	if p.Protocol == passport.ICMP {
		request.ICMP = &probe.ICMP{Address: p.Target.Addr(), Marker: p.Marker}
	} else {
		request.Knock = &probe.Knock{Protocol: p.Protocol, Address: p.Target, From: p.Port, Marker: p.Marker}
	}
	n, err := e.lab.node(e.from.Node)
	if err != nil {
		e.unsent = err
		return
	}
	reply, err := probeWithin(ctx, n, e.from.container, request)
	switch {
	case err != nil:
		e.unsent = err
	case strings.HasPrefix(reply.Error, probe.ErrPortTaken.Error()):
		e.unsent = fmt.Errorf("%w%s", probe.ErrPortTaken, strings.TrimPrefix(reply.Error, probe.ErrPortTaken.Error()))
	case reply.Error != "":
		e.unsent = errors.New(reply.Error)
	}
	e.sent, e.in.Failed = e.unsent == nil, reply.Failure
}
