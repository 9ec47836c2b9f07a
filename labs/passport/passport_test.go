package passport

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/internal/api"
)

var update = flag.Bool("update", false, "write what passports say as what they are to say")

// TestRecorded makes passports of what `lab explain -v -o json` has seen in labs of each mode.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			in := recorded(t, file)
			got := words(Make(in))
			golden := strings.TrimSuffix(file, ".json") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s says\n%swant\n%s", file, got, want)
			}
		})
	}
}

func recorded(t *testing.T, file string) (in Input) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// words are a passport, a line for each thing it says.
func words(p Passport) string {
	var b strings.Builder
	add := func(format string, args ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
	}
	add("%s %s > %s %s", p.Probe.Protocol, p.Probe.From.Name, p.Probe.To.Name, p.Failed)
	for _, w := range []*Way{p.Request, p.Answer} {
		if w == nil {
			continue
		}
		add("%s, arrived %t", w.Kind, w.Arrived)
		for _, h := range w.Hops {
			add("  %s %s%s %s %s", h.Node, podOf(h), h.Device, h.Direction, strings.Join(h.Hooks, " "))
			if p := h.Packet; p != nil {
				add("    %s > %s TTL %d %s", endText{p.Src}, endText{p.Dst}, p.TTL, p.Tunnel)
			}
			if h.Socket != nil {
				add("    %+v", *h.Socket)
			}
			for _, c := range h.Changes {
				add("    %s %s -> %s", c.Field, c.Was, c.Is)
			}
			if p := h.Program; p != nil {
				add("    %s %s: %s %s, %s, identity %d > %d, %s", p.Name, p.Hook, p.Verdict, p.Helper, p.State, p.SrcIdentity, p.DstIdentity, p.Service)
			}
			if h.Unknown != "" {
				add("    unknown: %s", h.Unknown)
			}
		}
		for _, a := range w.Absences {
			add("  not at %s %s %s %s: %s", a.Node, a.Device, a.Pod, strings.Join(a.Hooks, " "), a.Reason)
		}
		if !w.Arrived {
			add("  %s; %s; %s", w.End, w.Why, w.WayOut)
		}
	}
	for _, n := range p.Notes {
		add("note: %s", n)
	}
	return b.String()
}

func podOf(h Hop) string {
	if h.Pod == "" {
		return ""
	}
	return h.Pod + ":"
}

// TestAbsencesNeedProof: where captures or counters were not proven, nothing is said of what they have not seen; where they were,
// the same recording says it.
func TestAbsencesNeedProof(t *testing.T) {
	in := recorded(t, "testdata/ebpf-same.json")
	if w := Make(in).Request; len(w.Absences) != 3 {
		t.Fatalf("absences: %+v", w.Absences)
	}
	for i := range in.Points {
		in.Points[i].Unproven = "its capture was not proven"
	}
	for _, n := range in.Nodes {
		for i := range n.Hooks {
			n.Hooks[i].Proven = false
		}
	}
	p := Make(in)
	if len(p.Request.Absences) != 0 || len(p.Notes) == 0 {
		t.Errorf("absences without proof: %+v, notes %q", p.Request.Absences, p.Notes)
	}
	for _, h := range p.Request.Hops {
		if h.Program != nil && h.Program.Helper != "" {
			t.Errorf("%s of %s follows from what was not seen", h.Program.Helper, h.Program.Name)
		}
	}
}

// TestAway: what a node's agent did not tell is unknown, and the rest is as it was.
func TestAway(t *testing.T) {
	in := recorded(t, "testdata/ebpf-across.json")
	whole := Make(in)
	far := whole.Request.Hops[len(whole.Request.Hops)-1].Node
	for i := range in.Nodes {
		if in.Nodes[i].Name == far {
			in.Nodes[i].Away = "it does not answer"
		}
	}
	events := in.Events
	in.Events = nil
	for _, e := range events {
		if e.Node != far {
			in.Events = append(in.Events, e)
		}
	}
	p := Make(in)
	if len(p.Request.Hops) != len(whole.Request.Hops) || !p.Request.Arrived || len(p.Notes) == 0 {
		t.Errorf("%s", words(p))
	}
	for i, h := range p.Request.Hops {
		was := whole.Request.Hops[i]
		if h.Device != was.Device || h.Node != far && (h.Program == nil) != (was.Program == nil) {
			t.Errorf("hop %d was %+v, is %+v", i, was, h)
		}
		if h.Node == far && was.Program != nil && h.Unknown != "it does not answer" {
			t.Errorf("hop %d: %+v", i, h)
		}
	}
	for _, a := range p.Request.Absences {
		if a.Node == far {
			t.Errorf("a reason that nobody told: %+v", a)
		}
	}
}

// TestHooksOfOlderKernels: what a node's programs are attached by is said as its agent reads it back, and changes nothing else.
func TestHooksOfOlderKernels(t *testing.T) {
	in := recorded(t, "testdata/kubeproxy-across.json")
	want := strings.ReplaceAll(words(Make(in)), "tcx ", "clsact ")
	for i := range in.Nodes {
		in.Nodes[i].Programs = []api.Program{
			{Name: fromPod, Hook: "clsact ingress"}, {Name: toPod, Hook: "clsact egress"},
			{Name: fromNetwork, Hook: "clsact ingress"}, {Name: toNetwork, Hook: "clsact egress"},
		}
		for k := range in.Nodes[i].Programs {
			for _, p := range in.Points {
				in.Nodes[i].Programs[k].AttachedTo = append(in.Nodes[i].Programs[k].AttachedTo, p.Device)
			}
		}
	}
	if got := words(Make(in)); got != want || !strings.Contains(got, toPod+" clsact egress") {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
}

// TestTwoProbes: two probes at once are told apart.
func TestTwoProbes(t *testing.T) {
	one, two := recorded(t, "testdata/ebpf-same.json"), recorded(t, "testdata/ebpf-across.json")
	both := one
	both.Points = slices.Concat(one.Points, two.Points)
	both.Events = slices.Concat(one.Events, two.Events)
	both.Sights = slices.Clone(one.Sights)
	for _, s := range two.Sights {
		s.Point += len(one.Points)
		both.Sights = append(both.Sights, s)
	}
	if got, want := words(Make(both)), words(Make(one)); !strings.HasPrefix(got, want[:strings.Index(want, "  not at")]) {
		t.Errorf("with another probe:\n%s\nalone:\n%s", got, want)
	}
}

// TestAnothersPort: what somebody else sends from the same port is not the pod's.
func TestAnothersPort(t *testing.T) {
	in := recorded(t, "testdata/ebpf-service.json")
	alone := words(Make(in))
	b := gopacket.NewSerializeBuffer()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{172, 18, 0, 5}, DstIP: []byte{10, 0, 1, 5}}
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4},
		ip, &layers.TCP{SrcPort: layers.TCPPort(in.Probe.Port), DstPort: 8080, Seq: 7, SYN: true}); err != nil {
		t.Fatal(err)
	}
	in.Sights = append(in.Sights, Sight{Point: 2, Time: in.Sights[0].Time, Data: b.Bytes()})
	if words(Make(in)) == alone {
		t.Fatal("by its port alone it is not taken for the probe's: this says nothing")
	}
	in.Probe.Source = netip.MustParseAddr("10.0.0.8")
	if got := words(Make(in)); got != alone {
		t.Errorf("beside it:\n%s\nalone:\n%s", got, alone)
	}
}

// TestWayOutOfWhatWasNotSent: the way out is that of what the sender's socket got.
func TestWayOutOfWhatWasNotSent(t *testing.T) {
	in := recorded(t, "testdata/ebpf-service.json")
	in.Sights, in.Events = nil, nil
	for _, c := range []struct{ failed, kind, want string }{
		{"sendto: operation not permitted", Pod, "iptables-save -c there has the rules"},
		{"sendto: operation not permitted", Service, "iptables-save -c there has the rules"},
		{"connect: network is unreachable", Pod, "ip route get " + in.Probe.Target.Addr().String()},
		{"connect: connection refused", Service, "lab service list"},
		{"connect: connection refused", Pod, "lab monitor --type drop"},
	} {
		in.Failed, in.Probe.To.Kind = c.failed, c.kind
		if got := Make(in).Request.WayOut; !strings.Contains(got, c.want) {
			t.Errorf("%s, to a %s: %q, want %q", c.failed, c.kind, got, c.want)
		}
	}
}

// TestWhatIsKnownOfTheTargetIsNoted: who refuses is told from who is not there, and an address that nobody has from one that
// was not masqueraded.
func TestWhatIsKnownOfTheTargetIsNoted(t *testing.T) {
	in := recorded(t, "testdata/ebpf-service.json")
	const refuses = "refuses: nothing listens at its port"
	ways := []Way{{}, {Kind: "RST ACK"}}
	for _, c := range []struct {
		failed, kind string
		want         bool
	}{{"connect: connection refused", Pod, true}, {"", Pod, false}, {"connect: connection refused", Outside, false}} {
		in.Failed, in.Probe.To.Kind = c.failed, c.kind
		j := &joiner{Input: in}
		if got := strings.Join(j.notes(ways...), "\n"); strings.Contains(got, refuses) != c.want {
			t.Errorf("%q of a %s: %s", c.failed, c.kind, got)
		}
	}
	in.Failed, in.Probe.To.Kind, in.Probe.From.Kind = "no answer", Outside, Pod
	left := Way{Arrived: true, Hops: []Hop{{Device: "eth0", Node: "worker", Packet: &Packet{Src: in.Probe.Target}}}}
	for nobody, want := range map[string]string{"": "nothing masqueraded it", "no pod has it": "no pod has it"} {
		in.Nobody = nobody
		j := &joiner{Input: in}
		if got := strings.Join(j.notes(left), "\n"); !strings.Contains(got, want) || nobody != "" && strings.Contains(got, "masqueraded") {
			t.Errorf("%q: %s", nobody, got)
		}
	}
}

// TestSeenNowhere: what a pod sends to itself leaves it nowhere, which is only known of a pod at which captures were proven.
func TestSeenNowhere(t *testing.T) {
	unproven := recorded(t, "testdata/ebpf-service.json")
	unproven.Sights, unproven.Events, unproven.Failed = nil, nil, ""
	fromPod := unproven
	fromPod.Points = slices.Clone(unproven.Points)
	for i := range unproven.Points {
		unproven.Points[i].Unproven = "its capture was not proven"
	}
	refused, fromNode := fromPod, fromPod
	refused.Failed = "connection refused"
	fromNode.Probe.From = End{Name: "worker", Kind: Node, Node: "worker"}
	for _, c := range []struct {
		what, end string
		in        Input
	}{
		{"a pod that answers itself", "it was answered, and did not leave the pod", fromPod},
		{"captures that say nothing", "it was seen nowhere", unproven},
		{"a socket that refuses", "it was seen nowhere", refused},
		{"a node, whose packets get other ports", "it was answered, and not known again where it was seen", fromNode},
	} {
		if p := Make(c.in); p.Request.Arrived || p.Request.End != c.end || p.Answer != nil {
			t.Errorf("%s: %s", c.what, words(p))
		}
	}
}

// TestUnheardNode: a packet whose next hop is a node that is paused has not left the lab, as far as anybody knows; where all nodes were
// listened at, it has.
func TestUnheardNode(t *testing.T) {
	in := recorded(t, "testdata/ebpf-across.json")
	far := in.Probe.To.Node
	points, sights := in.Points, in.Sights
	in.Points, in.Sights = nil, nil
	kept := map[int]int{}
	for i, p := range points {
		if p.Node != far {
			kept[i] = len(in.Points)
			in.Points = append(in.Points, p)
		}
	}
	for _, seen := range sights {
		if at, is := kept[seen.Point]; is {
			seen.Point = at
			in.Sights = append(in.Sights, seen)
		}
	}
	in.Events = slices.DeleteFunc(in.Events, func(e api.Event) bool { return e.Node == far })
	in.Failed = "no answer"
	if p := Make(in); !strings.Contains(p.Request.Why, "which is no node's MAC") {
		t.Errorf("nobody knows of a node, and it says:\n%s", words(p))
	}
	for i := range in.Nodes {
		if in.Nodes[i].Name == far {
			in.Nodes[i].Away = "the node is paused"
		}
	}
	if p := Make(in); p.Request.Why != "it may have gone to node "+far+", where nobody listened: the node is paused" {
		t.Errorf("%s", words(p))
	}
}

// TestDroppedAtInput: what a rule at INPUT of the node that it is for drops has not arrived, an answer too.
func TestDroppedAtInput(t *testing.T) {
	in := recorded(t, "testdata/ebpf-node.json")
	if p := Make(in); p.Answer == nil || !p.Answer.Arrived {
		t.Fatalf("without a rule:\n%s", words(p))
	}
	node, dropped := in.Probe.From.Node, false
	for i, n := range in.Nodes {
		for j, h := range n.Hooks {
			if n.Name == node && h.Name == input {
				in.Nodes[i].Hooks[j].Reply.Out, dropped = 0, h.Reply.In > 0
			}
		}
	}
	want := "the stack of node " + node + " dropped it at INPUT"
	if p := Make(in); !dropped || p.Answer.Arrived || p.Answer.End != want || p.Answer.WayOut == "" {
		t.Errorf("want %q:\n%s", want, words(p))
	}
}
