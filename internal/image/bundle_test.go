package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

// imageFor is an image for a platform of that architecture.
func imageFor(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(10_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func idOf(t *testing.T, img v1.Image) string {
	t.Helper()
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// otherArch is one that nodes have not.
func otherArch() string {
	if nodes().Architecture == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// dockerTar is what docker save writes of images.
func dockerTar(t *testing.T, images map[string]v1.Image) []byte {
	t.Helper()
	named := map[name.Tag]v1.Image{}
	for ref, img := range images {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		named[tag] = img
	}
	var b bytes.Buffer
	if err := tarball.MultiWrite(named, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ociTar is an OCI layout in a tar, without the files whose names have one of leaveOut in them.
func ociTar(t *testing.T, add func(layout.Path) error, leaveOut ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := add(p); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || slices.ContainsFunc(leaveOut, func(s string) bool { return strings.HasSuffix(path, s) }) {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./" + rel, Mode: 0o644, Size: int64(len(content))})
		_, werr := w.Write(content)
		return errors.Join(err, werr)
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// given are the files that a bundle gives to nodes.
func given(t *testing.T, b *Bundle) map[string][]byte {
	t.Helper()
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := map[string][]byte{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBundleOfDockersArchive(t *testing.T) {
	one, two := imageFor(t, nodes().Architecture), imageFor(t, nodes().Architecture)
	raw := dockerTar(t, map[string]v1.Image{"app:1": one, "example.org/two:2": two})
	var zipped, packed bytes.Buffer
	z := gzip.NewWriter(&zipped)
	s, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{z, s} {
		if _, err := w.Write(raw); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string][]byte{"a.tar": raw, "a.tar.gz": zipped.Bytes(), "a.tar.zst": packed.Bytes(), "none": raw} {
		b, err := FromFile(t.Context(), write(t, name, content), quiet)
		if err != nil {
			t.Fatal(name, err)
		}
		slices.SortFunc(b.Images, func(a, b Bundled) int { return strings.Compare(a.Ref, b.Ref) })
		if want := []Bundled{{"app:1", idOf(t, one)}, {"example.org/two:2", idOf(t, two)}}; !slices.Equal(b.Images, want) {
			t.Errorf("%s: %v, want %v", name, b.Images, want)
		}
		for range 2 { // each node reads it from its start
			r, err := b.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, raw) || r.Close() != nil {
				t.Errorf("%s: nodes are given %d bytes, want %d as they are (%v)", name, len(got), len(raw), err)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBundleOfLayout: of an image for several platforms nodes get theirs, by its whole name, although the others are not in the
// archive.
func TestBundleOfLayout(t *testing.T) {
	mine, other := imageFor(t, nodes().Architecture), imageFor(t, otherArch())
	gone, err := other.Digest()
	if err != nil {
		t.Fatal(err)
	}
	both := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: otherArch()}}},
		mutate.IndexAddendum{Add: mine, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: nodes().Architecture}}})
	raw := ociTar(t, func(p layout.Path) error {
		return errors.Join(p.AppendIndex(both, layout.WithAnnotations(map[string]string{annotationRef: "app:1"})),
			p.AppendImage(imageFor(t, nodes().Architecture)), // which has no name
			p.AppendImage(mine, layout.WithAnnotations(map[string]string{annotationName: "docker.io/library/app:2", annotationRef: "2"})))
	}, gone.Hex)
	b, err := FromFile(t.Context(), write(t, "a.tar", raw), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if want := []Bundled{{"app:1", idOf(t, mine)}, {"app:2", idOf(t, mine)}}; !slices.Equal(b.Images, want) {
		t.Errorf("images %v, want %v", b.Images, want)
	}
	files := given(t, b)
	var index v1.IndexManifest
	if err := json.Unmarshal(files["index.json"], &index); err != nil || len(index.Manifests) != 2 || files["oci-layout"] == nil {
		t.Fatalf("index %s (%v)", files["index.json"], err)
	}
	digest, err := mine.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for i, ref := range []string{"docker.io/library/app:1", "docker.io/library/app:2"} {
		if m := index.Manifests[i]; m.Digest != digest || m.Annotations[annotationName] != ref || m.Annotations[annotationRef] != "" {
			t.Errorf("image %d of the index is %+v, want %s of %s", i, m, ref, digest)
		}
	}
	want := 2 + 4 // the image's manifest, its configuration and two layers
	if len(files) != want {
		t.Errorf("nodes are given %d files, want %d", len(files), want)
	}
	for name, content := range files {
		hex, ok := strings.CutPrefix(name, "blobs/sha256/")
		if got, _, err := v1.SHA256(bytes.NewReader(content)); ok && (err != nil || got.Hex != hex) {
			t.Errorf("%s has the digest %s (%v)", name, got.Hex, err)
		}
	}
}

func TestBundleRefuses(t *testing.T) {
	mine, other := imageFor(t, nodes().Architecture), imageFor(t, otherArch())
	layers, err := mine.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	named := func(img v1.Image, ref string) func(layout.Path) error {
		return func(p layout.Path) error {
			return p.AppendImage(img, layout.WithAnnotations(map[string]string{annotationRef: ref}))
		}
	}
	docker := dockerTar(t, map[string]v1.Image{"app:1": mine})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(docker); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	var noImage bytes.Buffer
	w := tar.NewWriter(&noImage)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "README", Size: 0}), w.Close()); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		content []byte
		say     string
	}{
		"text":                 {[]byte(strings.Repeat("hello\n", 200)), "is no image archive"},
		"empty":                {nil, "neither an index.json nor a manifest.json"},
		"another tar":          {noImage.Bytes(), "neither an index.json nor a manifest.json"},
		"cut off":              {docker[:len(docker)/2], "is no image archive"},
		"cut off, compressed":  {zipped.Bytes()[:zipped.Len()/2], "is no image archive"},
		"for another platform": {dockerTar(t, map[string]v1.Image{"app:1": other}), "is for linux/" + otherArch() + ", and the nodes are linux/" + nodes().Architecture},
		"layout, for another":  {ociTar(t, named(other, "app:1")), "is for linux/" + otherArch()},
		"layout, one of two": {ociTar(t, func(p layout.Path) error { return errors.Join(named(mine, "app:1")(p), named(other, "app:2")(p)) }),
			"is for linux/" + otherArch()},
		"layout, only a tag":  {ociTar(t, named(mine, "1")), "has a name, by which pods are given one"},
		"layout, bad name":    {ociTar(t, named(mine, "App:1")), `"App:1" is no image's name`},
		"layout, lacks layer": {ociTar(t, named(mine, "app:1"), layer.Hex), "it lacks a file: blobs/sha256/" + layer.Hex},
	} {
		b, err := FromFile(t.Context(), write(t, "a", tt.content), quiet)
		if err == nil {
			_ = b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", what, err, tt.say)
		}
	}
	if _, err := FromFile(t.Context(), filepath.Join(t.TempDir(), "away.tar"), quiet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := FromFile(t.Context(), t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
}

// TestBundleOfEngine: an image of Docker's is read, and no file of it is left.
func TestBundleOfEngine(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	mine := imageFor(t, nodes().Architecture)
	e := &engine{images: map[string]v1.Image{"app:1": mine}}
	b, err := FromEngine(t.Context(), e, "app:1", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Bundled{{"app:1", idOf(t, mine)}}; !slices.Equal(b.Images, want) || given(t, b)["manifest.json"] == nil {
		t.Errorf("images %v, want %v", b.Images, want)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v (%v)", left, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := FromEngine(t.Context(), e, "app:2", quiet); !errors.Is(err, ErrNoImage) || !strings.Contains(err.Error(), "docker pull it") {
		t.Errorf("an image that Docker does not have: %v", err)
	}
	e.saveErr = errors.New("broken off")
	if _, err := FromEngine(t.Context(), e, "app:1", quiet); !errors.Is(err, e.saveErr) {
		t.Errorf("what Docker breaks off: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := FromFile(ctx, write(t, "a.gz", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00")), quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted while it unpacks: %v", err)
	}
}
