package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// engine stands in for Docker: images by their names, whose archives are real ones.
type engine struct {
	images  map[string]v1.Image
	saveErr error
	loads   int
}

// nodeLike is an image whose containers start with start.
func nodeLike(t *testing.T, start ...string) v1.Image {
	t.Helper()
	img, err := random.Image(1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Config(img, v1.Config{Entrypoint: start}); err != nil {
		t.Fatal(err)
	}
	return img
}

func (e *engine) ImageID(_ context.Context, ref string) (string, error) {
	img, ok := e.images[ref]
	if !ok {
		return "", nil
	}
	id, err := img.ConfigName()
	return id.String(), err
}

func (e *engine) TagImage(_ context.Context, ref, tag string) error {
	e.images[tag] = e.images[ref]
	return nil
}

func (e *engine) SaveImage(_ context.Context, ref string, to io.Writer) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	return errors.Join(tarball.Write(tag, e.images[ref], to), e.saveErr)
}

func (e *engine) LoadImage(_ context.Context, from io.Reader) error {
	e.loads++
	all, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all)), nil }
	m, err := tarball.LoadManifest(open)
	if err != nil {
		return err
	}
	img, err := tarball.Image(open, nil)
	e.images[m[0].RepoTags[0]] = img
	return err
}

func quiet(string) {}

// saved is the default node image in a file.
func saved(t *testing.T) (from *engine, a Archive) {
	t.Helper()
	from = &engine{images: map[string]v1.Image{DefaultNodeImage: nodeLike(t, "/usr/local/bin/entrypoint", "/sbin/init")}}
	a, err := Save(t.Context(), from, DefaultNodeImage, filepath.Join(t.TempDir(), "node.tar.zst"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	return from, a
}

func TestArchive(t *testing.T) {
	from, a := saved(t)
	if a.Image != Short(DefaultNodeImage) || from.images[a.Image] == nil {
		t.Errorf("the image %s has no tag: %+v", DefaultNodeImage, a)
	}
	said, err := os.ReadFile(a.File + ".sha256")
	if err != nil || string(said) != a.SHA256+"  node.tar.zst\n" {
		t.Errorf("%q (%v), want %s", said, err, a.SHA256)
	}
	files, err := os.ReadDir(filepath.Dir(a.File))
	if err != nil || len(files) != 2 {
		t.Errorf("%d files are left, want 2 (%v)", len(files), err)
	}
	to := &engine{images: map[string]v1.Image{}}
	got, err := Load(t.Context(), to, a.File, quiet)
	if want := a; err != nil || got != want {
		t.Fatalf("got %+v (%v), want %+v", got, err, want)
	}
	if got, err = Load(t.Context(), to, a.File, quiet); err != nil || got.Note != "was here already" {
		t.Errorf("the second time: %+v (%v)", got, err)
	}
	if err := os.Remove(a.File + ".sha256"); err != nil {
		t.Fatal(err)
	}
	if got, err = Load(t.Context(), &engine{images: map[string]v1.Image{}}, a.File, quiet); err != nil || !strings.Contains(got.Note, "not proved") {
		t.Errorf("without what it has to be: %+v (%v)", got, err)
	}
}

// TestDamagedArchive: Docker is given none that is not what was saved, or no node image.
func TestDamagedArchive(t *testing.T) {
	_, a := saved(t)
	whole, err := os.ReadFile(a.File)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	cut := write("cut", whole[:len(whole)/2])
	write("cut.sha256", []byte(a.SHA256+"  node.tar.zst\n"))
	other := &engine{images: map[string]v1.Image{"busybox:1": nodeLike(t, "sh")}}
	shell, err := Save(t.Context(), other, "busybox:1", filepath.Join(dir, "shell"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		cut:                                 "copy both again",
		write("half", whole[:len(whole)/2]): "no image archive",
		write("text", []byte("hello\n")):    "no image archive",
		write("empty", nil):                 "no image archive",
		shell.File:                          `busybox:1 starts "sh"`,
		filepath.Join(dir, "away"):          "no such file",
	} {
		to := &engine{images: map[string]v1.Image{}}
		if _, err := Load(t.Context(), to, file, quiet); err == nil || !strings.Contains(err.Error(), want) || to.loads != 0 {
			t.Errorf("%s: %v after %d loads, want %q", filepath.Base(file), err, to.loads, want)
		}
	}
}

// TestArchiveIsWholeOrNotThere: what cannot be written to its end leaves the file that was there before.
func TestArchiveIsWholeOrNotThere(t *testing.T) {
	from, a := saved(t)
	before, err := os.ReadFile(a.File)
	if err != nil {
		t.Fatal(err)
	}
	from.saveErr = errors.New("docker is gone")
	if _, err := Save(t.Context(), from, DefaultNodeImage, a.File, quiet); err == nil || !strings.Contains(err.Error(), "docker is gone") {
		t.Errorf("error = %v", err)
	}
	from.saveErr = nil
	from.images[a.Image] = nodeLike(t, "/sbin/init")
	if _, err := Save(t.Context(), from, DefaultNodeImage, a.File, quiet); err == nil || !strings.Contains(err.Error(), "docker tag") {
		t.Errorf("a tag of another image: %v", err)
	}
	after, err := os.ReadFile(a.File)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file is another one (%v)", err)
	}
	if files, err := os.ReadDir(filepath.Dir(a.File)); err != nil || len(files) != 2 {
		t.Errorf("%d files are left, want 2 (%v)", len(files), err)
	}
	if _, err := Save(t.Context(), from, a.Image, filepath.Join(a.File, "x"), quiet); err == nil {
		t.Error("no error where the folder is a file")
	}
}
