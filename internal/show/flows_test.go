package show

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"wirelab.dev/wirelab/internal/api"
)

func TestFlowTable(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 5, 123e6, time.Local)
	pod := func(name, addr string, port uint16) api.FlowEnd {
		return api.FlowEnd{Addr: netip.MustParseAddr(addr), Port: port, Namespace: "kube-system", Pod: name}
	}
	table := FlowTable{Node: len("control-plane"), Width: 100}
	lines := []string{table.Head()}
	for _, l := range []api.FlowLine{
		{Flow: &api.FlowRecord{
			Time: at, Verdict: "forwarded", Reason: "delivered", At: "from-pod", Protocol: "udp",
			Source: pod("a", "10.0.1.7", 40000), Destination: pod("coredns-7c65d6cfc9-abcde", "10.0.1.8", 53),
		}},
		{Flow: &api.FlowRecord{
			Time: at, Verdict: "dropped", Reason: "no-backend", At: "from-network", Protocol: "tcp", TCPFlags: 0x12, Reply: new(true),
			Source: api.FlowEnd{Addr: netip.MustParseAddr("192.0.2.1"), Port: 443, Name: "world"}, Destination: pod(strings.Repeat("long-", 12)+"name", "10.0.1.8", 53),
		}},
		{Flow: &api.FlowRecord{
			Time: at, Verdict: "forwarded", At: "to-pod", Protocol: "icmp", ICMPType: 8,
			Source: api.FlowEnd{Addr: netip.MustParseAddr("172.18.0.2"), Name: "host"}, Destination: pod("a", "10.0.1.7", 0),
		}},
		{Lost: &api.LostFlows{Time: at, Count: 1234, By: api.LostByReader}},
	} {
		lines = append(lines, table.Line(l, "control-plane"))
	}
	got := strings.Join(lines, "")
	want := `TIME          NODE           VERDICT    AT            FLOW
15:04:05.123  control-plane  forwarded  from-pod      udp kube-system/a:40000 >
                                                      kube-system/coredns-7c65d6cfc9-abcde:53
15:04:05.123  control-plane  dropped    from-network  tcp 192.0.2.1:443 (world) >
                                                      kube-system/long-long-long-long-long-long-long
                                                      -long-long-long-long-long-name:53 SYN,ACK
                                                      reply: no-backend
15:04:05.123  control-plane  forwarded  to-pod        icmp 172.18.0.2 (host) > kube-system/a echo
15:04:05.123  control-plane  lost                     1234 flows: they were not taken from the agent
                                                      in time
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	table.Width = 0
	whole := table.Line(api.FlowLine{Lost: &api.LostFlows{Time: at, Count: 1234, By: api.LostByReader}}, "control-plane")
	if want := "15:04:05.123  control-plane  lost                     1234 flows: they were not taken from the agent in time\n"; whole != want {
		t.Errorf("where lines are not folded, got\n%swant\n%s", whole, want)
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

// TestReplies are called so once, also echo replies.
func TestReplies(t *testing.T) {
	end := api.FlowEnd{Addr: netip.MustParseAddr("10.0.1.7")}
	for want, r := range map[string]api.FlowRecord{
		"icmp 10.0.1.7 > 10.0.1.7 echo":         {Protocol: "icmp", ICMPType: 8, Reply: new(false)},
		"icmp 10.0.1.7 > 10.0.1.7 echo reply":   {Protocol: "icmp", Reply: new(true)},
		"tcp 10.0.1.7 > 10.0.1.7 SYN,ACK reply": {Protocol: "tcp", TCPFlags: 0x12, Reply: new(true)},
		"udp 10.0.1.7 > 10.0.1.7 reply":         {Protocol: "udp", Reply: new(true)},
		"udp 10.0.1.7 > 10.0.1.7":               {Protocol: "udp"},
	} {
		r.Source, r.Destination = end, end
		if got := FlowText(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFlowsAsked(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for args, want := range map[string]api.FlowFilter{
		"":                                    {Last: 20},
		"-f --no-nodes":                       {Follow: true, NoNodes: true},
		"--since 10m":                         {Last: -1, Since: now.Add(-10 * time.Minute)},
		"--since 2026-01-02T15:00:00Z -f":     {Last: -1, Follow: true, Since: now.Add(-245 * time.Second)},
		"--last 3 -f --pod demo --protocol 6": {Last: 3, Follow: true, Pod: api.PodName{Namespace: "default", Name: "demo"}, Protocol: "tcp"},
	} {
		var asked FlowsAsked
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		asked.Flags(f)
		if err := f.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if got, err := asked.Filter(now); err != nil || got != want {
			t.Errorf("%s: %+v, %v", args, got, err)
		}
	}
	for args, want := range map[string]string{"--last 0": "shows nothing", "--since soon": "how long ago", "--since -5m": "how long ago", "--port http": "from 1 to"} {
		var asked FlowsAsked
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		asked.Flags(f)
		if err := f.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if _, err := asked.Filter(now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
