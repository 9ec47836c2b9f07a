package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// TestUIListens: lab ui serves to this machine alone, and a port that is taken is said in a sentence.
func TestUIListens(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:8080": "listen at 0.0.0.0:8080: the page is for this machine alone", "[::]:0": "the page is for this machine alone",
		"192.0.2.1:80": "the page is for this machine alone", "8080": "want an address and a port", "localhost:0": "want an address and a port",
	} {
		if _, errOut, code := call(t, "ui", "--listen", listen); code != exitUsage || !strings.Contains(errOut, want) || strings.Count(errOut, "\n") != 1 {
			t.Errorf("--listen %s: exit status %d, %s", listen, code, errOut)
		}
	}
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := listenAt(t.Context(), netip.MustParseAddrPort(taken.Addr().String())); exitCode(err) != exitFailed || err.Error() != "listen at "+taken.Addr().String()+": bind: address already in use" {
		t.Errorf("a port that is taken: %v", err)
	}
}
