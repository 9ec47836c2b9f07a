package labs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"wirelab.dev/wirelab/internal/cluster"
)

// archiveOf is an image archive that docker save would write.
func archiveOf(t *testing.T, ref string) []byte {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Cmd: []string{ref}}})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, img, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shelf stands in for Docker: archives by their names.
type shelf map[string][]byte

func (s shelf) ImageID(_ context.Context, ref string) (string, error) {
	if s[ref] == nil {
		return "", nil
	}
	return "sha256:" + ref, nil
}

func (s shelf) SaveImage(_ context.Context, ref string, to io.Writer) error {
	_, err := to.Write(s[ref])
	return err
}
func (shelf) TagImage(context.Context, string, string) error { panic("tags an image") }
func (shelf) LoadImage(context.Context, io.Reader) error     { panic("loads an image") }

// TestLoadSources: a file where the name looks like one, else what Docker has, else a file.
func TestLoadSources(t *testing.T) {
	t.Chdir(t.TempDir())
	for file, ref := range map[string]string{"app": "of-file:1", "other": "of-other:1", "app.tar": "of-tar:1"} {
		if err := os.WriteFile(file, archiveOf(t, ref), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	docker := shelf{"app": archiveOf(t, "of-docker:1"), "app.tar": archiveOf(t, "of-docker:1")}
	whole, err := filepath.Abs("app")
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		"app": "of-docker:1", "./app": "of-file:1", whole: "of-file:1", "app.tar": "of-tar:1", "other": "of-other:1",
	} {
		b, err := bundleOf(t.Context(), docker, source, func(string) {})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if b.Images[0].Ref != want || b.Close() != nil {
			t.Errorf("%s is taken for %s, want %s", source, b.Images[0].Ref, want)
		}
	}
	for source, say := range map[string]string{
		"none:1":     "docker has no such image: none:1: docker pull it, or build it with docker build -t none:1; nor is there a file of that name",
		"./none":     "./none: no such file",
		"none.tar":   "none.tar: no such file",
		"App:1":      "App:1 is neither the name of an image nor a file",
		"--name=x y": "neither the name of an image nor a file",
	} {
		err := checkSource(source)
		if err == nil {
			_, err = bundleOf(t.Context(), docker, source, func(string) {})
		}
		if err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", source, err, say)
		}
	}
}

// TestLoadIntoNodes: every node that runs gets what there is, whatever becomes of the others.
func TestLoadIntoNodes(t *testing.T) {
	var mu sync.Mutex
	got := map[string]map[string]string{}
	var events []Event
	l := loader{
		nodes: []cluster.Node{{Name: "a", Running: true}, {Name: "b", Paused: true}, {Name: "c"}, {Name: "d", Running: true}, {Name: "e", Running: true}},
		progress: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
		},
		put: func(_ context.Context, n cluster.Node, images map[string]string, open func() (io.ReadCloser, error)) (bool, error) {
			r, err := open()
			if err != nil {
				return false, err
			}
			defer r.Close()
			if all, err := io.ReadAll(r); err != nil || !bytes.Equal(all, archiveOf(t, "app:1")) {
				t.Errorf("node %s reads %d bytes (%v)", n.Name, len(all), err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[n.Name] = images
			if n.Name == "d" {
				return false, errors.New("no space left")
			}
			return n.Name == "e", nil
		},
	}
	defer l.close()
	if err := l.read(t.Context(), shelf{"app:1": archiveOf(t, "app:1")}, "app:1"); err != nil {
		t.Fatal(err)
	}
	r := &LoadResult{Lab: "two"}
	r.add(l.sources[0], l.load(t.Context(), l.sources[0]))
	want := []NodeLoad{
		{"app:1", "a", LoadDone, ""}, {"app:1", "b", LoadFailed, "it is paused: lab up starts or resumes it"},
		{"app:1", "c", LoadFailed, "it is stopped: lab up starts or resumes it"}, {"app:1", "d", LoadFailed, "no space left"}, {"app:1", "e", LoadPresent, ""},
	}
	if !slices.Equal(r.Nodes, want) {
		t.Errorf("nodes %+v, want %+v", r.Nodes, want)
	}
	if len(got) != 3 || !strings.HasPrefix(got["a"]["app:1"], "sha256:") {
		t.Errorf("nodes were given %v", got)
	}
	const said = "lab two: app:1 is not on node b: it is paused: lab up starts or resumes it; app:1 is not on node c: it is stopped: " +
		"lab up starts or resumes it; app:1 is not on node d: no space left"
	if err := r.failed(); err == nil || err.Error() != said {
		t.Errorf("said: %v, want %s", err, said)
	}
	if last := events[len(events)-1]; last.Step != "app:1" || last.State != StepFailed || last.Note != "2 of 5 nodes have it" {
		t.Errorf("the last event is %+v", last)
	}
	r.Nodes = []NodeLoad{want[0], want[4]}
	if err := r.failed(); err != nil {
		t.Errorf("all have it: %v", err)
	}
}
