package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bundle is an archive of images that nodes can take: each has a name, and is of the nodes' platform. It is one that docker save
// writes, or an OCI layout in a tar. The caller closes it.
type Bundle struct {
	Images []Bundled // at least one
	from   string    // what the user called it
	file   *os.File  // a tar that is not compressed
	size   int64
	found  map[string]entry // of the tar
	index  []byte           // of an OCI layout, what nodes are given as its index; nil where the archive is given as it is
	blobs  []string         // what that index needs, by their names in the tar
}

// Bundled is an image of a bundle.
type Bundled struct {
	Ref string `json:"image"` // as docker images has it: app:1
	ID  string `json:"id"`    // the digest of its configuration, by which nodes know what it is
}

// entry is where in the tar a file's content is.
type entry struct{ at, size int64 }

// ErrNoImage means that the engine has no image of that name.
var ErrNoImage = errors.New("docker has no such image")

// FromEngine is the image ref of the engine. No registry is asked. The error wraps [ErrNoImage] where there is none.
func FromEngine(ctx context.Context, e Keeper, ref string, say func(string)) (*Bundle, error) {
	id, err := e.ImageID(ctx, ref)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fmt.Errorf("%w: %s: docker pull it, or build it with docker build -t %s", ErrNoImage, ref, ref)
	}
	f, err := nameless()
	if err != nil {
		return nil, err
	}
	to := &counted{to: f, say: func(n int64) { say(fmt.Sprintf("%d MB of Docker's", n>>20)) }}
	if err := e.SaveImage(ctx, ref, to); err != nil {
		return nil, errors.Join(noRoom(err), f.Close())
	}
	return bundle(ref, f)
}

// FromFile is what is in an image archive, which may be compressed with gzip or zstd.
func FromFile(ctx context.Context, file string, say func(string)) (*Bundle, error) {
	about, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	if !about.Mode().IsRegular() {
		return nil, notBundle(file, errors.New("it is no regular file"))
	}
	in, packed, err := unpack(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if !packed {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the image: %w", err)
		}
		return bundle(file, f)
	}
	f, err := nameless()
	if err != nil {
		return nil, err
	}
	from := &counted{from: in, say: func(n int64) { say(fmt.Sprintf("%d MB unpacked", n>>20)) }}
	if _, err := io.Copy(f, until{ctx, from}); err != nil {
		if ctx.Err() == nil && !errors.Is(err, syscall.ENOSPC) {
			err = notBundle(file, err)
		}
		return nil, errors.Join(noRoom(err), f.Close())
	}
	return bundle(file, f)
}

// until reads as long as ctx is there.
type until struct {
	ctx  context.Context //nolint:containedctx // that is its purpose
	from io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.from.Read(p)
}

// nameless is a temporary file that nothing is left of, however the program ends.
func nameless() (*os.File, error) {
	f, err := os.CreateTemp("", "wirelab-image-")
	if err != nil {
		return nil, fmt.Errorf("make a file for the image: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make a file for the image: %w", err), f.Close())
	}
	return f, nil
}

// noRoom says where there is none for a temporary file, if that is what err is about.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("no space left in %s for the image: free some, or set TMPDIR to another folder: %w", os.TempDir(), err)
	}
	return err
}

func notBundle(from string, err error) error {
	return fmt.Errorf("%s is no image archive, as docker save and OCI tools write them: %w", from, err)
}

// Close frees what the bundle holds.
func (b *Bundle) Close() error { return b.file.Close() }

// bundle reads what is in a tar, and closes it where that is nothing for nodes.
func bundle(from string, f *os.File) (*Bundle, error) {
	b := &Bundle{from: from, file: f, found: map[string]entry{}}
	err := b.list()
	switch {
	case err != nil:
	case b.has("oci-layout") && b.has("index.json"): // which containerd looks at first, too
		err = b.readOCI()
	case b.has("manifest.json"):
		err = b.readDocker()
	default:
		err = notBundle(from, errors.New("it has neither an index.json nor a manifest.json"))
	}
	if err == nil && len(b.Images) == 0 {
		err = fmt.Errorf("no image of %s has a name, by which pods are given one: docker tag it, and take that name", from)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

func (b *Bundle) has(name string) bool {
	_, ok := b.found[name]
	return ok
}

// list finds where in the tar its files are.
func (b *Bundle) list() error {
	about, err := b.file.Stat()
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	b.size = about.Size()
	in := io.NewSectionReader(b.file, 0, b.size)
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return notBundle(b.from, err)
		}
		at, err := in.Seek(0, io.SeekCurrent) // a tar.Reader reads no more than the header
		if err != nil {
			return notBundle(b.from, err)
		}
		if h.Typeflag == tar.TypeReg && at+h.Size > b.size {
			return notBundle(b.from, fmt.Errorf("%s is cut off", h.Name))
		}
		b.found[strings.TrimPrefix(h.Name, "./")] = entry{at, h.Size}
	}
}

// maxDocument bounds what is read as one of an archive's documents; those of real images have kilobytes.
const maxDocument = 8 << 20

func (b *Bundle) document(name string) ([]byte, error) {
	e, ok := b.found[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", errLacks, name)
	}
	if e.size > maxDocument {
		return nil, fmt.Errorf("its %s has %d bytes", name, e.size)
	}
	return io.ReadAll(io.NewSectionReader(b.file, e.at, e.size))
}

var errLacks = errors.New("it lacks a file")

// readDocker reads an archive that has a manifest.json.
func (b *Bundle) readDocker() error {
	raw, err := b.document("manifest.json")
	if err != nil {
		return notBundle(b.from, err)
	}
	var all tarball.Manifest
	if err := json.Unmarshal(raw, &all); err != nil {
		return notBundle(b.from, fmt.Errorf("its manifest.json: %w", err))
	}
	for _, m := range all {
		config, err := b.document(m.Config)
		if err != nil {
			return notBundle(b.from, err)
		}
		for _, layer := range m.Layers {
			if !b.has(layer) {
				return notBundle(b.from, fmt.Errorf("%w: %s", errLacks, layer))
			}
		}
		id, _, err := v1.SHA256(bytes.NewReader(config))
		if err != nil {
			return err
		}
		if err := b.fits(config); err != nil {
			return err
		}
		for _, tag := range m.RepoTags {
			if _, err := b.add(tag, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// add notes an image under its name, and returns the whole of that, or an error where it is none.
func (b *Bundle) add(ref string, id v1.Hash) (whole string, err error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", notBundle(b.from, fmt.Errorf("%q is no image's name: %w", ref, err))
	}
	b.Images = append(b.Images, Bundled{reference.FamiliarString(named), id.String()})
	return named.String(), nil
}

// nodes is the platform of nodes: that of the programs that lab carries.
func nodes() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// fits tells whether an image of that configuration runs on nodes.
func (b *Bundle) fits(config []byte) error {
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return notBundle(b.from, fmt.Errorf("the configuration of an image: %w", err))
	}
	if p := c.Platform(); p == nil || !p.Satisfies(nodes()) {
		return b.foreign([]string{cmp.Or(c.OS, "unknown") + "/" + cmp.Or(c.Architecture, "unknown")})
	}
	return nil
}

func (b *Bundle) foreign(have []string) error {
	return fmt.Errorf("%s is for %s, and the nodes are %s: build or pull it with --platform %s", b.from, strings.Join(have, ", "), nodes(), nodes())
}

// readOCI reads an OCI layout. Of an image for several platforms nodes get theirs, be the others there or not, under a name as
// containerd has it: in a layout names may be short, and then no pod would find them.
func (b *Bundle) readOCI() error {
	index, err := b.readIndex("index.json")
	if err != nil {
		return err
	}
	given := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	taken, refused := map[string]bool{}, map[string]error{}
	for _, d := range index.Manifests {
		ref := nameIn(d)
		if ref == "" || taken[ref] {
			continue
		}
		one, id, err := b.pick(d)
		if err != nil {
			refused[ref] = err // another of that name may be for the nodes
			continue
		}
		taken[ref] = true
		delete(refused, ref)
		whole, err := b.add(ref, id)
		if err != nil {
			return err
		}
		one.Annotations = map[string]string{annotationName: whole}
		given.Manifests = append(given.Manifests, *one)
	}
	for _, ref := range slices.Sorted(maps.Keys(refused)) {
		return refused[ref]
	}
	b.index, err = json.Marshal(given)
	return err
}

func (b *Bundle) readIndex(name string) (*v1.IndexManifest, error) {
	raw, err := b.document(name)
	if err != nil {
		return nil, notBundle(b.from, err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, notBundle(b.from, fmt.Errorf("its %s: %w", name, err))
	}
	return index, nil
}

// Where an OCI layout has the name of an image: containerd's whole one, or one that need be only a tag.
const (
	annotationName = "io.containerd.image.name"
	annotationRef  = "org.opencontainers.image.ref.name"
)

// nameIn is the name of an image in an index, empty where there is none but a tag.
func nameIn(d v1.Descriptor) string {
	if name := d.Annotations[annotationName]; name != "" {
		return name
	}
	if ref := d.Annotations[annotationRef]; strings.ContainsAny(ref, "/:") {
		return ref
	}
	return ""
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// pick finds the image of the nodes' platform that d is or has in it, and what its configuration is called.
func (b *Bundle) pick(d v1.Descriptor) (*v1.Descriptor, v1.Hash, error) {
	if !d.MediaType.IsIndex() {
		return b.image(d)
	}
	index, err := b.readIndex(blob(d.Digest))
	if err != nil {
		return nil, v1.Hash{}, err
	}
	var have []string
	for _, one := range index.Manifests {
		if one.Platform == nil || one.Platform.Satisfies(nodes()) {
			return b.pick(one)
		}
		if p := one.Platform.String(); !slices.Contains(have, p) && one.Platform.OS != "unknown" { // which attestations have
			have = append(have, p)
		}
	}
	return nil, v1.Hash{}, b.foreign(have)
}

// image reads the manifest d of one image, and notes what nodes need of it.
func (b *Bundle) image(d v1.Descriptor) (*v1.Descriptor, v1.Hash, error) {
	raw, err := b.document(blob(d.Digest))
	if err != nil {
		return nil, v1.Hash{}, notBundle(b.from, err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, v1.Hash{}, notBundle(b.from, fmt.Errorf("its manifest %s: %w", d.Digest, err))
	}
	config, err := b.document(blob(m.Config.Digest))
	if err != nil {
		return nil, v1.Hash{}, notBundle(b.from, err)
	}
	if err := b.fits(config); err != nil {
		return nil, v1.Hash{}, err
	}
	for _, part := range append([]v1.Descriptor{d, m.Config}, m.Layers...) {
		name := blob(part.Digest)
		if !b.has(name) {
			return nil, v1.Hash{}, notBundle(b.from, fmt.Errorf("%w: %s", errLacks, name))
		}
		if !slices.Contains(b.blobs, name) {
			b.blobs = append(b.blobs, name)
		}
	}
	return &d, m.Config.Digest, nil
}

// Open gives what nodes are to read. It may be called any number of times, also at once, until the bundle is closed.
func (b *Bundle) Open() (io.ReadCloser, error) {
	if b.index == nil {
		return io.NopCloser(io.NewSectionReader(b.file, 0, b.size)), nil
	}
	var parts []io.Reader
	add := func(name string, size int64, content io.Reader) error {
		var head bytes.Buffer
		if err := addHeader(&head, &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		parts = append(parts, &head, content, bytes.NewReader(padding(size)))
		return nil
	}
	layout := b.found["oci-layout"]
	err := add("oci-layout", layout.size, io.NewSectionReader(b.file, layout.at, layout.size))
	err = errors.Join(err, add("index.json", int64(len(b.index)), bytes.NewReader(b.index)))
	for _, name := range b.blobs {
		e := b.found[name]
		err = errors.Join(err, add(name, e.size, io.NewSectionReader(b.file, e.at, e.size)))
	}
	parts = append(parts, bytes.NewReader(make([]byte, tarEnd)))
	return io.NopCloser(io.MultiReader(parts...)), err
}
