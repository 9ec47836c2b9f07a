package client

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/api"
)

// agent answers at a socket as h does.
func agent(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h} //nolint:gosec // of a test
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return New(socket)
}

// last is the error that a stream ends with: of events, of flows that are there, and of those that come.
func last(ctx context.Context, c *Client, stream string) (err error) {
	if stream == "events" {
		for _, err = range c.Monitor(ctx) {
		}
		return err
	}
	for _, err = range c.FlowRecords(ctx, api.FlowFilter{Last: -1, Follow: stream == "following"}) {
	}
	return err
}

// TestStreamsEnd: where the agent ends what it had not told to the end is said in the same words for all; that the caller
// wants no more is no error.
func TestStreamsEnd(t *testing.T) {
	for how, h := range map[string]http.HandlerFunc{
		"at its end":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "{}") },
		"killed":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "{}"); cut(w) },
		"within a line":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}{"upTo":`); cut(w) },
		"with other text": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}nonsense`) },
	} {
		c := agent(t, h)
		for _, stream := range []string{"events", "there", "following"} {
			want := "the agent ended the stream of " + strings.NewReplacer("there", "flows", "following", "flows").Replace(stream)
			switch {
			case how == "with other text":
				want = "read " + strings.TrimPrefix(want, "the agent ended the stream of ") + ": "
			case how == "at its end" && stream == "there":
				want = ""
			}
			err := last(t.Context(), c, stream)
			if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
				t.Errorf("%s, %s: %v, want %q", how, stream, err, want)
			}
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			if err := last(gone, c, stream); err != nil {
				t.Errorf("%s, who wants no more is told %v", stream, err)
			}
		}
	}
}

// cut breaks off an answer.
func cut(w http.ResponseWriter) {
	if err := http.NewResponseController(w).Flush(); err == nil {
		panic(http.ErrAbortHandler)
	}
}
