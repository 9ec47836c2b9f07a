// Package dockertest stands in for Docker engines that misbehave, which no machine has at hand.
package dockertest

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// Serve answers as an engine would on a socket of its own, which DOCKER_HOST names until the test ends. It answers pings
// itself, as an engine with the API 1.41, and leaves the rest to h.
func Serve(t testing.TB, h http.HandlerFunc) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if r.URL.Path == "/_ping" {
			fmt.Fprint(w, "OK")
			return
		}
		h(w, r)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	t.Setenv("DOCKER_HOST", "unix://"+socket)
}
