package ui

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

func TestRefusals(t *testing.T) {
	s, _ := serving(t)
	at := s.listener.Addr().String()
	_, port, _ := net.SplitHostPort(at)
	for _, c := range []struct {
		name, path, host, origin, method string
		status                           int
		says                             string
	}{
		{"the page", "/" + s.token + "/", at, "", "GET", 200, "<title>wirelab</title>"},
		{"by the name localhost", "/" + s.token + "/main.js", "localhost:" + port, "", "GET", 200, "EventSource"},
		{"its own origin", "/" + s.token + "/style.css", at, "http://" + at, "GET", 200, "--ground"},
		{"no token", "/", at, "", "GET", 403, "open the whole URL"},
		{"another token", "/" + strings.Repeat("A", len(s.token)) + "/", at, "", "GET", 403, "open the whole URL"},
		{"less of the token", "/" + s.token[1:] + "/updates", at, "", "GET", 403, "open the whole URL"},
		{"an asset without a token", "/main.js", at, "", "GET", 403, "open the whole URL"},
		{"another host", "/" + s.token + "/", "lab.example.com", "", "GET", 421, "is asked as " + at},
		{"another host with the port", "/" + s.token + "/updates", "lab.example.com:" + port, "", "GET", 421, "is asked as"},
		{"another port", "/" + s.token + "/", "127.0.0.1:1", "", "GET", 421, "is asked as"},
		{"another origin", "/" + s.token + "/updates", at, "http://lab.example.com", "GET", 403, "other origins"},
		{"an origin that nobody names", "/" + s.token + "/updates", at, "null", "GET", 403, "other origins"},
		{"another port's origin", "/" + s.token + "/updates", at, "http://127.0.0.1:1", "GET", 403, "other origins"},
		{"something to write", "/" + s.token + "/updates", at, "", "POST", 405, ""},
		{"a packet", "/" + s.token + "/passport?from=a/b&to=c/d&protocol=icmp", at, "http://" + at, "POST", 200, "icmp from a/b to c/d"},
		{"a packet that cannot be", "/" + s.token + "/passport?to=c/d&protocol=icmp", at, "", "POST", 422, "there is no such pod"},
		{"a packet by a link", "/" + s.token + "/passport?from=a/b&to=c/d&protocol=icmp", at, "", "GET", 404, ""},
		{"a packet of another origin", "/" + s.token + "/passport?from=a/b&to=c/d&protocol=icmp", at, "http://127.0.0.1:1", "POST", 403, "other origins"},
		{"a packet without a token", "/passport?from=a/b&to=c/d&protocol=icmp", at, "", "POST", 403, "open the whole URL"},
		{"what is not there", "/" + s.token + "/nothing", at, "", "GET", 404, ""},
		{"where it is not", "/" + s.token + "/../server.go", at, "", "GET", 403, "open the whole URL"},
		{"without the last slash", "/" + s.token, at, "", "GET", 200, "<title>wirelab</title>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+at+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("status %d, %v, want %d with %q: %.200s", answer.StatusCode, err, c.status, c.says, body)
			}
			if policy := answer.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") {
				t.Errorf("the policy is %q", policy)
			}
		})
	}
}

// open asks for updates.
func open(t *testing.T, s *Server) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL()+"updates", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func TestUpdates(t *testing.T) {
	s, f := serving(t, "l-worker")
	answer := open(t, s)
	in := bufio.NewReader(answer.Body)
	next := func() (u update) {
		t.Helper()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				if err := json.Unmarshal([]byte(data), &u); err != nil {
					t.Fatal(err)
				}
				return u
			}
		}
	}
	if u := next(); !u.Reset || u.Lab != "l" || len(u.Nodes) != 1 {
		t.Errorf("the first is %+v", u)
	}
	f.tell(passes("tcp", podEnd("a/a", 1), podEnd("b/b", 80)))
	for late := time.Now().Add(2 * time.Second); ; {
		if u := next(); len(u.Edges) == 1 && u.Edges[0].Port == 80 && len(u.Groups) == 2 && len(u.Rows) == 1 {
			break
		}
		if time.Now().After(late) {
			t.Fatal("it is not told within two seconds")
		}
	}
}

func TestPagesAreBounded(t *testing.T) {
	s, _ := serving(t)
	for range maxBrowsers {
		if answer := open(t, s); answer.StatusCode != 200 {
			t.Fatalf("status %d", answer.StatusCode)
		}
	}
	if answer := open(t, s); answer.StatusCode != 503 {
		t.Errorf("one too many has status %d", answer.StatusCode)
	}
}

// TestBrowserThatDoesNotRead is cut off, and another one is told as before.
func TestBrowserThatDoesNotRead(t *testing.T) {
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFake()
	s := New(listener, Lab{Name: "l", Flows: f.flows, Services: f.services, Explain: f.explain})
	s.patience = 200 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	defer func() { cancel(); <-ended }()

	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /%s/updates HTTP/1.1\r\nHost: %s\r\n\r\n", s.token, listener.Addr())
	browsers := func() int { return len(s.browsers) }
	wait := func(what string, want int) {
		t.Helper()
		for late := time.Now().Add(30 * time.Second); browsers() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%s: there are %d browsers", what, browsers())
			}
		}
	}
	wait("it is there", 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // more than the sockets' buffers take
		for n := 0; ; n++ {
			name := fmt.Sprintf("a/%s%d", strings.Repeat("x", 200), n%maxGroups)
			line := api.FlowLine{Flow: passes("tcp", podEnd(name, 1), podEnd("b/b", uint16(1+n%1000)))}
			select {
			case f.lines <- line:
			case <-stop:
				return
			}
		}
	}()
	wait("it reads nothing", 0)
	if answer := open(t, s); answer.StatusCode != 200 {
		t.Errorf("the next has status %d", answer.StatusCode)
	} else if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: {") {
		t.Errorf("the next is told %.100q, %v", line, err)
	}
}

// TestNoFlows: who cannot be told of any flow hears why.
func TestNoFlows(t *testing.T) {
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("no node answers")
	s := New(listener, Lab{Name: "l", Flows: func(context.Context, func(api.FlowLine) error, func(string, error)) error { return why }, Services: newFake().services})
	if err := s.Serve(t.Context()); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// TestOnePacketAtATime: pages make no load together.
func TestOnePacketAtATime(t *testing.T) {
	s, f := serving(t)
	f.arrive = make(chan struct{})
	send := func() (int, string) {
		answer, err := http.Post(s.URL()+"passport?from=a/b&to=c/d&protocol=tcp", "", nil) //nolint:noctx // ends with the server
		if err != nil {
			return 0, err.Error()
		}
		defer answer.Body.Close()
		said, err := io.ReadAll(answer.Body)
		return answer.StatusCode, fmt.Sprint(string(said), err)
	}
	first := make(chan int, 1)
	go func() {
		code, _ := send()
		first <- code
	}()
	for s.explaining.TryLock() { // until the first is on its way
		s.explaining.Unlock()
		time.Sleep(time.Millisecond)
	}
	if code, said := send(); code != http.StatusTooManyRequests || !strings.Contains(said, "another packet is on its way") {
		t.Errorf("a second one: %d %s", code, said)
	}
	close(f.arrive)
	if code := <-first; code != http.StatusOK {
		t.Errorf("the first one: %d", code)
	}
	if code, said := send(); code != http.StatusOK {
		t.Errorf("one after it: %d %s", code, said)
	}
}
