package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/docker/dockertest"
)

func connect(t *testing.T) *Engine {
	t.Helper()
	e, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestConnectNegotiatesAnOldEngine(t *testing.T) {
	dockertest.Serve(t, http.NotFound)
	if v := connect(t).APIVersion(); v != "1.41" {
		t.Errorf("API version %s, want the engine's 1.41", v)
	}
}

func TestConnectNothingThere(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	_, err := Connect(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "none.sock") {
		t.Errorf("error = %v, want ErrNotRunning that names the socket", err)
	}
}

func TestConnectDeadSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	if _, err := Connect(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("error = %v, want ErrNotRunning", err)
	}
}

func TestConnectRefused(t *testing.T) {
	if err := explainConnect("unix:///var/run/docker.sock", &net.OpError{Op: "dial", Err: os.ErrPermission}); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "group") {
		t.Errorf("error = %v, want ErrDenied with the way out", err)
	}
}

func TestConnectInterrupted(t *testing.T) {
	dockertest.Serve(t, http.NotFound)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
}

func TestEngineHost(t *testing.T) {
	dir := t.TempDir()
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "config.json"), `{"currentContext":"mine"}`)
	write(contextFile(dir, "mine"), `{"Name":"mine","Endpoints":{"docker":{"Host":"unix:///run/user/1/docker.sock"}}}`)
	write(contextFile(dir, "far"), `{"Name":"far","Endpoints":{"docker":{"Host":"ssh://there"}}}`)
	write(contextFile(dir, "empty"), `{"Name":"empty","Endpoints":{}}`)
	tests := map[string]struct {
		env  map[string]string
		want string
		err  string
	}{
		"DOCKER_HOST first":  {map[string]string{"DOCKER_HOST": "tcp://x:1", "DOCKER_CONFIG": dir}, "tcp://x:1", ""},
		"current context":    {map[string]string{"DOCKER_CONFIG": dir}, "unix:///run/user/1/docker.sock", ""},
		"context by name":    {map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "default"}, "", ""},
		"no settings at all": {map[string]string{"HOME": filepath.Join(dir, "nobody")}, "", ""},
		"over ssh":           {map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "far"}, "", "ssh"},
		"without address":    {map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "empty"}, "", "no docker address"},
		"unknown context":    {map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "gone"}, "", "DOCKER_CONTEXT"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := engineHost(func(k string) string { return tt.env[k] })
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestPull(t *testing.T) {
	short := Patience{First: 500 * time.Millisecond, Stall: 500 * time.Millisecond}
	line := func(w http.ResponseWriter, s string) {
		fmt.Fprintln(w, s)
		w.(http.Flusher).Flush()
	}
	hang := func(r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	}
	tests := map[string]struct {
		engine http.HandlerFunc
		silent bool   // want ErrNoRegistry
		err    string // or this
	}{
		"silent from the start": {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, true, ""},
		"goes silent": {func(w http.ResponseWriter, r *http.Request) {
			line(w, `{"status":"Pulling from x"}`)
			hang(r)
		}, true, ""},
		"slow but moving": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 8 { // longer in all than either patience
				line(w, fmt.Sprintf(`{"status":"Downloading","id":"a","progressDetail":{"current":%d,"total":8}}`, i+1))
				time.Sleep(100 * time.Millisecond)
			}
		}, false, ""},
		"refused in the stream": {func(w http.ResponseWriter, _ *http.Request) {
			line(w, `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}`)
		}, false, "manifest unknown"},
		"refused at once": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"message":"lookup registry: no such host"}`, http.StatusInternalServerError)
		}, false, "no such host"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dockertest.Serve(t, tt.engine)
			var done, total int64
			err := connect(t).Pull(t.Context(), "x:1", short, func(d, n int64) { done, total = d, n })
			switch {
			case tt.silent:
				if !errors.Is(err, ErrNoRegistry) {
					t.Errorf("error = %v, want ErrNoRegistry", err)
				}
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) || errors.Is(err, ErrNoRegistry) {
					t.Errorf("error = %v, want %q", err, tt.err)
				}
			case err != nil || done != 8 || total != 8:
				t.Errorf("error %v after %d of %d, want 8 of 8", err, done, total)
			}
		})
	}
}

func TestLoadImageReadsTheStream(t *testing.T) {
	dockertest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"stream":"loading"}`)
		fmt.Fprintln(w, `{"error":"no space left on device","errorDetail":{"message":"no space left on device"}}`)
	})
	err := connect(t).LoadImage(t.Context(), strings.NewReader("x"))
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error = %v, want the one inside the stream", err)
	}
}

// TestSilentEngine: an engine that answers the first question and no other ends every call in time, with one sentence.
func TestSilentEngine(t *testing.T) {
	dockertest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
	})
	e := connect(t)
	e.lookUp, e.doIt = 100*time.Millisecond, 200*time.Millisecond
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"info":          func() error { _, err := e.Info(ctx); return err },
		"containers":    func() error { _, err := e.Containers(ctx, "x"); return err },
		"start":         func() error { return e.Start(ctx, "x") },
		"has file":      func() error { _, err := e.HasFile(ctx, "x", "/x"); return err },
		"write file":    func() error { return e.WriteFile(ctx, "x", "/x", 0o644, nil) },
		"read file":     func() error { _, err := e.ReadFile(ctx, "x", "/x"); return err },
		"has image":     func() error { _, err := e.HasImage(ctx, "x"); return err },
		"images":        func() error { _, err := e.Images(ctx); return err },
		"images with":   func() error { _, err := e.ImagesWith(ctx, "x"); return err },
		"label image":   func() error { return e.LabelImage(ctx, "x", "y", nil) },
		"remove image":  func() error { return e.RemoveImage(ctx, "x") },
		"subnets":       func() error { _, err := e.Subnets(ctx, "x"); return err },
		"run":           func() error { _, err := e.Run(ctx, RunSpec{Name: "x", Image: "x", Network: "x"}); return err },
		"exec":          func() error { _, err := e.Exec(ctx, "x", nil, "true"); return err },
		"on a terminal": func() error { _, err := e.Interact(ctx, "x", Terminal{TTY: true}, "true"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			err := call()
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if !errors.Is(err, ErrSilent) || errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "within") != 1 {
				t.Errorf("error = %v, want ErrSilent, said once", err)
			}
		})
	}
}

// TestSilentEngineAttach: what answers that it has made a command and then falls silent is no better.
func TestSilentEngineAttach(t *testing.T) {
	dockertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/exec") {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"Id":"x"}`)
			return
		}
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
	})
	e := connect(t)
	e.doIt = 200 * time.Millisecond
	if _, err := e.Exec(t.Context(), "x", nil, "true"); !errors.Is(err, ErrSilent) {
		t.Errorf("error = %v, want ErrSilent", err)
	}
}
