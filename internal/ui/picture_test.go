package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

func TestWorkloads(t *testing.T) {
	for pod, want := range map[string]string{
		"web-7db6d8ff4d-x2x4k": "web", "demo-x7x2k": "demo", "db-0": "db", "db-11": "db", "cni": "cni", "cart-api-6b5b7c4d9-zzzzz": "cart-api",
		"lab-demo-tools": "lab-demo-tools", "coredns-7db6d8ff4d-x2x4k": "coredns", "web-green": "web-green", "a-1b": "a-1b",
	} {
		if got := workloadOf(pod); got != want {
			t.Errorf("%s is one of %s, want %s", pod, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	var r rate
	for s := int64(100); s < 110; s++ {
		for range 20 {
			r.count(s)
		}
	}
	for second, want := range map[int64]float64{110: 20} {
		if got := r.perSecond(second); got != want {
			t.Errorf("in second %d it is %v, want %v", second, got, want)
		}
	}
	r.count(108) // late
	if got := r.perSecond(110); got != 20.2 {
		t.Errorf("with one that came late it is %v", got)
	}
	r.count(50) // too late
	if got := r.perSecond(112); got != 12.2 {
		t.Errorf("two seconds later it is %v", got)
	}
	if got := r.perSecond(1000); got != 0 {
		t.Errorf("much later it is %v", got)
	}
}

func edgesOf(p *picture, now time.Time) (out []string) {
	u := p.since(0, now)
	names := map[string]string{}
	for _, g := range u.Groups {
		names[g.ID] = g.Name
	}
	for _, e := range u.Edges {
		text := fmt.Sprintf("%s>%s %s %d", names[e.From], names[e.To], e.Protocol, e.Port)
		if e.Red {
			text += " red " + e.Reason
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// TestEdges: what goes one way and the answer are one edge; one that is dropped makes it red, for a while; the reserved ends
// are groups too.
func TestEdges(t *testing.T) {
	p := newPicture(nil)
	now := time.Now()
	add := func(r *api.FlowRecord) { p.add(api.FlowLine{Flow: r}, now) }
	ask := passes("tcp", podEnd("shop/web-7db6d8ff4d-x2x4k", 40000), podEnd("shop/db-0", 5432))
	add(ask)
	add(answer(ask))
	other := passes("tcp", podEnd("shop/web-7db6d8ff4d-k4k4k", 40001), podEnd("shop/db-1", 5432))
	add(other)
	unknown := answer(other)
	unknown.Reply = nil
	add(unknown)
	ping := passes("icmp", podEnd("default/cni", 0), podEnd("shop/db-0", 0))
	ping.Reply, ping.ICMPType = nil, 8
	add(ping)
	pong := answer(ping)
	pong.Reply, pong.ICMPType = nil, 0
	add(pong)
	add(passes("udp", podEnd("default/cni", 999), api.FlowEnd{Addr: netip.MustParseAddr("192.0.2.1"), Port: 53, Name: "world"}))
	add(passes("tcp", api.FlowEnd{Name: "remote-node", Port: 1}, podEnd("shop/db-0", 5432)))
	p.knowServices(map[netip.Addr]Service{netip.MustParseAddr("10.96.0.10"): {"kube-system", "kube-dns"}})
	asked := passes("udp", podEnd("default/cni", 998), api.FlowEnd{Addr: netip.MustParseAddr("10.96.0.10"), Port: 53, Name: "world"})
	add(asked)
	add(answer(asked))
	if got := strings.Join(edgesOf(p, now), ", "); got != "cni>db icmp 0, cni>kube-dns udp 53, cni>world udp 53, nodes>db tcp 5432, web>db tcp 5432" {
		t.Errorf("edges are %s", got)
	}
	add(dropped(passes("icmp", podEnd("default/cni", 0), podEnd("shop/db-0", 0)), "policy-denied"))
	p.tick(now)
	if got := edgesOf(p, now)[0]; got != "cni>db icmp 0 red policy-denied" {
		t.Errorf("after a drop it is %s", got)
	}
	redPods := func() (red []string) {
		for _, g := range p.since(0, now).Groups {
			for _, x := range g.Pods {
				if x.Red {
					red = append(red, x.Name)
				}
			}
		}
		return red
	}
	if got := redPods(); !slices.Equal(got, []string{"cni"}) {
		t.Errorf("red pods are %v", got)
	}
	later := now.Add(redFor + time.Second)
	p.tick(later)
	if got := edgesOf(p, later)[0]; got != "cni>db icmp 0" || redPods() != nil {
		t.Errorf("later it is %s, and red pods are %v", got, redPods())
	}
	p.tick(now.Add(quietFor + quietFor))
	if u := p.since(0, later); len(u.Groups)+len(u.Edges)+len(u.Rows) > 0 || p.pods != 0 {
		t.Errorf("much later there is still %+v and %d pods", u, p.pods)
	}
}

// TestRateOfWhatTwoNodesReport: a packet that one node forwards and another delivers counts once.
func TestRateOfWhatTwoNodesReport(t *testing.T) {
	p := newPicture(nil)
	now := time.Unix(1_800_000_000, 0)
	for s := -rateSeconds; s < 0; s++ {
		for range 10 {
			r := passes("tcp", podEnd("a/a", 1), podEnd("b/b", 80))
			r.Time = now.Add(time.Duration(s) * time.Second)
			p.add(api.FlowLine{Flow: r}, now)
			sent := *r
			sent.Reason = "forwarded"
			p.add(api.FlowLine{Flow: &sent}, now)
		}
	}
	p.tick(now)
	if u := p.since(0, now); len(u.Edges) != 1 || u.Edges[0].Rate != 10 || u.Rate != 20 {
		t.Errorf("got %+v, %v records a second", u.Edges, u.Rate)
	}
}

// told is a browser's own picture.
type told struct {
	version uint64
	things  map[string]string
}

func (b *told) read(t *testing.T, u update) {
	t.Helper()
	if u.Reset {
		b.things = map[string]string{}
	}
	for _, id := range u.Gone {
		delete(b.things, id)
	}
	note := func(id string, thing any) {
		text, err := json.Marshal(thing)
		if err != nil {
			t.Fatal(err)
		}
		b.things[id] = string(text)
	}
	for _, g := range u.Groups {
		note(g.ID, g)
	}
	for _, e := range u.Edges {
		note(e.ID, e)
	}
	for _, r := range u.Rows {
		note(r.ID, r)
	}
	b.version = u.Version
}

// TestUpdatesAddUp: whoever is told of changes, often or seldom, has the picture that there is; and the picture is bounded,
// whatever comes.
func TestUpdatesAddUp(t *testing.T) {
	p := newPicture([]string{"l-worker"})
	now := time.Now()
	often, seldom := &told{}, &told{}
	for n := range 12_000 {
		from := fmt.Sprintf("a/from%d", n%(maxGroups+maxPods))
		r := passes("tcp", podEnd(from, 1), podEnd(fmt.Sprintf("a/to%d", n%17), uint16(1+n%5000)))
		if n%3 == 0 {
			dropped(r, "policy-denied")
		}
		p.add(api.FlowLine{Flow: r}, now)
		now = now.Add(10 * time.Millisecond)
		if n%500 == 0 {
			p.tick(now)
			often.read(t, p.since(often.version, now))
		}
		if n%5_500 == 0 {
			seldom.read(t, p.since(seldom.version, now))
		}
	}
	if len(p.groups.byKey) > maxGroups || len(p.edges.byKey) > maxEdges || len(p.rows.byKey) > maxRows || p.pods > maxPods || len(p.gone) > maxGone {
		t.Errorf("there are %d groups, %d edges, %d rows, %d pods, %d gone", len(p.groups.byKey), len(p.edges.byKey), len(p.rows.byKey), p.pods, len(p.gone))
	}
	if len(p.groups.byKey) < maxGroups || len(p.rows.byKey) < maxRows {
		t.Errorf("this fills nothing: %d groups, %d rows", len(p.groups.byKey), len(p.rows.byKey))
	}
	fresh := &told{}
	fresh.read(t, p.since(0, now))
	for name, b := range map[string]*told{"often": often, "seldom": seldom} {
		b.read(t, p.since(b.version, now))
		if len(b.things) != len(fresh.things) {
			t.Errorf("who is told %s has %d things, of %d", name, len(b.things), len(fresh.things))
		}
		for id, want := range fresh.things {
			if b.things[id] != want {
				t.Fatalf("who is told %s has %s as %s, want %s", name, id, b.things[id], want)
			}
		}
	}
}

func TestNodesAway(t *testing.T) {
	p := newPicture([]string{"a", "b"})
	p.heard("b", errors.New("no agent"))
	if got := p.since(0, time.Now()).Nodes; got[0].Away != "" || got[1].Away != "no agent" {
		t.Errorf("nodes are %+v", got)
	}
	p.heard("b", nil)
	if got := p.since(0, time.Now()).Nodes; got[1].Away != "" {
		t.Errorf("back again, nodes are %+v", got)
	}
}
