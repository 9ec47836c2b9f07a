package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/cmd/nettool/internal/pattern"
	"wirelab.dev/wirelab/verify/probe"
)

// start serves on a free port of addr until the test ends.
func start(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Listen(ctx, netip.AddrPortFrom(netip.MustParseAddr(addr), 0), probe.Identity{Pod: "demo-1", Namespace: "default", Node: "worker", PodIP: "10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s.Addr()
}

func get(t *testing.T, url, accept string) (string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %s, error %v", response.Status, err)
	}
	return string(body), response.Header
}

func TestHTTPSaysWhoAnsweredAndWhoAsked(t *testing.T) {
	at := start(t, "127.0.0.1")
	url := fmt.Sprintf("http://%s/", at)
	for _, test := range []struct{ url, accept string }{{url, "application/json"}, {url + "?format=json", ""}} {
		body, header := get(t, test.url, test.accept)
		var id probe.Identity
		if err := json.Unmarshal([]byte(body), &id); err != nil {
			t.Fatal(err)
		}
		if id.Pod != "demo-1" || id.Node != "worker" || id.Client.Addr() != netip.MustParseAddr("127.0.0.1") || id.Host != at.String() || id.Protocol != "http" {
			t.Errorf("%+v: %+v", test, id)
		}
		if time.Since(id.Time) > time.Minute || header.Get("Content-Type") != "application/json" {
			t.Errorf("time %s, type %s", id.Time, header.Get("Content-Type"))
		}
	}
	text, _ := get(t, url, "*/*")
	for _, want := range []string{"pod        demo-1\n", "node       worker\n", "client     127.0.0.1:"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
}

func TestUDPAnswersInTheSizeOfTheRequest(t *testing.T) {
	at := start(t, "127.0.0.1")
	conn, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 1400} {
		sent := []byte(strings.Repeat("x", size))
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 1<<16)
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		var id probe.Identity
		if err := json.Unmarshal(buffer[:n], &id); err != nil {
			t.Fatal(err)
		}
		if id.Received != size || id.SHA256 != pattern.SumOf(sent) || id.Client.String() != conn.LocalAddr().String() || id.Protocol != "udp" {
			t.Errorf("%d bytes: %+v", size, id)
		}
		if n < size {
			t.Errorf("%d bytes were answered with %d", size, n)
		}
	}
}

// A host with two addresses must answer from the one it was asked at: a client
// drops what comes from another. 127.0.0.2 is such a second address of lo.
func TestUDPAnswersFromTheAddressThatWasAsked(t *testing.T) {
	at := start(t, "0.0.0.0")
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: int(at.Port())})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("who")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1<<16)); err != nil {
		t.Errorf("no answer from 127.0.0.2: %v", err)
	}
}

func TestTransferSumsAndSendsBack(t *testing.T) {
	at := start(t, "127.0.0.1")
	const n = 100_000
	response, err := http.Post("http://"+at.String()+TransferPath, "", pattern.Reader(n))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var id probe.Identity
	if err := json.Unmarshal([]byte(response.Header.Get(IdentityHeader)), &id); err != nil {
		t.Fatal(err)
	}
	_, want, err := pattern.Sum(pattern.Reader(n))
	if err != nil {
		t.Fatal(err)
	}
	down, got, err := pattern.Sum(response.Body)
	if err != nil || down != n || got != want || id.Received != n || id.SHA256 != want {
		t.Errorf("%d bytes back with sum %.8s, %d up with %.8s, want %d with %.8s; error %v", down, got, id.Received, id.SHA256, n, want, err)
	}
}

func TestShutdownLetsOpenRequestsEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), probe.Identity{Pod: "p"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	body, feed := io.Pipe()
	answered := make(chan error, 1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Addr().String()+TransferPath, body)
	if err != nil {
		t.Fatal(err)
	}
	// The body is sent when the server has asked for it, and so is at work.
	request.Header.Set("Expect", "100-continue")
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	go func() {
		response, err := client.Do(request)
		if err == nil {
			_, _, err = pattern.Sum(response.Body)
			response.Body.Close()
		}
		answered <- err
	}()
	if _, err := feed.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the open request ended with %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("the port still takes connections")
	}
}

func TestListenSaysWhatIsTaken(t *testing.T) {
	at := start(t, "127.0.0.1")
	if _, err := Listen(t.Context(), at, probe.Identity{}); err == nil || !strings.Contains(err.Error(), "listen for HTTP") {
		t.Errorf("error %v", err)
	}
}
