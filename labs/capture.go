package labs

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/verify/probe"
)

// CaptureOptions say what to capture.
type CaptureOptions struct {
	// At are nodes, as [Lab.Shell] takes them, and pods, each perhaps with a colon and a device. A node alone means the device
	// that has its address, a pod alone its eth0 and the other end of that.
	At []string
	// Filter picks packets, in tcpdump's language; empty: all.
	Filter string
	// Begin is called with the points once all of them are listened at, before any packet is emitted.
	Begin func([]CapturePoint) error
	// Say is told of nodes and points that are not watched, or no more.
	Say func(string)
	// While is run when all points are listened at; nil: nothing is. What crosses them meanwhile is what counts then, and the
	// end of it the end of the capture.
	While func(context.Context)
}

// CapturePoint is a device that packets are captured at.
type CapturePoint struct {
	Name   string `json:"name"` // as one may type it
	Node   string `json:"node"`
	Device string `json:"device"`
	// Pod has the device, or the other end of it where Host says that it is on the node; empty: none.
	Pod  string `json:"pod,omitempty"`
	Host bool   `json:"host,omitempty"`
	// Raw says that packets begin with the IP header, not with that of Ethernet.
	Raw bool `json:"-"`
	// Unproven is why no frame was seen that was to cross it at first, where that was asked for; empty: one was.
	Unproven string `json:"-"`
	MAC      string `json:"-"` // the device's; empty where it has none
	// Packets were captured, Dropped those that the node was too slow to hand on.
	Packets int `json:"packets"`
	Dropped int `json:"dropped"`
	// Gone is why it was not listened at to the end; empty: it was.
	Gone string `json:"gone,omitempty"`
}

// MaxCaptured bounds Captured.Data.
const MaxCaptured = probe.MaxTapped

// Captured is a packet at a point.
type Captured struct {
	Point  int // by its index
	Time   time.Time
	Data   []byte // its first MaxCaptured bytes
	Length int
	Out    bool // the device sent it
}

// Capture hands packets to emit, from all points in the order of their times. It ends with While, with ctx, or when emit
// fails. What there was before the end of ctx is emitted, and that end is no error once it has begun. A node that cannot be
// watched is said, and the error at the end is [ErrPartly]; that a device or a pod is not there, or the filter makes no sense, is
// an error before anything is captured. The points are returned as they were at the end.
func (l *Lab) Capture(ctx context.Context, o CaptureOptions, emit func(Captured) error) ([]CapturePoint, error) {
	taps, err := l.taps(ctx, o.At)
	if err != nil {
		return nil, err
	}
	return l.capture(ctx, taps, o, emit)
}

// capture is [Lab.Capture] at these points.
func (l *Lab) capture(ctx context.Context, taps map[string]*tap, o CaptureOptions, emit func(Captured) error) ([]CapturePoint, error) {
	var points []CapturePoint
	w := &watch[crossing]{
		lab: l, who: "it", whom: "the nodes of lab " + l.Name, say: o.Say, while: o.While, toTheEnd: true, most: maxHeldBytes, weigh: crossing.bytes,
		stream: func(ctx context.Context, n cluster.Node, each func(line[crossing]) error) error {
			return taps[n.Name].listen(ctx, n, o.Filter, each)
		},
		begin: func(nodes []string) error {
			points = listenedAt(l, nodes, taps)
			return o.Begin(points)
		},
		emit: func(c crossing) error {
			if c.gone != "" {
				o.Say(fmt.Sprintf("%s is watched no more: %s", points[c.at.index].Name, c.gone))
				return nil
			}
			err := emit(Captured{Point: c.at.index, Time: c.packet.At, Data: c.packet.Data, Length: c.packet.Length, Out: c.packet.Out})
			if err == nil {
				points[c.at.index].Packets++
			}
			return err
		},
	}
	for _, n := range l.Nodes {
		if taps[n.Name] != nil {
			w.nodes = append(w.nodes, n)
		}
	}
	err := w.watch(ctx)
	if points == nil {
		return nil, errors.Join(err, ctx.Err())
	}
	for _, t := range taps {
		for _, p := range t.points {
			if p.index < 0 { // its node is away
				continue
			}
			points[p.index].Dropped, points[p.index].Gone = p.dropped, p.gone
			if p.gone != "" && err == nil {
				err = ErrPartly
			}
		}
	}
	return points, err
}

// crossing is a packet at a point, or why there are no more there.
type crossing struct {
	at     *tapped
	packet *probe.TapPacket
	gone   string
}

// maxHeldBytes bounds what packets that wait for those of other nodes take, of which each has some 300 bytes beside its own.
const maxHeldBytes = 256 << 20

func (c crossing) bytes() int {
	if c.packet == nil {
		return 0
	}
	return 300 + len(c.packet.Data)
}

// tap listens on one node.
type tap struct {
	points  []*tapped
	devices []probe.TapDevice // of the points, once it listens
	prove   bool              // a frame is to cross each point at first
	frames  []probe.TapFrame  // are sent then, too
}

// tapped is a point of a tap.
type tapped struct {
	CapturePoint
	order   int // as it was asked for
	where   probe.TapPoint
	index   int // among the points that are listened at
	dropped int
	gone    string
}

// taps says where to listen on each node.
func (l *Lab) taps(ctx context.Context, at []string) (map[string]*tap, error) {
	var all []*tapped
	for _, target := range at {
		found, err := l.points(ctx, target)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return tapsAt(all), nil
}

// tapsAt are the taps by node that listen at these points, each of them once.
func tapsAt(points []*tapped) map[string]*tap {
	out := map[string]*tap{}
	asked := map[string]bool{}
	for _, p := range points {
		key := fmt.Sprint(p.Node, p.where)
		if asked[key] {
			continue
		}
		p.order = len(asked)
		asked[key] = true
		if out[p.Node] == nil {
			out[p.Node] = &tap{}
		}
		out[p.Node].points = append(out[p.Node].points, p)
	}
	return out
}

// points are what one target means.
func (l *Lab) points(ctx context.Context, target string) ([]*tapped, error) {
	place, device, colon := strings.Cut(target, ":")
	if colon && device == "" {
		return nil, fmt.Errorf("%s: no device after the colon", target)
	}
	if n, err := l.node(place); err == nil {
		where := probe.TapPoint{Device: device}
		if device == "" {
			where.Address = n.IP
		}
		return []*tapped{{CapturePoint: CapturePoint{Node: n.Name}, where: where}}, nil
	}
	p, err := l.findPod(ctx, place)
	if err != nil {
		return nil, err
	}
	return podPoints(p, device)
}

// podPoints are a device of a pod or, where none is named, both ends of its eth0.
func podPoints(p *corev1.Pod, device string) ([]*tapped, error) {
	name, container := p.Namespace+"/"+p.Name, containerID(p)
	switch {
	case p.Spec.HostNetwork:
		return nil, fmt.Errorf("pod %s has no devices but its node's: capture at %s instead", name, p.Spec.NodeName)
	case container == "":
		return nil, fmt.Errorf("pod %s does not run: it is %s", name, standing(p))
	}
	inside := &tapped{CapturePoint: CapturePoint{Node: p.Spec.NodeName, Pod: name}, where: probe.TapPoint{Container: container, Pod: name, Device: device}}
	if device != "" {
		return []*tapped{inside}, nil
	}
	inside.where.Device = podDevice
	outside := *inside
	outside.Host, outside.where.Peer = true, true
	return []*tapped{inside, &outside}, nil
}

// podDevice is every pod's.
const podDevice = "eth0"

// standing is why a pod's first container does not run, as its status has it.
func standing(p *corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		switch {
		case s.Name != p.Spec.Containers[0].Name:
		case s.State.Waiting != nil && s.State.Waiting.Reason != "":
			return s.State.Waiting.Reason
		case s.State.Terminated != nil:
			return "over (" + s.State.Terminated.Reason + ")"
		}
	}
	return string(p.Status.Phase)
}

// listenedAt are the points of the nodes that are watched, in the order in which they were asked for.
func listenedAt(l *Lab, nodes []string, taps map[string]*tap) (out []CapturePoint) {
	var all []*tapped
	for name, t := range taps {
		short := strings.TrimPrefix(name, l.Name+"-")
		watched := slices.Contains(nodes, short)
		for i, p := range t.points {
			p.index = -1
			if !watched {
				continue
			}
			d := t.devices[i]
			p.Device, p.Raw, p.Unproven, p.MAC = d.Name, d.Raw, d.Unproven, d.MAC
			p.Name = short + ":" + p.Device
			if p.Pod != "" && !p.Host {
				p.Name = p.Pod + ":" + p.Device
			}
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *tapped) int { return a.order - b.order })
	for i, p := range all {
		p.index = i
		out = append(out, p.CapturePoint)
	}
	return out
}

// listen hands on what crosses the points until ctx ends, and returns why it ended before.
func (t *tap) listen(ctx context.Context, n cluster.Node, filter string, each func(line[crossing]) error) error {
	nettool, err := ensureNettool(ctx, n)
	if err != nil {
		return fmt.Errorf("put nettool there: %w", err)
	}
	where := probe.Tap{Filter: filter, Prove: t.prove, Frames: t.frames}
	for _, p := range t.points {
		where.Points = append(where.Points, p.where)
	}
	request, err := json.Marshal(where)
	if err != nil {
		return fmt.Errorf("write where to listen: %w", err)
	}
	out, in := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var words bytes.Buffer
		code, err := n.Engine().ExecStream(ctx, n.Name, io.MultiReader(bytes.NewReader(request), openUntil{ctx}), in, &words, nettool, "tap")
		if err == nil {
			err = refusal{errors.New(strings.TrimPrefix(strings.TrimSpace(words.String()), "nettool: "))}
			if words.Len() == 0 {
				err = fmt.Errorf("its tap ended with status %d", code)
			}
		}
		_ = in.CloseWithError(err)
	}()
	defer func() { _ = out.Close(); <-ended }()
	begun, err := t.decode(out, each)
	var no refusal
	if begun && errors.As(err, &no) {
		err = no.error
	}
	return err
}

// decode hands on what nettool tells. begun says whether it ever listened.
func (t *tap) decode(from io.Reader, each func(line[crossing]) error) (begun bool, err error) {
	for dec := gob.NewDecoder(from); ; {
		var said probe.Tapped
		if err := dec.Decode(&said); err != nil {
			return begun, err
		}
		var told line[crossing]
		switch {
		case said.Listening != nil:
			t.devices, begun = said.Listening, true
			continue // how far it is comes next
		case said.Packet != nil:
			told.seen, told.at = &crossing{at: t.points[said.Packet.Point], packet: said.Packet}, said.Packet.At
		case said.Gone != nil:
			p := t.points[said.Gone.Point]
			p.gone = said.Gone.Why
			told.seen, told.at = &crossing{at: p, gone: p.gone}, time.Now()
		case said.Mark != nil:
			told.upTo = said.Mark.UpTo
			for i, p := range t.points {
				p.dropped = said.Mark.Dropped[i]
			}
		}
		if err := each(told); err != nil {
			return begun, err
		}
	}
}
