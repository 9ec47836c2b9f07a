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
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
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

// Open gives the image as an uncompressed archive that docker load and ctr images import read. It may be called
// any number of times, also at once.
func (i *Image) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(i.archive)), nil }

// Named is the archive of [Image.Open] in which the image has another tag, too.
func (i *Image) Named(tag string) ([]byte, error) {
	also, err := name.NewTag(i.Repository+":"+tag, name.WithDefaultRegistry(""))
	if err != nil {
		return nil, fmt.Errorf("name image %s: %w", i.Repository, err)
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
		if err == nil && h.Name == "manifest.json" {
			content, err = addTag(content, also.String())
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

// addTag gives each image of an archive's manifest.json another name.
func addTag(manifest []byte, ref string) ([]byte, error) {
	var m tarball.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	for i := range m {
		m[i].RepoTags = append(m[i].RepoTags, ref)
	}
	return json.Marshal(m)
}

// Size is the archive's length in bytes.
func (i *Image) Size() int { return len(i.archive) }

// file is one program of an image.
type file struct {
	from string // name in the payload
	to   string // absolute path in the image
}

// build makes an image for linux on arch of files on top of layers that are whole tar archives.
func build(payload fs.FS, arch, repo string, cfg v1.Config, tars [][]byte, files []file) (*Image, error) {
	layer, err := filesLayer(payload, files)
	if err != nil {
		return nil, err
	}
	img := empty.Image
	for _, t := range append(tars, layer) {
		// Uncompressed: the layers go through a pipe to nodes on this machine, where packing costs more than it saves.
		if img, err = mutate.AppendLayers(img, static.NewLayer(t, types.DockerUncompressedLayer)); err != nil {
			return nil, fmt.Errorf("build image %s: %w", repo, err)
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", repo, err)
	}
	cf = cf.DeepCopy()
	cf.Architecture, cf.OS, cf.Config, cf.Created = arch, "linux", cfg, v1.Time{Time: time.Unix(0, 0).UTC()}
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

// filesLayer is a tar archive of programs, without times and owners other than root, so that it depends on their
// content alone.
func filesLayer(payload fs.FS, files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	done := map[string]bool{"/": true}
	for _, f := range files {
		content, err := Program(payload, f.from)
		if err != nil {
			return nil, err
		}
		if err := addDirs(w, path.Dir(f.to), done); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.to, err)
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.to[1:], Mode: 0o755, Size: int64(len(content))}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.to, err)
		}
		if _, err := w.Write(content); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.to, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack image layer: %w", err)
	}
	return b.Bytes(), nil
}

func addDirs(w *tar.Writer, dir string, done map[string]bool) error {
	if done[dir] {
		return nil
	}
	if err := addDirs(w, path.Dir(dir), done); err != nil {
		return err
	}
	done[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755})
}

// Program is one of the programs that lab carries. payload is images.Payload. The error wraps [ErrNoPayload] when there is none.
func Program(payload fs.FS, name string) ([]byte, error) {
	packed, err := readPayload(payload, name+".zst")
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	defer z.Close()
	content, err := z.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return content, nil
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
