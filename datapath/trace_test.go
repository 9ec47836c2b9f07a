package datapath_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// Protocols.
const (
	icmp = 1
	tcp  = 6
	udp  = 17
)

// everything has the programs tell every packet and every step.
func everything(c *datapath.Config) {
	c.BPF.MonitorAggregation = settings.AggregationNone
	c.Debug = settings.Debug{Enabled: true, Verbose: settings.VerboseDatapath}
}

// flowsOnly has them tell of flows.
func flowsOnly(c *datapath.Config) { c.BPF.MonitorAggregation = settings.AggregationMedium }

// overheard is what the nodes of a lab say of some traffic.
type overheard struct {
	l      *lab
	mu     sync.Mutex
	events map[string][]api.Event
	last   time.Time
}

// listen collects the events of all nodes that want is true of, from before the traffic until no more come.
func (l *lab) listen(want func(api.Event) bool, traffic func()) map[string][]api.Event {
	l.t.Helper()
	c, cancel := context.WithCancel(context.Background())
	o := &overheard{l: l, events: map[string][]api.Event{}}
	var readers sync.WaitGroup
	for _, n := range l.nodes {
		var once sync.Once
		var started sync.WaitGroup
		started.Add(1)
		readers.Go(func() {
			for line, err := range n.dp.Watch(c, datapath.Soon, true) {
				if err != nil {
					l.t.Error(err)
					return
				}
				if line.Event != nil {
					once.Do(started.Done)
					o.hear(*line.Event, want)
				}
			}
		})
		beacons(n, ctx(l.t), &started)
	}
	traffic()
	o.hear(api.Event{}, func(api.Event) bool { return false })
	for quiet := time.Duration(0); quiet < 4*datapath.Soon; {
		time.Sleep(4*datapath.Soon - quiet)
		o.mu.Lock()
		quiet = time.Since(o.last)
		o.mu.Unlock()
	}
	cancel()
	readers.Wait()
	return o.events
}

func (o *overheard) hear(e api.Event, want func(api.Event) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case e.Type == api.EventLost:
		o.l.t.Errorf("%d events are lost", e.Missed)
	case e.Type == "", want(e):
		o.last = time.Now()
	}
	if e.Type != "" && want(e) {
		o.events[e.Node] = append(o.events[e.Node], e)
	}
}

// cast are the names of who has which address.
type cast map[netip.Addr]string

func (c cast) name(a netip.AddrPort) string {
	name, ok := c[a.Addr()]
	if !ok {
		return a.String()
	}
	return name
}

// line is an event without what is different each time.
func (c cast) line(e api.Event) string {
	var b strings.Builder
	if s := e.Step; s != nil {
		fmt.Fprintf(&b, "  %s", s.Kind)
		if s.Table != "" {
			fmt.Fprintf(&b, " %s", s.Table)
		}
		if s.Src.IsValid() {
			fmt.Fprintf(&b, " %s > %s", c.name(s.Src), c.name(s.Dst))
		}
		if s.NewSrc.IsValid() {
			fmt.Fprintf(&b, " becomes %s > %s of %s", c.name(s.NewSrc), c.name(s.NewDst), s.Service)
		}
		if s.Found {
			b.WriteString(" found")
		}
		if s.State != "" {
			fmt.Fprintf(&b, " %s", s.State)
		}
		if s.Address.IsValid() {
			fmt.Fprintf(&b, " %s", c.name(netip.AddrPortFrom(s.Address, 0)))
		}
		if s.Identity != 0 {
			fmt.Fprintf(&b, " identity %d", s.Identity)
		}
		if s.Endpoint != 0 {
			fmt.Fprintf(&b, " endpoint %d", s.Endpoint)
		}
		if s.MTU != 0 {
			fmt.Fprintf(&b, " mtu %d", s.MTU)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%s %s", e.Type, e.Point)
	fmt.Fprintf(&b, " %s > %s", c.name(e.Src), c.name(e.Dst))
	if e.OrigSrc.IsValid() {
		fmt.Fprintf(&b, " was %s > %s of %s", c.name(e.OrigSrc), c.name(e.OrigDst), e.Service)
	}
	if e.State != "" {
		fmt.Fprintf(&b, " %s", e.State)
	}
	if e.Occasion != "" {
		fmt.Fprintf(&b, " (%s)", e.Occasion)
	}
	if e.Cached {
		b.WriteString(" cached")
	}
	fmt.Fprintf(&b, " %d->%d", e.SrcIdentity, e.DstIdentity)
	if e.Reason != "" {
		fmt.Fprintf(&b, " %s", e.Reason)
	}
	return b.String()
}

// compare compares events with lines, whatever these begin with.
func (c cast) compare(t *testing.T, what string, events []api.Event, want string) {
	t.Helper()
	var got []string
	for _, e := range events {
		got = append(got, c.line(e))
	}
	lines := strings.Split(strings.TrimSpace(want), "\n")
	if want == "" {
		lines = nil
	}
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], "\t")
	}
	if !slices.Equal(got, lines) {
		t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

// trio is a lab with two pods on one node and one on another, whose identities the nodes know.
type trio struct {
	*lab
	a, b, c *pod
	cast    cast
}

func newTrio(t *testing.T, with ...func(*datapath.Config)) *trio {
	t.Helper()
	l := newLab(t, 2, with...)
	s := &trio{lab: l, a: l.nodes[0].addPod("a"), b: l.nodes[0].addPod("b"), c: l.nodes[1].addPod("c"), cast: cast{}}
	identities := map[*pod]uint32{s.a: 1001, s.b: 1002, s.c: 1003}
	for _, n := range l.nodes {
		entries := l.whoHas(n)
		for p, identity := range identities {
			s.cast[p.Addr] = p.spec.Pod
			e := api.IPCacheEntry{Prefix: netip.PrefixFrom(p.Addr, 32), Identity: identity}
			if !n.cfg.PodCIDR.Contains(p.Addr) {
				e.Node = l.nodes[1].Host.Addr
				if p != s.c {
					e.Node = l.nodes[0].Host.Addr
				}
			}
			entries = append(entries, e)
		}
		n.Do(func() { must(t, n.dp.IPCache().Apply(context.Background(), entries)) })
		s.cast[n.Host.Addr] = n.cfg.NodeName
	}
	must(t, l.nodes[0].dp.SetIdentity(s.a.Addr, 1001))
	must(t, l.nodes[0].dp.SetIdentity(s.b.Addr, 1002))
	must(t, l.nodes[1].dp.SetIdentity(s.c.Addr, 1003))
	return s
}

// among says whether an event is about a packet between any of these, or about a step of a decision about one.
func among(proto uint8, addrs ...netip.Addr) func(api.Event) bool {
	type id struct {
		node   string
		cpu    int
		packet uint64
	}
	seen := map[id]bool{}
	return func(e api.Event) bool {
		key := id{e.Node, e.CPU, e.Packet}
		if e.Type == api.EventTrace && e.Proto == proto && slices.Contains(addrs, e.Src.Addr()) && slices.Contains(addrs, e.Dst.Addr()) {
			seen[key] = true
		}
		return seen[key]
	}
}

// onOneNode is what is said of a ping from a to b in every mode: one decision serves both ends.
const onOneNode = `
	trace from-pod a > b 1001->0
	  lookup observed a > b new
	  identity b identity 1002
	  created observed a > b
	  delivery endpoint 3
	trace to-pod a > b new 1001->1002 delivered
	trace from-pod b > a 1002->0
	  lookup observed b > a found reply
	  identity a identity 1001
	  delivery endpoint 2
	trace to-pod b > a reply 1002->1001 delivered`

// One ping: what each node says of it, step by step, and that no step is told that did not happen.
func TestEventsOfAPing(t *testing.T) {
	for _, test := range []struct {
		name string
		with setup
		// What the two nodes say of one to c.
		near, far string
	}{
		{"ebpf", routed, `
			trace from-pod a > c 1001->0
			  route node1 mtu 1500
			  lookup observed a > c new
			  identity c identity 1003
			  created observed a > c
			trace to-network a > c new 1001->1003 forwarded
			trace from-network c > a 0->0
			  lookup nat c > a
			  lookup observed c > a found reply
			  identity c identity 1003
			  identity a identity 1001
			  delivery endpoint 2
			trace to-pod c > a reply 1003->1001 delivered`, `
			trace from-network a > c 0->0
			  lookup nat a > c
			  lookup observed a > c new
			  identity a identity 1001
			  identity c identity 1003
			  created observed a > c
			  delivery endpoint 2
			trace to-pod a > c new 1001->1003 delivered
			trace from-pod c > a 1003->0
			  route node0 mtu 1500
			  lookup observed c > a found reply
			  identity a identity 1001
			trace to-network c > a reply 1003->1001 forwarded`},
		{"kubeproxy", kubeProxy, `
			trace from-pod a > c 1001->0
			  lookup observed a > c new
			  identity c identity 1003
			  created observed a > c
			  stack
			trace to-stack a > c new 1001->1003 to-kernel
			trace from-stack c > a 0->0
			  lookup observed c > a found reply
			  identity c identity 1003
			  identity a identity 1001
			  delivery endpoint 2
			trace to-pod c > a reply 1003->1001 delivered`, `
			trace from-stack a > c 0->0
			  lookup observed a > c new
			  identity a identity 1001
			  identity c identity 1003
			  created observed a > c
			  delivery endpoint 2
			trace to-pod a > c new 1001->1003 delivered
			trace from-pod c > a 1003->0
			  lookup observed c > a found reply
			  identity a identity 1001
			  stack
			trace to-stack c > a reply 1003->1001 to-kernel`},
		{"kubeproxy-replacement", masqueraded, `
			trace from-pod a > c 1001->0
			  lookup observed a > c new
			  identity c identity 1003
			  created observed a > c
			  stack
			trace to-stack a > c new 1001->1003 to-kernel
			trace from-stack a > c 0->0
			  lookup observed a > c found new
			  identity a identity 1001
			  identity c identity 1003
			trace to-network a > c new 1001->1003
			trace from-network c > a 0->0
			  lookup observed c > a found reply
			  identity c identity 1003
			  identity a identity 1001
			  stack
			trace to-stack c > a reply 1003->1001
			trace from-stack c > a 0->0
			  lookup observed c > a found reply
			  identity c identity 1003
			  identity a identity 1001
			  delivery endpoint 2
			trace to-pod c > a reply 1003->1001 delivered`, `
			trace from-network a > c 0->0
			  lookup observed a > c new
			  identity a identity 1001
			  identity c identity 1003
			  created observed a > c
			  stack
			trace to-stack a > c new 1001->1003
			trace from-stack a > c 0->0
			  lookup observed a > c found new
			  identity a identity 1001
			  identity c identity 1003
			  delivery endpoint 2
			trace to-pod a > c new 1001->1003 delivered
			trace from-pod c > a 1003->0
			  lookup observed c > a found reply
			  identity a identity 1001
			  stack
			trace to-stack c > a reply 1003->1001 to-kernel
			trace from-stack c > a 0->0
			  lookup nat c > a
			  lookup observed c > a found reply
			  identity c identity 1003
			  identity a identity 1001
			trace to-network c > a reply 1003->1001`},
		{"ebpf, vxlan", func(c *datapath.Config) { routed(c); vxlan.between(c) }, `
			trace from-pod a > c 1001->0
			  lookup observed a > c new
			  identity c identity 1003
			  created observed a > c
			  tunnel node1 identity 1001
			trace to-tunnel a > c new 1001->1003 tunneled
			trace from-tunnel c > a 1003->0
			  lookup nat c > a
			  lookup observed c > a found reply
			  identity a identity 1001
			  delivery endpoint 2
			trace to-pod c > a reply 1003->1001 delivered`, `
			trace from-tunnel a > c 1001->0
			  lookup nat a > c
			  lookup observed a > c new
			  identity c identity 1003
			  created observed a > c
			  delivery endpoint 2
			trace to-pod a > c new 1001->1003 delivered
			trace from-pod c > a 1003->0
			  lookup observed c > a found reply
			  identity a identity 1001
			  tunnel node0 identity 1003
			trace to-tunnel c > a reply 1003->1001 tunneled`},
		{"kubeproxy, vxlan", func(c *datapath.Config) { kubeProxy(c); vxlan.between(c) }, `
			trace from-pod a > c 1001->0
			  lookup observed a > c new
			  identity c identity 1003
			  created observed a > c
			  tunnel node1 identity 1001
			trace to-tunnel a > c new 1001->1003 tunneled
			trace from-tunnel c > a 1003->0
			  lookup observed c > a found reply
			  identity a identity 1001
			  delivery endpoint 2
			trace to-pod c > a reply 1003->1001 delivered`, `
			trace from-tunnel a > c 1001->0
			  lookup observed a > c new
			  identity c identity 1003
			  created observed a > c
			  delivery endpoint 2
			trace to-pod a > c new 1001->1003 delivered
			trace from-pod c > a 1003->0
			  lookup observed c > a found reply
			  identity a identity 1001
			  tunnel node0 identity 1003
			trace to-tunnel c > a reply 1003->1001 tunneled`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newTrio(t, test.with, everything)
			for _, to := range []*pod{s.b, s.c} {
				must(t, second(s.a.Ping(to.Addr, netnstest.PingOptions{}))) // the neighbours are known afterwards
			}
			s.forgetObserved()
			events := s.listen(among(icmp, s.a.Addr, s.b.Addr), func() { must(t, second(s.a.Ping(s.b.Addr, netnstest.PingOptions{}))) })
			s.cast.compare(t, "on one node", events["node0"], onOneNode)
			s.cast.compare(t, "on one node, the other", events["node1"], "")
			events = s.listen(among(icmp, s.a.Addr, s.c.Addr), func() { must(t, second(s.a.Ping(s.c.Addr, netnstest.PingOptions{}))) })
			s.cast.compare(t, "across nodes, the client's", events["node0"], test.near)
			s.cast.compare(t, "across nodes, the server's", events["node1"], test.far)
		})
	}
}

// The events of a connection: where all are told, which packets follow a remembered decision, and what a Service's are.
func TestEventsOfAConnection(t *testing.T) {
	s := newTrio(t, routed, everything)
	serve(s.b.NS)
	s.balance(both(demo(ready(s.b, s.nodes[0])))...)
	s.cast[clusterIP] = "demo"
	events := s.listen(among(tcp, s.a.Addr, s.b.Addr, clusterIP), func() {
		c, err := s.a.Dial("tcp4", netip.AddrPortFrom(clusterIP, port))
		must(t, err)
		defer c.Close()
		for range 3 {
			must(t, second(echoed(c)))
		}
	})["node0"]
	s.cast.compare(t, "its first packet", packetOf(events, 0), `
		trace from-pod a > demo 1001->0
		  lookup ct a > demo
		  created ct a > demo
		  translation a > demo becomes a > b of default/demo
		  lookup observed a > demo new
		  identity b identity 1002
		  created observed a > demo
		  delivery endpoint 3
		trace to-pod a > b was a > demo of default/demo new 1001->1002 delivered`)
	s.cast.compare(t, "its answer", packetOf(events, 1), `
		trace from-pod b > a 1002->0
		  lookup nat b > a found reply
		  translation b > a becomes demo > a of default/demo
		  lookup observed demo > a found reply
		  identity a identity 1001
		  delivery endpoint 2
		trace to-pod demo > a was b > a of default/demo reply 1002->1001 delivered`)
	cached := 0
	for _, e := range events {
		if e.Cached != (e.Decided > 0) && e.Decided != 0 || e.Decided > 5*time.Second {
			t.Errorf("cached is %v, decided %s ago: %s", e.Cached, e.Decided, s.cast.line(e))
		}
		if e.Type == api.EventTrace && e.Cached {
			cached++
		}
	}
	if cached < 4 {
		t.Errorf("%d events are of packets that follow a remembered decision", cached)
	}
	s.cast.compare(t, "a later packet", packetOf(events, cachedPacket(events)), `
		trace from-pod a > demo cached 1001->0
		  cache
		  translation a > demo becomes a > b of default/demo
		  lookup observed a > demo found established
		  identity b identity 1002
		  delivery endpoint 3
		trace to-pod a > b was a > demo of default/demo established cached 1001->1002 delivered`)
}

// Where flows are told: one event at a flow's start, its first reply and its end, however many packets there are between,
// and what they say was sent is what was.
func TestEventsOfFlows(t *testing.T) {
	for name, mode := range map[string]setup{"ebpf": routed, "kubeproxy": kubeProxy} {
		t.Run(name, func(t *testing.T) {
			s := newTrio(t, mode, flowsOnly)
			serve(s.b.NS, s.c.NS)
			for _, peer := range []*pod{s.b, s.c} {
				eth := s.a.Capture("eth0")
				events := s.listen(among(tcp, s.a.Addr, peer.Addr), func() {
					c, err := s.a.Dial("tcp4", peer.at(port))
					must(t, err)
					for range 50 {
						must(t, second(echoed(c)))
					}
					must(t, c.Close())
				})
				list := events["node0"]
				var occasions []api.Occasion
				for _, e := range list {
					occasions = append(occasions, e.Occasion)
				}
				if want := []api.Occasion{api.OccasionStart, api.OccasionReply, api.OccasionEnd}; !slices.Equal(occasions, want) {
					t.Fatalf("to %s there are %v, want %v", peer.spec.Pod, occasions, want)
				}
				if list[0].State != api.StateNew || list[1].State != api.StateReply || list[0].SrcIdentity != 1001 || list[0].DstIdentity == 0 || len(list[0].Data) == 0 {
					t.Errorf("the first are %+v, %+v", list[0], list[1])
				}
				sent, returned := volumes(eth.Frames(), s.a.Addr, peer.Addr)
				if end := list[2]; end.Sent != sent || end.Returned != returned {
					t.Errorf("to %s were sent %+v and %+v; at its end the flow is told to have %+v and %+v", peer.spec.Pod, sent, returned, end.Sent, end.Returned)
				}
				if peer == s.c && len(events["node1"]) != 3 {
					t.Errorf("the other node tells %v", events["node1"])
				}
			}
			c, err := s.a.Dial("udp4", s.b.at(port))
			must(t, err)
			defer c.Close()
			events := s.listen(among(udp, s.a.Addr, s.b.Addr), func() {
				for begun := time.Now(); time.Since(begun) < 6500*time.Millisecond; time.Sleep(50 * time.Millisecond) {
					must(t, second(echoed(c)))
				}
			})["node0"]
			if len(events) != 3 || events[2].Occasion != api.OccasionInterval || events[2].Age < 4*time.Second || events[2].Sent.Packets < 50 {
				t.Errorf("of a flow that goes on for 6.5 s is told\n%+v", events)
			}
		})
	}
}

// What a socket is refused is told as any drop is, whatever else is told.
func TestEventsOfARefusedSocket(t *testing.T) {
	balancer := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.220"), port)
	for name, what := range map[string]setup{"drops": func(*datapath.Config) {}, "flows": flowsOnly, "packets and steps": everything} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, routed, what)
			n := l.nodes[0]
			b := n.addPod("b")
			s := demo(ready(b, n))
			s.Frontends = append(s.Frontends, lb.Frontend{Kind: lb.LoadBalancer, Addr: balancer.Addr(), Port: port})
			s.SourceRanges = []netip.Prefix{netip.PrefixFrom(b.Addr, 32)}
			l.balance(both(s)...)
			events := l.listen(func(e api.Event) bool { return e.Reason == "source-range" }, func() {
				n.inCgroup(n.NS, conversation{Network: "tcp", To: []netip.AddrPort{balancer}})
			})["node0"]
			if len(events) != 1 || events[0].Type != api.EventDrop || events[0].Point != api.FromStack || events[0].Src.Addr() != n.Host.Addr || events[0].Dst != balancer {
				t.Errorf("there is told %+v", events)
			}
		})
	}
}

// volumes are what two have sent each other by TCP up to the second FIN.
func volumes(frames []netnstest.Frame, from, to netip.Addr) (sent, returned api.Volume) {
	fins := 0
	for _, f := range frames {
		ip, isIP := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		segment, isTCP := f.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !isIP || !isTCP || fins == 2 {
			continue
		}
		v := &sent
		if ip.SrcIP.Equal(to.AsSlice()) {
			v = &returned
		}
		v.Packets++
		v.Bytes += uint64(len(f.Data()))
		if segment.FIN {
			fins++
		}
	}
	return sent, returned
}

// packetOf are the events of the nth packet.
func packetOf(events []api.Event, n int) (of []api.Event) {
	var order []string
	for _, e := range events {
		id := fmt.Sprint(e.CPU, e.Packet)
		if !slices.Contains(order, id) {
			order = append(order, id)
		}
		if slices.Index(order, id) == n {
			of = append(of, e)
		}
	}
	return of
}

// cachedPacket is the number of a packet of the opener's with data that follows a remembered decision.
func cachedPacket(events []api.Event) int {
	for n := range len(events) {
		of := packetOf(events, n)
		if len(of) > 0 && of[len(of)-1].Cached && of[len(of)-1].OrigDst.Addr() == clusterIP {
			return n
		}
	}
	return -1
}

// echoed sends a byte and reads all that the server answers: a client that closes with something unread sends a RST.
func echoed(c net.Conn) (int, error) {
	c.SetDeadline(time.Now().Add(netnstest.ProbeTimeout))
	if _, err := c.Write([]byte("x")); err != nil {
		return 0, err
	}
	answer := make([]byte, 64)
	for {
		n, err := c.Read(answer)
		if err != nil || answer[n-1] == 'x' { // the client's address, which comes first, has no x
			return n, err
		}
	}
}

// forgetObserved has events begin anew with all flows.
func (s *trio) forgetObserved() {
	for _, n := range s.nodes {
		n.dp.ForgetObserved(s.t)
	}
}
