package labs

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/labs/passport"
)

// TestTargets: what is asked of a Service goes to the port that was asked for, or to a backend of that port and no other.
func TestTargets(t *testing.T) {
	tcp, udp, web, metrics := corev1.ProtocolTCP, corev1.ProtocolUDP, "web", "metrics"
	port := func(name *string, protocol *corev1.Protocol, n int32) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: name, Protocol: protocol, Port: &n}
	}
	ports := []discoveryv1.EndpointPort{port(&web, &tcp, 80), port(&metrics, &tcp, 9090), port(&web, &udp, 53)}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: web, Protocol: tcp, Port: 8080, NodePort: 32000}, {Name: metrics, Protocol: tcp, Port: 9090}, {Name: web, Protocol: udp, Port: 8080},
		}},
	}
	end := probeEnd{addr: netip.MustParseAddr("10.96.0.7"), service: service, behind: behindOf(ports, []string{"10.0.0.4", "10.0.1.4", "fd00::4"})}
	node := end
	node.addr, node.Node = netip.MustParseAddr("172.18.0.2"), "l-worker"
	alone := probeEnd{addr: netip.MustParseAddr("10.0.0.9")}
	for _, c := range []struct {
		name     string
		of       probeEnd
		port     uint16
		protocol string
		want     string
	}{
		{"a port", end, 8080, passport.TCP, "10.96.0.7:8080 10.0.0.4:80 10.0.1.4:80 [fd00::4]:80"},
		{"the same of another protocol", end, 8080, passport.UDP, "10.96.0.7:8080 10.0.0.4:53 10.0.1.4:53 [fd00::4]:53"},
		{"a port that it has not", end, 80, passport.TCP, "10.96.0.7:80"},
		{"an echo", end, 0, passport.ICMP, "10.96.0.7:0"},
		{"at a node", node, 32000, passport.TCP, "172.18.0.2:32000 10.0.0.4:80 10.0.1.4:80 [fd00::4]:80"},
		{"no Service", alone, 80, passport.TCP, "10.0.0.9:80"},
	} {
		var got []string
		for _, a := range c.of.targets(c.port, c.protocol) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// TestNotedPacket reads elements of a set as nft prints them.
func TestNotedPacket(t *testing.T) {
	for line, want := range map[string]passport.HookPacket{
		"\t\telements = { 10.0.0.3 . 10.96.0.9 . 0xc9f92b9d . 0x3c8764 timeout 10s expires 9s981ms,": {Src: netip.MustParseAddr("10.0.0.3"), Dst: netip.MustParseAddr("10.96.0.9"), Seq: 0xc9f92b9d, Length: 60, ID: 0x8764},
		"\t\t\t     echo-reply . 0x314f0002 . 0x547bbf }":                                            {Reply: true, Seq: 2, Length: 84, ID: 0x7bbf},
		"\t\t\t     echo-request . 0x314f0002 . 0x547bbe,":                                           {Seq: 2, Length: 84, ID: 0x7bbe},
	} {
		m := notedLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("%q is not known", line)
			continue
		}
		if got, err := notedPacket(m[1:]); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", line, got, err, want)
		}
	}
	control := notedLine.FindStringSubmatch("\t\telements = { info-request . 0x0 . 0x2c0000 expires 9s }")
	if control == nil || control[3] != controlType {
		t.Errorf("the control is read as %q", control)
	}
	for _, line := range []string{"\tset forward_in {", "\t\ttypeof ip saddr . ip daddr . @th,32,32 . @nh,16,32", "\t\ttcp dport { 80, 8080 } update @forward_in { ip saddr . ip daddr . @th,32,32 . @nh,16,32 }"} {
		if m := notedLine.FindStringSubmatch(line); m != nil {
			t.Errorf("%q is taken for a packet: %q", line, m)
		}
	}
}

// TestBoundedBy: as long as the packet has not come, the last ones are kept; then all that come.
func TestBoundedBy(t *testing.T) {
	a := &awaited{}
	var kept []int
	for i := range 5 * maxAwaiting {
		if kept = boundedBy(a, append(kept, i)); len(kept) > 2*maxAwaiting || kept[len(kept)-1] != i || i > maxAwaiting && len(kept) < maxAwaiting {
			t.Fatalf("after %d there are %d, the last %d", i, len(kept), kept[len(kept)-1])
		}
	}
	a.seen.Store(true)
	had := len(kept)
	for i := range 2 * maxAwaiting {
		kept = boundedBy(a, append(kept, i))
	}
	if len(kept) != had+2*maxAwaiting {
		t.Errorf("%d are kept of %d that came after it", len(kept)-had, 2*maxAwaiting)
	}
	var none *awaited
	if all := boundedBy(none, slices.Repeat([]int{1}, 3*maxAwaiting)); len(all) != 3*maxAwaiting {
		t.Errorf("of a probe's %d are kept", len(all))
	}
}

// TestAwait: a packet that does not come is waited for as long as was asked, or until a moment after what was to send it has ended.
func TestAwait(t *testing.T) {
	await := func(ctx context.Context, o ExplainOptions) *explaining {
		e := &explaining{options: o, awaited: &awaited{came: make(chan struct{}), replied: make(chan struct{})}}
		e.in.Probe = passport.Probe{Protocol: passport.ICMP, From: passport.End{Name: "default/cni"}, To: passport.End{Name: "default/demo"}}
		watching := false
		e.options.Watching = func() { watching = true }
		e.await(ctx)
		if !watching {
			t.Error("it was not said that it waits")
		}
		return e
	}
	if err := await(t.Context(), ExplainOptions{Watch: time.Millisecond}).noneCame(); !strings.Contains(err.Error(), "no icmp packet from default/cni to default/demo came within 1ms") {
		t.Error(err)
	}
	ran := false
	o := ExplainOptions{Watch: time.Hour, Meanwhile: func(context.Context) { ran = true }}
	if err := await(t.Context(), o).noneCame(); !ran || !strings.HasSuffix(err.Error(), "while the command ran: that is run on this machine, and lab shell default/cni -- COMMAND runs one there") {
		t.Errorf("the command ran: %t: %v", ran, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	await(ctx, ExplainOptions{Watch: time.Hour})
}
