package image

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// TestTogether: each image of an archive of several is what it is by itself, and what they share is there once.
func TestTogether(t *testing.T) {
	agent, err := Agent(payload(t, strings.Repeat("agent", 1000)), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	nettool, err := Nettool(payload(t, "agent"), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(Together(agent, nettool, agent))
	if err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
	for _, i := range []*Image{agent, nettool} {
		tag, err := name.NewTag(i.Ref())
		if err != nil {
			t.Fatal(err)
		}
		got, err := tarball.Image(open, &tag)
		if err != nil {
			t.Fatalf("read back %s: %v", i.Ref(), err)
		}
		id, err := got.ConfigName()
		if err != nil || id.Hex[:12] != i.Tag {
			t.Errorf("%s has become %s (%v)", i.Ref(), id, err)
		}
		layers, err := got.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			if c, err := l.Compressed(); err != nil {
				t.Error(err)
			} else if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("read a layer of %s: %v", i.Ref(), err)
			}
		}
	}
	if _, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return Together(&Image{archive: agent.archive[:700]}), nil }); err == nil {
		t.Error("an image that is cut off is written")
	}
	if most := len(agent.archive) + len(nettool.archive); len(archive) > most {
		t.Errorf("%d bytes, of which an image is there twice: apart they have %d", len(archive), most)
	}
}
