// Package image writes the container images that lab carries, from nothing but the programs embedded in it, and
// finds the node image a lab's cluster can be made of.
package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

// ErrNoPayload means that this lab was built without the programs of its images.
var ErrNoPayload = errors.New("this lab was built without its images: run make build")

// Image is a container image held in memory. The same payload gives the same bytes and the same tag.
type Image struct {
	Repository string // e.g. wirelab/agent
	Tag        string // 12 hex digits of a hash over what the image contains
	archive    []byte
}

// Ref is the image's full name as manifests use it, e.g. wirelab/agent:0123456789ab.
func (i *Image) Ref() string { return i.Repository + ":" + i.Tag }

// Open gives the image as an archive that ctr images import reads: the archive is not compressed, its layers are, with zstd. It may
// be called any number of times, also at once.
func (i *Image) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(i.archive)), nil }

// Portable is an archive for a file, with further tags. Its layers are not compressed: docker load of Docker 20.10 reads none that
// are with zstd.
func (i *Image) Portable(tags ...string) ([]byte, error) {
	var also []string
	for _, tag := range tags {
		ref, err := name.NewTag(i.Repository+":"+tag, name.WithDefaultRegistry(""))
		if err != nil {
			return nil, fmt.Errorf("name image %s: %w", i.Repository, err)
		}
		also = append(also, ref.String())
	}
	var b bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(i.archive)), tar.NewWriter(&b)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			err := w.Close()
			return b.Bytes(), err
		}
		if err != nil {
			return nil, fmt.Errorf("read image %s: %w", i.Ref(), err)
		}
		content, err := io.ReadAll(r)
		switch {
		case err != nil:
		case h.Name == manifestFile:
			content, err = addTags(content, also)
		case strings.HasSuffix(h.Name, ".tar.gz"): // a layer is called so however it is compressed
			content, err = unpackAll(content)
		}
		if err != nil {
			return nil, fmt.Errorf("read image %s: %w", i.Ref(), err)
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("archive image %s: %w", i.Ref(), err)
		}
		if _, err := w.Write(content); err != nil {
			return nil, fmt.Errorf("archive image %s: %w", i.Ref(), err)
		}
	}
}

// manifestFile is what a docker archive says its images in.
const manifestFile = "manifest.json"

// addTags gives each image of an archive's manifest further names.
func addTags(manifest []byte, refs []string) ([]byte, error) {
	var m tarball.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	for i := range m {
		m[i].RepoTags = append(m[i].RepoTags, refs...)
	}
	return json.Marshal(m)
}

// Unpacked is how many bytes the layers have when they are not compressed.
func (i *Image) Unpacked() (int64, error) {
	img, err := tarball.Image(i.Open, nil)
	if err != nil {
		return 0, fmt.Errorf("read image %s: %w", i.Ref(), err)
	}
	layers, err := img.Layers()
	if err != nil {
		return 0, fmt.Errorf("read image %s: %w", i.Ref(), err)
	}
	var all int64
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			return 0, fmt.Errorf("unpack image %s: %w", i.Ref(), err)
		}
		n, err := io.Copy(io.Discard, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return 0, fmt.Errorf("unpack image %s: %w", i.Ref(), err)
		}
		all += n
	}
	return all, nil
}

// programFolder is where images have their programs.
const programFolder = "/usr/bin"

// build makes an image for linux on arch of programs, of which its containers start the first with args, on top of
// layers that are whole tar archives. The layers stay compressed as the payload is: they take a third of the bytes on
// their way to each node.
func build(payload fs.FS, arch, repo string, tars [][]byte, programs []string, args ...string) (*Image, error) {
	layer, err := programsLayer(payload, programs)
	if err != nil {
		return nil, err
	}
	img := empty.Image
	for _, t := range append(tars, layer) {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(t)), nil })
		if err != nil {
			return nil, fmt.Errorf("build image %s: %w", repo, err)
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, fmt.Errorf("build image %s: %w", repo, err)
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", repo, err)
	}
	cf = cf.DeepCopy()
	cf.Architecture, cf.OS, cf.Created = arch, "linux", v1.Time{Time: time.Unix(0, 0).UTC()}
	start := path.Join(programFolder, programs[0])
	cf.Config = v1.Config{Entrypoint: []string{start}, Cmd: args, Env: []string{searchPath}}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return nil, fmt.Errorf("build image %s: %w", repo, err)
	}
	return pack(img, repo)
}

// pack names the image after the hash of its configuration, which covers every layer, and archives it.
func pack(img v1.Image, repo string) (*Image, error) {
	id, err := img.ConfigName()
	if err != nil {
		return nil, fmt.Errorf("hash image %s: %w", repo, err)
	}
	out := &Image{Repository: repo, Tag: id.Hex[:12]}
	tag, err := name.NewTag(out.Ref(), name.WithDefaultRegistry(""))
	if err != nil {
		return nil, fmt.Errorf("name image %s: %w", repo, err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, img, &b); err != nil {
		return nil, fmt.Errorf("archive image %s: %w", repo, err)
	}
	out.archive = b.Bytes()
	return out, nil
}

// programsLayer is a tar archive of programs, compressed with zstd, without times and owners other than root, so that it
// depends on their content alone. The programs are compressed already, and frames that follow each other are one stream (RFC 8878, 3.1): only
// what is between the programs is compressed here.
func programsLayer(payload fs.FS, programs []string) ([]byte, error) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, fmt.Errorf("pack image layer: %w", err)
	}
	var layer []byte
	var between bytes.Buffer
	for _, folder := range []string{"usr/", "usr/bin/"} { // programFolder, from the root on
		if err := addHeader(&between, &tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755}); err != nil {
			return nil, fmt.Errorf("pack image layer: %w", err)
		}
	}
	for _, name := range programs {
		to := path.Join(programFolder, name)
		packed, err := readPayload(payload, name+".zst")
		if err != nil {
			return nil, err
		}
		var frame zstd.Header
		if err := frame.Decode(packed); err != nil {
			return nil, fmt.Errorf("pack %s: %w", to, err)
		}
		if !frame.HasFCS {
			return nil, fmt.Errorf("pack %s: it is compressed by another program than images/pack, and does not say its size", to)
		}
		size := int64(frame.FrameContentSize) //nolint:gosec // of a file
		h := &tar.Header{Typeflag: tar.TypeReg, Name: to[1:], Mode: 0o755, Size: size}
		if err := addHeader(&between, h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", to, err)
		}
		layer = append(z.EncodeAll(between.Bytes(), layer), packed...)
		between.Reset()
		between.Write(padding(size))
	}
	between.Write(make([]byte, tarEnd))
	return z.EncodeAll(between.Bytes(), layer), nil
}

// Program is one of the programs that lab carries. payload is images.Payload. The error wraps [ErrNoPayload] when there is none.
func Program(payload fs.FS, name string) ([]byte, error) {
	packed, err := readPayload(payload, name+".zst")
	if err != nil {
		return nil, err
	}
	content, err := unpackAll(packed)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return content, nil
}

func unpackAll(packed []byte) ([]byte, error) {
	z, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.DecodeAll(packed, nil)
}

func readPayload(payload fs.FS, name string) ([]byte, error) {
	b, err := fs.ReadFile(payload, path.Join("payload", name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (no %s)", ErrNoPayload, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
