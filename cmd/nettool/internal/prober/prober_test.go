package prober

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"wirelab.dev/wirelab/cmd/nettool/internal/server"
	"wirelab.dev/wirelab/verify/probe"
)

// serving runs a nettool server on loopback until the test ends.
func serving(t *testing.T) netip.AddrPort {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := server.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), probe.Identity{Pod: "server"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

// closed is a port of loopback where nobody listens.
func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func runProbe(t *testing.T, request probe.Request) probe.Reply {
	t.Helper()
	request.ID = "x"
	reply := Prober{}.Run(t.Context(), request, func(probe.Reply) {})
	if reply.ID != "x" {
		t.Errorf("the reply has ID %q", reply.ID)
	}
	return reply
}

func TestHTTP(t *testing.T) {
	at := serving(t)
	reply := runProbe(t, probe.Request{HTTP: &probe.HTTP{URL: "http://" + at.String(), Count: 3, Source: netip.MustParseAddr("127.0.0.5")}})
	r := reply.HTTP
	if reply.Failure != "" || reply.Error != "" || r.OK != 3 || r.AnsweredBy["server"] != 3 || r.Identity.Client.Addr() != netip.MustParseAddr("127.0.0.5") || r.P50 <= 0 || r.Max < r.P99 {
		t.Errorf("%+v %+v", reply, r)
	}
}

func TestUDPFromAnAddress(t *testing.T) {
	at := serving(t)
	reply := runProbe(t, probe.Request{UDP: &probe.UDP{Address: at, Source: netip.MustParseAddr("127.0.0.5")}})
	if r := reply.UDP; r == nil || r.Identity == nil || r.Identity.Client.Addr() != netip.MustParseAddr("127.0.0.5") {
		t.Errorf("%+v %+v", reply, r)
	}
}

func TestHTTPAtARate(t *testing.T) {
	at := serving(t)
	start := time.Now()
	reply := runProbe(t, probe.Request{Timeout: probe.Duration(10 * time.Second), HTTP: &probe.HTTP{URL: "http://" + at.String(), Count: 50, Rate: 250}})
	if reply.Failure != "" || reply.HTTP.Sent != 50 || reply.HTTP.OK != 50 {
		t.Errorf("%+v %+v", reply, reply.HTTP)
	}
	// The last of 50 starts after 49 intervals of 4 ms.
	if took := time.Since(start); took < 196*time.Millisecond {
		t.Errorf("50 requests at 250 a second took %s", took)
	}
}

// TestHTTPRunsOutOfTime: a request that has as long as the whole probe fails by the probe's time.
func TestHTTPRunsOutOfTime(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	reply := runProbe(t, probe.Request{Timeout: probe.Duration(200 * time.Millisecond), HTTP: &probe.HTTP{URL: silent.URL}})
	if !strings.Contains(reply.Failure, "no answer within 200ms") {
		t.Errorf("%+v %+v", reply, reply.HTTP)
	}
}

// TestHTTPIsEnded: who asks ends it while a request is under way, which still gets its answer.
func TestHTTPIsEnded(t *testing.T) {
	var end context.CancelFunc
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		end()
		time.Sleep(100 * time.Millisecond)
		fmt.Fprint(w, `{"client":"127.0.0.1:1"}`)
	}))
	defer slow.Close()
	for name, spec := range map[string]probe.HTTP{
		"one after another": {URL: slow.URL, Count: 1000},
		"at a rate":         {URL: slow.URL, Count: 1000, Rate: 1000, Connections: 2},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		end = cancel
		reply := Prober{}.Run(ctx, probe.Request{Timeout: probe.Duration(time.Minute), HTTP: &spec}, func(probe.Reply) {})
		if r := reply.HTTP; reply.Failure != "" || reply.Error != "" || r.Sent == 0 || r.Sent == 1000 || r.OK != r.Sent || r.Lost != 0 {
			t.Errorf("%s: %+v %+v", name, reply, r)
		}
		cancel()
	}
}

// TestLastingConnections: requests take turns on connections, and one that its server closes is lost, with its request or without.
func TestLastingConnections(t *testing.T) {
	at := serving(t)
	spec := probe.HTTP{URL: "http://" + at.String(), Count: 30, Rate: 1000, Connections: 3}
	if reply := runProbe(t, probe.Request{HTTP: &spec}); reply.Failure != "" || reply.HTTP.OK != 30 || reply.HTTP.Lost != 0 {
		t.Errorf("with a server that keeps them: %+v %+v", reply, reply.HTTP)
	}
	var mu sync.Mutex
	opened, answered := 0, 0
	closing := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch answered++; answered {
		case 10:
			w.Header().Set("Connection", "close")
		case 20:
			panic(http.ErrAbortHandler) // which closes the connection
		}
		fmt.Fprint(w, `{"client":"127.0.0.1:1"}`)
	}))
	closing.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			mu.Lock()
			defer mu.Unlock()
			opened++
		}
	}
	closing.Start()
	defer closing.Close()
	spec.URL = closing.URL
	reply := runProbe(t, probe.Request{HTTP: &spec})
	if reply.HTTP.OK != 29 || reply.HTTP.Lost != 2 || opened != 5 || !strings.Contains(reply.Failure, "29 of 30 requests were answered") {
		t.Errorf("with a server that closes two, %d were opened: %+v %+v", opened, reply, reply.HTTP)
	}
}

func TestHTTPFailures(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"hello":1}`) }))
	defer other.Close()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	for name, test := range map[string]struct {
		spec probe.HTTP
		want string
	}{
		"closed":              {probe.HTTP{URL: "http://" + closed(t).String()}, "no connection: "},
		"refused":             {probe.HTTP{URL: "http://" + closed(t).String()}, "connection refused"},
		"mute":                {probe.HTTP{URL: silent.URL}, "connected from 127.0.0.1:"},
		"somebody else":       {probe.HTTP{URL: other.URL}, "not from nettool"},
		"not found":           {probe.HTTP{URL: missing.URL}, "404"},
		"silent":              {probe.HTTP{URL: silent.URL, RequestTimeout: probe.Duration(50 * time.Millisecond)}, "deadline exceeded"},
		"all of several":      {probe.HTTP{URL: missing.URL, Count: 30}, "0 of 30 requests were answered"},
		"no such source":      {probe.HTTP{URL: missing.URL, Source: netip.MustParseAddr("192.0.2.1")}, "assign requested address"},
		"more than there was": {probe.HTTP{URL: silent.URL, Count: 5, RequestTimeout: probe.Duration(200 * time.Millisecond)}, "0 of 5"},
	} {
		t.Run(name, func(t *testing.T) {
			reply := runProbe(t, probe.Request{Timeout: probe.Duration(500 * time.Millisecond), HTTP: &test.spec})
			if reply.Error != "" || !strings.Contains(reply.Failure, test.want) {
				t.Errorf("error %q, failure %q, want %q", reply.Error, reply.Failure, test.want)
			}
			if len(reply.HTTP.Failures) > probe.MaxFailures {
				t.Errorf("%d failures are listed", len(reply.HTTP.Failures))
			}
		})
	}
}

func TestTCP(t *testing.T) {
	at := serving(t)
	reply := runProbe(t, probe.Request{TCP: &probe.TCP{Address: at, Bytes: 3 << 20}})
	if reply.Failure != "" || reply.Error != "" || reply.TCP.Up != 3<<20 || reply.TCP.Down != 3<<20 || reply.TCP.Identity.Client != reply.TCP.Local {
		t.Errorf("%+v %+v", reply, reply.TCP)
	}
	if reply := runProbe(t, probe.Request{TCP: &probe.TCP{Address: closed(t), Bytes: 1}}); !strings.Contains(reply.Failure, "connection refused") {
		t.Errorf("%+v", reply)
	}
}

// A path that changes a byte, or loses some, must not pass for a right one.
func TestTCPNoticesChangedBytes(t *testing.T) {
	id, err := json.Marshal(probe.Identity{Pod: "p", Received: 4, SHA256: "0"})
	if err != nil {
		t.Fatal(err)
	}
	changed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set(server.IdentityHeader, string(id))
	}))
	defer changed.Close()
	reply := runProbe(t, probe.Request{TCP: &probe.TCP{Address: netip.MustParseAddrPort(strings.TrimPrefix(changed.URL, "http://")), Bytes: 4}})
	if !strings.Contains(reply.Failure, "arrived with checksum 0") {
		t.Errorf("%+v", reply)
	}
}

func TestUDP(t *testing.T) {
	at := serving(t)
	reply := runProbe(t, probe.Request{UDP: &probe.UDP{Address: at, Size: 1400, DF: true, Count: 2}})
	r := reply.UDP
	if reply.Failure != "" || reply.Error != "" || r.Received != 2 || r.Size != 1400 || r.Identity.Client != r.Local {
		t.Errorf("%+v %+v", reply, r)
	}
	if reply := runProbe(t, probe.Request{UDP: &probe.UDP{Address: closed(t)}}); !strings.Contains(reply.Failure, "not answered") {
		t.Errorf("%+v", reply)
	}
}

func TestUDPTellsSilenceFromSomebodyElse(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if n > probe.MinUDP {
				_, _ = conn.WriteTo([]byte("hello"), from)
			}
		}
	}()
	at := netip.MustParseAddrPort(conn.LocalAddr().String())
	if reply := runProbe(t, probe.Request{UDP: &probe.UDP{Address: at, Size: 1500}}); !strings.Contains(reply.Failure, "not from nettool") {
		t.Errorf("%+v", reply)
	}
	reply := runProbe(t, probe.Request{Timeout: probe.Duration(100 * time.Millisecond), UDP: &probe.UDP{Address: at}})
	if !strings.Contains(reply.Failure, "no answer within 100ms") || reply.UDP.Sent != 1 || reply.UDP.Received != 0 {
		t.Errorf("%+v %+v", reply, reply.UDP)
	}
}

func TestDNS(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if r.Question[0].Name != "demo.default.svc." {
			m.SetRcode(r, dns.RcodeNameError)
		} else {
			for _, a := range []string{"10.0.0.9", "10.0.0.10"} {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(a)})
			}
		}
		_ = w.WriteMsg(m)
	})
	s := &dns.Server{PacketConn: conn, Handler: handler}
	go func() { _ = s.ActivateAndServe() }()
	defer s.Shutdown()
	at := netip.MustParseAddrPort(conn.LocalAddr().String())
	reply := runProbe(t, probe.Request{DNS: &probe.DNS{Server: at, Name: "demo.default.svc"}})
	if reply.Failure != "" || reply.DNS.RCode != "NOERROR" || fmt.Sprint(reply.DNS.Addresses) != "[10.0.0.9 10.0.0.10]" {
		t.Errorf("%+v %+v", reply, reply.DNS)
	}
	if reply := runProbe(t, probe.Request{DNS: &probe.DNS{Server: at, Name: "other"}}); !strings.Contains(reply.Failure, "NXDOMAIN") {
		t.Errorf("%+v", reply)
	}
	if reply := runProbe(t, probe.Request{DNS: &probe.DNS{Server: closed(t), Name: "other", TCP: true}}); !strings.Contains(reply.Failure, "connection refused") {
		t.Errorf("%+v", reply)
	}
}

func TestExec(t *testing.T) {
	reply := runProbe(t, probe.Request{Exec: &probe.Exec{Argv: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}}})
	if reply.Error != "" || reply.Exec.Stdout != "out\n" || reply.Exec.Stderr != "err\n" || reply.Exec.Code != 3 {
		t.Errorf("%+v %+v", reply, reply.Exec)
	}
	if reply := runProbe(t, probe.Request{Exec: &probe.Exec{Argv: []string{"no-such-command"}}}); !strings.Contains(reply.Error, "not found") {
		t.Errorf("%+v", reply)
	}
	// Slowness of a command is no finding about a network.
	reply = runProbe(t, probe.Request{Timeout: probe.Duration(50 * time.Millisecond), Exec: &probe.Exec{Argv: []string{"sleep", "60"}}})
	if reply.Failure != "" || !strings.Contains(reply.Error, "no answer within 50ms") {
		t.Errorf("%+v", reply)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	for want, request := range map[string]probe.Request{
		"asks for no probe":    {},
		"asks for several":     {DNS: &probe.DNS{}, Exec: &probe.Exec{}},
		"for a batch only":     {Cancel: "1"},
		"exec needs a command": {Exec: &probe.Exec{}},
		"find device":          {Capture: &probe.Capture{Interface: "nosuchdevice"}},
		"is udp or icmp":       {Send: &probe.Send{Protocol: "sctp", Source: netip.MustParseAddr("127.0.0.1"), Destination: netip.MustParseAddr("127.0.0.1")}},
		"must be IPv4":         {Send: &probe.Send{Protocol: "udp", Source: netip.IPv6Loopback(), Destination: netip.IPv6Loopback()}},
		"nobody's address":     {Send: &probe.Send{Protocol: "udp"}},
		"does not fit":         {ICMP: &probe.ICMP{Address: netip.MustParseAddr("127.0.0.1"), Size: 4, Marker: "longer"}},
	} {
		reply := Prober{}.Run(t.Context(), request, func(probe.Reply) {})
		if reply.Failure != "" || !strings.Contains(reply.Error, want) {
			// Without root a raw socket may be refused before its request is read.
			if !strings.Contains(reply.Error, "CAP_NET_RAW") {
				t.Errorf("error %q, failure %q, want %q", reply.Error, reply.Failure, want)
			}
		}
	}
}

func TestBatch(t *testing.T) {
	at := serving(t)
	input := fmt.Sprintf(`{"id":"a","udp":{"address":%q}}
{"id":"b","http":{"url":"http://%s"}} {"id":"c","exec":{"argv":["echo","hi"]}}
{"id":"d","cancel":"nobody"}`, at, at)
	var output bytes.Buffer
	if err := (Prober{}).Batch(t.Context(), strings.NewReader(input), &output); err != nil {
		t.Fatal(err)
	}
	got := map[string]probe.Reply{}
	for line := range strings.Lines(output.String()) {
		var reply probe.Reply
		if err := json.Unmarshal([]byte(line), &reply); err != nil {
			t.Fatal(err)
		}
		got[reply.ID] = reply
	}
	if len(got) != 3 || got["a"].UDP == nil || got["b"].HTTP == nil || got["c"].Exec == nil {
		t.Errorf("replies: %s", output.String())
	}
	if err := (Prober{}).Batch(t.Context(), strings.NewReader(`{"id":1}`), io.Discard); err == nil || !strings.Contains(err.Error(), "read a request") {
		t.Errorf("error %v", err)
	}
}

// A server must not outlive who asked for it: it stops when input ends, and at
// a cancel.
func TestBatchServes(t *testing.T) {
	for _, end := range []string{`{"cancel":"s"}`, ""} {
		in, feed := io.Pipe()
		out, sink := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- Prober{Identity: probe.Identity{Pod: "me"}}.Batch(t.Context(), in, sink)
		}()
		replies := json.NewDecoder(out)
		next := func() (reply probe.Reply) {
			if err := replies.Decode(&reply); err != nil {
				t.Fatal(err)
			}
			return reply
		}
		if _, err := io.WriteString(feed, `{"id":"s","timeout":"1m","serve":{"address":"127.0.0.1:0"}}`+"\n"); err != nil {
			t.Fatal(err)
		}
		ready := next()
		if !ready.Ready {
			t.Fatalf("%+v", ready)
		}
		reply := runProbe(t, probe.Request{HTTP: &probe.HTTP{URL: "http://" + ready.Serve.Address.String()}})
		if reply.Failure != "" || reply.HTTP.Identity.Pod != "me" {
			t.Errorf("%+v", reply)
		}
		if end != "" {
			if _, err := io.WriteString(feed, end+"\n"); err != nil {
				t.Fatal(err)
			}
		} else if err := feed.Close(); err != nil {
			t.Fatal(err)
		}
		if last := next(); last.Ready || last.ID != "s" || last.Error != "" || last.Failure != "" {
			t.Errorf("%+v", last)
		}
		if err := feed.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := net.Dial("tcp", ready.Serve.Address.String()); err == nil {
			t.Error("the server is still there")
		}
	}
}

// TestFirstFailureIsToldByWhenItWasSent: how long was waited for the answer is in the failure's own words, and no other
// time contradicts it.
func TestFirstFailureIsToldByWhenItWasSent(t *testing.T) {
	start := time.Now()
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{
		{9568 * time.Nanosecond, "0 of 2 requests were answered; the first that failed, sent at 0s: no answer within 3s"},
		{1234567 * time.Microsecond, "0 of 2 requests were answered; the first that failed, sent at 1.235s: no answer within 3s"},
	} {
		sum := &tally{start: start}
		sum.add(start.Add(tt.after), 0, nil, errors.New("no answer within 3s"))
		if _, err := sum.total(2); err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// TestNoTargetIsAnError: the network has done nothing wrong where nobody was asked.
func TestNoTargetIsAnError(t *testing.T) {
	for name, request := range map[string]probe.Request{
		"icmp.address": {ICMP: &probe.ICMP{}}, "tcp.address": {TCP: &probe.TCP{}}, "udp.address": {UDP: &probe.UDP{}},
		"http.url": {HTTP: &probe.HTTP{URL: "http://" + netip.AddrPort{}.String() + "/"}}, "dns.server": {DNS: &probe.DNS{Name: "x"}},
	} {
		request.Timeout = probe.Duration(300 * time.Millisecond)
		reply := (Prober{}).Run(t.Context(), request, func(probe.Reply) {})
		if reply.Failure != "" || !strings.Contains(reply.Error, name) {
			t.Errorf("%s: error %q, failure %q", name, reply.Error, reply.Failure)
		}
	}
}

func TestKnock(t *testing.T) {
	at := serving(t)
	knock := func(protocol string, to netip.AddrPort) probe.Reply {
		return runProbe(t, probe.Request{Timeout: probe.Duration(5 * time.Second), Knock: &probe.Knock{Protocol: protocol, Address: to, Marker: strings.Repeat("x", probe.MinUDP)}})
	}
	for _, protocol := range []string{"tcp", "udp"} {
		if r := knock(protocol, at); r.Failure != "" || r.Error != "" || !r.Knock.Local.IsValid() {
			t.Errorf("%s: %+v", protocol, r)
		}
		if r := knock(protocol, closed(t)); !strings.Contains(r.Failure, "connection refused") {
			t.Errorf("%s to a closed port: %+v", protocol, r)
		}
	}
	for _, protocol := range []string{"tcp", "udp"} { // from a port that somebody has
		r := runProbe(t, probe.Request{Timeout: probe.Duration(5 * time.Second), Knock: &probe.Knock{Protocol: protocol, Address: closed(t), From: at.Port(), Marker: "x"}})
		if want := fmt.Sprintf("%v: %d", probe.ErrPortTaken, at.Port()); r.Error != want || r.Failure != "" {
			t.Errorf("%s from a port that is taken: %q, %q, want the error %q", protocol, r.Error, r.Failure, want)
		}
	}
	if r := knock("sctp", at); !strings.Contains(r.Error, `knock.protocol is "sctp"`) {
		t.Errorf("%+v", r)
	}
}
