// Package ui serves a page that shows who talks with whom in a lab: a map of workloads and a table, kept up to date while it is
// open. It puts flow records together itself, so that a browser is told of a few hundred things and not of each packet.
package ui

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

//go:embed page/*.html page/*.css page/*.js page/*.svg page/vendor
var files embed.FS

const (
	// maxBrowsers bounds how many pages are kept up to date at a time.
	maxBrowsers = 8
	// apart is how long after one update the next is sent. What happens in between is sent at once.
	apart = 500 * time.Millisecond
	// patience is how long a browser may take to read an update.
	patience = 10 * time.Second
)

// Service is the name of one.
type Service struct{ Namespace, Name string }

// Lab is what the page shows.
type Lab struct {
	Name  string
	Nodes []string
	// Flows hands flow records to each as they come, until ctx ends, and tells heard of every node when it begins to
	// tell, with nil, and why when it stops to.
	Flows func(ctx context.Context, each func(api.FlowLine) error, heard func(node string, err error)) error
	// Services says which Service has which address.
	Services func(ctx context.Context) (map[netip.Addr]Service, error)
	// Explain sends one packet from a pod or a node, as lab explain does, and returns the drawing of its way as SVG.
	Explain func(ctx context.Context, from, to, protocol string) ([]byte, error)
	// Datapaths reads back how the nodes carry packets now.
	Datapaths func(ctx context.Context) ([]NodeDatapath, error)
}

// Server serves the page of one lab.
type Server struct {
	lab      Lab
	listener net.Listener
	token    string
	hosts    []string // what a browser of this machine may call this server
	patience time.Duration
	picture  *picture

	explaining sync.Mutex    // while a packet is on its way
	browsers   chan struct{} // has an item for each page that is kept up to date

	mu      sync.Mutex
	changed chan struct{} // closed at the next update
}

// New makes the server of a lab, which serves at a listener on a loopback address.
func New(listener net.Listener, lab Lab) *Server {
	at := listener.Addr().String()
	_, port, _ := net.SplitHostPort(at)
	return &Server{
		lab: lab, listener: listener, token: rand.Text(), hosts: []string{at, net.JoinHostPort("localhost", port)},
		patience: patience, picture: newPicture(lab.Nodes),
		browsers: make(chan struct{}, maxBrowsers), changed: make(chan struct{}),
	}
}

// URL is where the page is. Who knows it sees the lab's flows.
func (s *Server) URL() string { return fmt.Sprintf("http://%s/%s/", s.listener.Addr(), s.token) }

// Serve serves until ctx ends, which is no error, or there are no more flows. It closes the listener.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	parts.Go(func() {
		err := s.lab.Flows(ctx, func(line api.FlowLine) error {
			s.picture.add(line, time.Now())
			return nil
		}, s.picture.heard)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("there are no more flows to show")
			}
			cancel(err)
		}
	})
	parts.Go(func() { s.keepUpToDate(ctx) })
	parts.Go(func() { s.keepServices(ctx) })
	srv := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	err := srv.Serve(s.listener)
	if stop() { // nobody asked for an end
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// keepServices asks which Services there are, again and again. What was known stays while nobody answers.
func (s *Server) keepServices(ctx context.Context) {
	const every = 10 * time.Second
	for {
		if services, err := s.lab.Services(ctx); err == nil {
			s.picture.knowServices(services)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

func (s *Server) keepUpToDate(ctx context.Context) {
	tick := time.NewTicker(apart)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.picture.tick(now)
			s.mu.Lock()
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
		}
	}
}

// handler answers who knows the token, as long as the request is for this server by a name of this machine: a page from
// elsewhere that has its own name lead here is refused by its Host, one that asks across by its Origin.
func (s *Server) handler() http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // it is embedded
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /updates", s.updates)
	mux.HandleFunc("POST /passport", s.passport)
	mux.HandleFunc("GET /datapath", s.datapaths)
	mux.Handle("GET /", http.FileServerFS(page))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		given, rest, inside := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case !slices.Contains(s.hosts, r.Host):
			http.Error(w, "this server is asked as "+s.hosts[0]+" or "+s.hosts[1]+" only", http.StatusMisdirectedRequest)
		case !s.sameOrigin(r):
			http.Error(w, "pages of other origins may not ask this server", http.StatusForbidden)
		case subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) != 1:
			http.Error(w, "open the whole URL that lab ui has printed: it has a token in it", http.StatusForbidden)
		case !inside: // the page asks for what is beside it
			http.Redirect(w, r, "/"+s.token+"/", http.StatusFound)
		default:
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = "/"+rest, ""
			mux.ServeHTTP(w, r)
		}
	})
}

func (s *Server) sameOrigin(r *http.Request) bool {
	other := func(origin string) bool { return origin != "http://"+r.Host }
	return !slices.ContainsFunc(r.Header.Values("Origin"), other)
}

// updates tells a browser what changes, as server-sent events, until it goes, or does not read for too long. What happens while
// it reads is put together, and nothing is held for it.
func (s *Server) updates(w http.ResponseWriter, r *http.Request) {
	select {
	case s.browsers <- struct{}{}:
		defer func() { <-s.browsers }()
	default:
		http.Error(w, fmt.Sprintf("%d pages are open already: close one", maxBrowsers), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	var version uint64
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		u := s.picture.since(version, time.Now())
		u.Lab = s.lab.Name
		body, err := json.Marshal(u)
		if err != nil {
			return // of types that have a form
		}
		if err := out.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", body); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		version = u.Version
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
