package labs

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/images"
	"wirelab.dev/wirelab/internal/atomicfile"
	"wirelab.dev/wirelab/internal/image"
	"wirelab.dev/wirelab/profiles"
)

// programs are the images that nodes need for a profile.
type programs struct {
	agent    *image.Image
	operator *image.Image
	relay    *image.Image // nil where the profile has none
	nettool  *image.Image
}

// buildPrograms writes the images in memory.
func buildPrograms(p *profiles.Profile) (i programs, err error) {
	var g errgroup.Group
	g.Go(func() (err error) { i.agent, err = image.Agent(images.Payload, runtime.GOARCH); return err })
	g.Go(func() (err error) { i.operator, err = image.Operator(images.Payload, runtime.GOARCH); return err })
	g.Go(func() (err error) { i.nettool, err = image.Nettool(images.Payload, runtime.GOARCH); return err })
	if p.Network.Flows.Relay.Enabled {
		g.Go(func() (err error) { i.relay, err = image.Relay(images.Payload, runtime.GOARCH); return err })
	}
	err = g.Wait()
	return i, err
}

// all are the images there are.
func (i programs) all() []*image.Image {
	out := []*image.Image{i.agent, i.operator}
	if i.relay != nil {
		out = append(out, i.relay)
	}
	return append(out, i.nettool)
}

// refs are the names of all.
func (i programs) refs() (out []string) {
	for _, img := range i.all() {
		out = append(out, img.Ref())
	}
	return out
}

// loaded is the image of the checks, which nodes have.
func (i programs) loaded(context.Context) (string, error) { return i.nettool.Ref(), nil }

// archive has the images of the given names.
func (i programs) archive(refs []string) (io.ReadCloser, error) {
	return image.Together(slices.DeleteFunc(i.all(), func(img *image.Image) bool { return !slices.Contains(refs, img.Ref()) })...), nil
}

// WriteImages writes the images that nodes need for a profile into a folder, an archive each that ctr images import and
// docker load read, and returns the files.
func WriteImages(p *profiles.Profile, dir string) ([]string, error) {
	i, err := buildPrograms(p)
	if err != nil {
		return nil, err
	}
	return writeImages(i, dir)
}

func writeImages(i programs, dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // images are no secrets
		return nil, err
	}
	var out []string
	for _, img := range i.all() {
		name := filepath.Join(dir, strings.ReplaceAll(img.Repository, "/", "-")+".tar")
		archive, err := img.Portable()
		if err != nil {
			return nil, err
		}
		if err := atomicfile.Replace(name, archive, 0o644); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}
