package datapath_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// watch collects events while traffic runs, until wanted of them have come. It is listening when
// traffic starts.
func watch(t *testing.T, n *node, wanted int, traffic func()) []api.Event {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var events []api.Event
	var once sync.Once
	var started, reader sync.WaitGroup
	started.Add(1)
	reader.Go(func() {
		for e, err := range n.dp.Events(c, datapath.Soon) {
			if err != nil {
				t.Error(err)
				return
			}
			once.Do(started.Done)
			if e.Type == api.EventLost {
				t.Errorf("%d events are lost", e.Missed)
				continue
			}
			if e.Reason == "unsupported-protocol" {
				continue // the beacons
			}
			if events = append(events, e); len(events) >= wanted {
				return
			}
		}
	})
	beacons(n, c, &started)
	traffic()
	reader.Wait()
	return events
}

// beacons sends packets that are dropped until the reader has seen one.
func beacons(n *node, c context.Context, seen *sync.WaitGroup) {
	p := n.addPod("beacon")
	eth := p.Capture("eth0")
	frame := make([]byte, 60)
	copy(frame[12:], []byte{0x88, 0xcc})
	done := make(chan struct{})
	go func() { seen.Wait(); close(done) }()
	for {
		eth.Inject(frame)
		select {
		case <-done:
			return
		case <-c.Done():
			n.t.Fatal("no event came")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func at(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }

func TestEventsOfDropsOnly(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	spoofed := echoRequest(t, a.PodMAC[:], a.HostMAC[:], netip.MustParseAddr("203.0.113.9"), b.Addr)
	a.Capture("eth0").Inject(spoofed) // before anybody listens
	events := watch(t, n, 1, func() {
		must(t, second(a.Ping(b.Addr, netnstest.PingOptions{})))
		a.Capture("eth0").Inject(echoRequest(t, a.PodMAC[:], a.HostMAC[:], b.Addr, netip.MustParseAddr("203.0.113.10")))
	})
	if len(events) != 1 {
		t.Fatalf("%d events, want 1: %+v", len(events), events)
	}
	if e := events[0]; e.Point != api.FromPod || e.Sequence == 0 || e.Packet != e.Sequence || time.Since(e.Time) > 10*time.Second || e.Type != api.EventDrop || e.Reason != "source-address" || e.Src != at(b.Addr) || e.Dst.Addr().String() != "203.0.113.10" || e.Iface != a.HostIf {
		t.Errorf("the event is %+v", e)
	}
}

// Somebody who waits for events gets them soon also when the ring was left alone for others.
func TestEventsComeSoonBesideThePatient(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a := n.addPod("a")
	c, cancel := context.WithCancel(context.Background())
	var patient sync.WaitGroup
	patient.Go(func() {
		for _, err := range n.dp.Events(c, time.Minute) {
			if err != nil {
				t.Error(err)
			}
		}
	})
	defer patient.Wait()
	defer cancel()
	eventually(t, func() bool { return n.dp.Listeners() == 1 }, "the patient listens")
	events := watch(t, n, 1, func() {
		a.Capture("eth0").Inject(echoRequest(t, a.PodMAC[:], a.HostMAC[:], netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("203.0.113.10")))
	})
	if len(events) == 0 {
		t.Error("no event within 5 s")
	}
}

func TestEventsEndWithTheDatapath(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	dp := n.dp
	ended := make(chan error, 1)
	var once sync.Once
	var listening sync.WaitGroup
	listening.Add(1)
	go func() {
		for _, err := range dp.Events(context.Background(), datapath.Soon) {
			if err != nil {
				ended <- err
				return
			}
			once.Do(listening.Done)
		}
		ended <- nil
	}()
	beacons(n, ctx(t), &listening)
	n.close()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("the sequence ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the sequence did not end")
	}
	for _, err := range dp.Events(context.Background(), datapath.Soon) {
		if err == nil {
			t.Error("a closed datapath has events")
		}
	}
}

func TestMetricsNameEveryDropReason(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	list, err := n.dp.Metrics()
	must(t, err)
	var names []string
	for _, m := range list {
		if m.Drop && m.Direction == datapath.FromPod {
			names = append(names, m.Reason)
		}
	}
	if want := []string{"malformed", "no-endpoint", "source-address", "unsupported-protocol"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// Frames that gopacket and test runs cannot make, or refuse to.
func TestBrokenFrames(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	whole := echoRequest(t, a.PodMAC[:], a.HostMAC[:], a.Addr, b.Addr)
	tagged := frame(t,
		&layers.Ethernet{SrcMAC: a.PodMAC[:], DstMAC: a.HostMAC[:], EthernetType: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{VLANIdentifier: 5, Type: layers.EthernetTypeIPv4}, gopacket.Payload(whole[14:]))
	for name, test := range map[string]struct {
		frame  []byte
		reason string
	}{
		"half an IP header": {whole[:14+12], "malformed"},
		"a VLAN tag":        {tagged, "unsupported-protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			before := n.packets(test.reason, datapath.FromPod)
			a.Capture("eth0").Inject(test.frame)
			eventually(t, func() bool { return n.packets(test.reason, datapath.FromPod) == before+1 }, "it is dropped as "+test.reason)
		})
	}
}

func TestStatus(t *testing.T) {
	l := newLab(t, 2)
	n := l.nodes[0]
	p := n.addPod("p")
	n.applyChains()
	var s api.Datapath
	read := func() {
		t.Helper()
		n.Do(func() {
			var err error
			s, err = n.dp.Status(ctx(t))
			must(t, err)
		})
	}
	read()
	if s.Mode != string(settings.ModeKubeProxy) || s.AttachMode != "tcx" || s.Routing.Host != "Legacy" || s.Routing.Reason != "needs kube-proxy replacement; needs BPF masquerade" || s.MTU != 1500 || s.Router != n.cfg.Router() || s.MonitorAggregation != settings.AggregationMaximum {
		t.Errorf("status is %+v", s)
	}
	if len(s.Programs) != 2 || !slices.ContainsFunc(s.Programs, func(p0 api.Program) bool {
		return p0.Name == "lab_from_pod" && p0.Hook == "tcx ingress" && slices.Equal(p0.AttachedTo, []string{p.HostIf})
	}) || !slices.ContainsFunc(s.Programs, func(p0 api.Program) bool {
		return p0.Name == "lab_to_pod" && p0.Hook == "tcx egress" && slices.Equal(p0.AttachedTo, []string{"lab_host"})
	}) {
		t.Errorf("programs are %+v", s.Programs)
	}
	if want := []api.NodeRoute{
		{PodCIDR: l.nodes[1].cfg.PodCIDR, Via: l.nodes[1].Host.Addr, Device: "eth0"},
	}; !slices.Equal(s.Routing.Routes, want) {
		t.Errorf("routes are %+v, want %+v", s.Routing.Routes, want)
	}
	if m := s.Masquerading; !m.Enabled || m.Kind != "iptables" || m.NativeCIDR != native || m.Backend == "" {
		t.Errorf("masquerading is %+v", m)
	}
	if s.HostPorts != 2 || len(s.Devices) != 3 || len(s.Maps) != 12 {
		t.Errorf("status is %+v", s)
	}
	var memory uint64
	for _, m := range s.Maps {
		memory += m.MemoryBytes
	}
	t.Logf("maps take %d KiB", memory/1024)
	if memory == 0 || memory > 40<<20 {
		t.Errorf("maps take %d bytes", memory)
	}
	// It is read back, not echoed.
	n.Do(func() { must(t, n.dp.RemoveChains(context.Background())) })
	n.Run("ip", "link", "del", p.HostIf)
	read()
	if s.Masquerading.Enabled || len(s.Programs) != 1 {
		t.Errorf("after masquerading and pod are gone: %+v", s)
	}
}
