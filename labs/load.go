package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/image"
)

// ErrNoSource means that what is to be loaded can be neither the name of an image nor that of a file.
var ErrNoSource = errors.New("neither the name of an image nor a file")

// LoadOptions say what is loaded into which lab.
type LoadOptions struct {
	Lab string // empty: the only one
	// Sources are names of images that Docker has, and files with image archives.
	Sources  []string
	Progress Progress
	Say      func(string) // is told what is waited for
}

// NodeLoad is what came of an image on a node.
type NodeLoad struct {
	Image string    `json:"image"`
	Node  string    `json:"node"`
	State LoadState `json:"state"`
	// Reason is why the node does not have the image; empty when it has.
	Reason string `json:"reason,omitempty"`
}

// LoadState is how the loading into a node ended.
type LoadState string

// The states of a load.
const (
	LoadDone    LoadState = "loaded"
	LoadPresent LoadState = "present" // the node had it already
	LoadFailed  LoadState = "failed"
)

// Loaded is an image that was loaded.
type Loaded struct {
	image.Bundled
	Source string `json:"source"` // what it was asked for by
}

// LoadResult is what a load came to.
type LoadResult struct {
	Lab string `json:"lab"`
	// Images are what was loaded, by the names that pods are to be given.
	Images []Loaded   `json:"images"`
	Nodes  []NodeLoad `json:"nodes"` // in the order of the images, then of the nodes
}

// Load puts images into all nodes of a lab that run. No node is touched until every source has been read. The error wraps
// [ErrNotFound] where there is no such lab, and [ErrNoSource]; where some node does not have an image the result tells which and why.
func Load(ctx context.Context, o LoadOptions) (*LoadResult, error) {
	for _, name := range o.Sources {
		if err := checkSource(name); err != nil {
			return nil, err
		}
	}
	over := telling(o.Say, "waiting for Docker")
	e, err := docker.Connect(ctx)
	over()
	if err != nil {
		return nil, err
	}
	defer e.Close()
	cs := cluster.New(e, nil)
	c, err := findLab(ctx, cs, o.Lab)
	if err != nil {
		return nil, err
	}
	if complete, err := c.Complete(ctx); err != nil {
		return nil, err
	} else if !complete {
		return nil, halfMade(ctx, c)
	}
	l := loader{nodes: c.KubeNodes(), progress: o.Progress, put: cs.Import}
	defer l.close()
	for _, source := range o.Sources {
		if err := l.read(ctx, e, source); err != nil {
			return nil, err
		}
	}
	r := &LoadResult{Lab: c.Name}
	for _, s := range l.sources {
		r.add(s, l.load(ctx, s))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r, r.failed()
}

// add notes what came of a source on each node.
func (r *LoadResult) add(s source, came []NodeLoad) {
	for _, i := range s.bundle.Images {
		r.Images = append(r.Images, Loaded{i, s.name})
		for _, n := range came {
			n.Image = i.Ref
			r.Nodes = append(r.Nodes, n)
		}
	}
}

// failed is the error of what is not where it was to be.
func (r *LoadResult) failed() error {
	bad := slices.DeleteFunc(slices.Clone(r.Nodes), func(n NodeLoad) bool { return n.State != LoadFailed })
	if len(bad) == 0 {
		return nil
	}
	told := map[string]bool{}
	var why []string
	for _, n := range bad {
		if !told[n.Node+n.Reason] {
			told[n.Node+n.Reason] = true
			why = append(why, fmt.Sprintf("%s is not on node %s: %s", n.Image, n.Node, n.Reason))
		}
	}
	return fmt.Errorf("lab %s: %s", r.Lab, strings.Join(why, "; "))
}

// loader loads sources into nodes.
type loader struct {
	nodes    []cluster.Node
	progress Progress
	put      func(ctx context.Context, n cluster.Node, images map[string]string, open func() (io.ReadCloser, error)) (had bool, err error)
	sources  []source
}

type source struct {
	name   string
	bundle *image.Bundle
	began  time.Time
}

func (l *loader) close() {
	for _, s := range l.sources {
		_ = s.bundle.Close() // it was only read
	}
}

// read reads a source.
func (l *loader) read(ctx context.Context, e image.Keeper, name string) error {
	s := source{name: name, began: time.Now()}
	say := func(note string) { l.tell(s, StepRunning, note) }
	say("reading")
	var err error
	if s.bundle, err = bundleOf(ctx, e, name, say); err != nil {
		l.tell(s, StepFailed, "")
		return err
	}
	l.sources = append(l.sources, s)
	return nil
}

func (l *loader) tell(s source, state StepState, note string) {
	l.progress(Event{Step: s.name, State: state, Note: note, Duration: time.Since(s.began)})
}

// bundleOf finds what a name stands for: a file where it looks like one, else an image that Docker has, else a file.
func bundleOf(ctx context.Context, e image.Keeper, name string, say func(string)) (*image.Bundle, error) {
	if looksLikeFile(name) {
		return image.FromFile(ctx, name, say)
	}
	if _, bad := reference.ParseAnyReference(name); bad != nil {
		return image.FromFile(ctx, name, say)
	}
	b, err := image.FromEngine(ctx, e, name, say)
	switch {
	case !errors.Is(err, image.ErrNoImage):
		return b, err
	case isFile(name):
		return image.FromFile(ctx, name, say)
	}
	return nil, fmt.Errorf("%w; nor is there a file of that name", err)
}

// checkSource refuses what can be nothing that is to be loaded.
func checkSource(name string) error {
	if _, bad := reference.ParseAnyReference(name); bad != nil && !looksLikeFile(name) && !isFile(name) {
		return fmt.Errorf("%s is %w: %w", name, ErrNoSource, bad)
	}
	return nil
}

func isFile(name string) bool {
	about, err := os.Stat(name)
	return err == nil && about.Mode().IsRegular()
}

// looksLikeFile tells whether a name is that of a file whatever Docker has.
func looksLikeFile(name string) bool {
	starts := func(with string) bool { return strings.HasPrefix(name, with) }
	return slices.ContainsFunc([]string{"/", "./", "../"}, starts) ||
		slices.Contains([]string{".tar", ".tgz", ".gz", ".zst"}, filepath.Ext(name))
}

// load puts a source into all nodes at once, and tells what came of it, in their order.
func (l *loader) load(ctx context.Context, s source) []NodeLoad {
	images := map[string]string{}
	for _, i := range s.bundle.Images {
		images[i.Ref] = i.ID
	}
	out := make([]NodeLoad, len(l.nodes))
	var mu sync.Mutex
	done, failed := 0, 0
	note := func() string { return fmt.Sprintf("%d of %d nodes have it", done, len(l.nodes)) }
	l.tell(s, StepRunning, note())
	var all sync.WaitGroup
	for i, n := range l.nodes {
		all.Go(func() {
			one := l.one(ctx, n, images, s.bundle.Open)
			one.Node = n.Name
			out[i] = one
			mu.Lock()
			defer mu.Unlock()
			if one.State == LoadFailed {
				failed++
				return
			}
			done++
			l.tell(s, StepRunning, note())
		})
	}
	all.Wait()
	state := StepDone
	switch {
	case ctx.Err() != nil:
		state = StepCancelled
	case failed > 0:
		state = StepFailed
	}
	l.tell(s, state, note())
	return out
}

// one puts images into a node.
func (l *loader) one(ctx context.Context, n cluster.Node, images map[string]string, open func() (io.ReadCloser, error)) NodeLoad {
	if why := n.Down(); why != "" {
		return NodeLoad{State: LoadFailed, Reason: "it " + why + ": lab up starts or resumes it"}
	}
	had, err := l.put(ctx, n, images, open)
	switch {
	case err != nil:
		return NodeLoad{State: LoadFailed, Reason: err.Error()}
	case had:
		return NodeLoad{State: LoadPresent}
	}
	return NodeLoad{State: LoadDone}
}
