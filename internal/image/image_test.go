package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

func payload(t *testing.T, agent string) fstest.MapFS {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	body := []byte("#!/bin/sh\n")
	for _, err := range []error{
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/tool", Mode: 0o755, Size: int64(len(body))}),
		func() error { _, err := w.Write(body); return err }(),
		w.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	packer, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true)) // or what is so small does not say its size
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		"payload/wirelab-agent.zst":  {Data: packer.EncodeAll([]byte(agent), nil)},
		"payload/wirelab-cni.zst":    {Data: packer.EncodeAll([]byte("cni"), nil)},
		"payload/nettool.zst":        {Data: packer.EncodeAll([]byte("nettool"), nil)},
		"payload/demo-tools.tar.zst": {Data: packer.EncodeAll(b.Bytes(), nil)},
	}
}

// contents reads an image's archive back as a runtime would and returns its regular files and their modes.
func contents(t *testing.T, i *Image) (files map[string]string, entrypoint []string) {
	t.Helper()
	tag, err := name.NewTag(i.Ref())
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.Image(i.Open, &tag)
	if err != nil {
		t.Fatalf("read back %s: %v", i.Ref(), err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	r := tar.NewReader(mutate.Extract(img))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, cf.Config.Entrypoint
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode&0o111 == 0 {
			t.Errorf("%s is not executable", h.Name)
		}
		files[h.Name] = string(b)
	}
}

func TestAgentHoldsAgentAndPlugin(t *testing.T) {
	i, err := Agent(payload(t, "agent"), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	files, entry := contents(t, i)
	if files["usr/bin/wirelab-agent"] != "agent" || files["usr/bin/wirelab-cni"] != "cni" || len(files) != 2 {
		t.Errorf("files = %q", files)
	}
	if len(entry) != 1 || entry[0] != "/usr/bin/wirelab-agent" {
		t.Errorf("entrypoint = %q", entry)
	}
}

func TestNettoolHasToolsBelow(t *testing.T) {
	i, err := Nettool(payload(t, "agent"), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := contents(t, i)
	if files["bin/tool"] == "" || files["usr/bin/nettool"] != "nettool" {
		t.Errorf("files = %q", files)
	}
}

func TestTagFollowsContentAlone(t *testing.T) {
	a, err := Agent(payload(t, "one"), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Agent(payload(t, "one"), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Agent(payload(t, "two"), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if a.Ref() != again.Ref() || !bytes.Equal(a.archive, again.archive) {
		t.Errorf("same content gave %s and %s", a.Ref(), again.Ref())
	}
	if a.Ref() == b.Ref() {
		t.Errorf("different content gave the same name %s", a.Ref())
	}
}

// TestLayersStayPacked: a layer is compressed, and says truly how long it is without that; a program that somebody else compressed,
// whose size is not known before it is unpacked, is refused.
func TestLayersStayPacked(t *testing.T) {
	p := payload(t, strings.Repeat("agent", 100_000))
	i, err := Agent(p, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	n, err := i.Unpacked()
	if err != nil || n < 500_000 || n%tarBlock != 0 || len(i.archive) > 50_000 {
		t.Errorf("the layers have %d bytes, the archive %d (%v)", n, len(i.archive), err)
	}
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = z.Write([]byte(strings.Repeat("agent", 100_000))); err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	p["payload/wirelab-agent.zst"].Data = b.Bytes()
	if _, err := Agent(p, "arm64"); err == nil || !strings.Contains(err.Error(), "does not say its size") {
		t.Errorf("a stream of unknown length: %v", err)
	}
}

// TestPortable: the release's tag is beside the one that the content gives, always in that order, on the same image, whose layers
// every Docker reads.
func TestPortable(t *testing.T) {
	i, err := Agent(payload(t, "agent"), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := i.Portable("v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
	m, err := tarball.LoadManifest(open)
	if err != nil || len(m) != 1 || !slices.Equal(m[0].RepoTags, []string{i.Ref(), "wirelab/agent:v1.2.3"}) {
		t.Fatalf("manifest = %+v (%v)", m, err)
	}
	for _, name := range m[0].Layers {
		if layer := fileIn(t, archive, name); len(layer) < tarBlock || string(layer[257:262]) != "ustar" {
			t.Errorf("a layer is stored as %.20q", layer)
		}
	}
	for _, ref := range m[0].RepoTags {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.Image(open, &tag)
		if err != nil {
			t.Fatal(err)
		}
		id, err := img.ConfigName()
		if err != nil || id.Hex[:12] != i.Tag {
			t.Errorf("%s is %s (%v), want %s", ref, id, err, i.Tag)
		}
		if c, err := img.ConfigFile(); err != nil || c.Architecture != "arm64" || c.OS != "linux" {
			t.Errorf("%s is for %s/%s (%v)", ref, c.OS, c.Architecture, err)
		}
	}
	if _, err := i.Portable("1 2"); err == nil {
		t.Error("a tag with a space is taken")
	}
}

// fileIn is a file of a tar archive.
func fileIn(t *testing.T, archive []byte, name string) []byte {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("find %s: %v", name, err)
		}
		if h.Name == name {
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return content
		}
	}
}

func TestNoPayload(t *testing.T) {
	for _, f := range []func() (*Image, error){
		func() (*Image, error) { return Agent(fstest.MapFS{}, "arm64") },
		func() (*Image, error) { return Nettool(fstest.MapFS{}, "arm64") },
	} {
		if _, err := f(); !errors.Is(err, ErrNoPayload) {
			t.Errorf("error = %v, want ErrNoPayload", err)
		}
	}
}
