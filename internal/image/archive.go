package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"wirelab.dev/wirelab/internal/atomicfile"
)

// Archive is a node image in a file: a docker image archive, compressed with zstd, which docker load reads too.
type Archive struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"` // of the file
	SHA256 string `json:"sha256"`
	Image  string `json:"image"` // the tag that it has, or gets
	ID     string `json:"id"`    // of the image in the engine
	// Note says what was not proved, or not necessary; empty otherwise.
	Note string `json:"note,omitempty"`
}

// Keeper is what archives need of Docker.
type Keeper interface {
	ImageID(ctx context.Context, ref string) (string, error)
	TagImage(ctx context.Context, ref, tag string) error
	SaveImage(ctx context.Context, ref string, archive io.Writer) error
	LoadImage(ctx context.Context, archive io.Reader) error
}

// sums is the file beside an archive that says its SHA-256, as sha256sum -c reads it.
func sums(file string) string { return file + ".sha256" }

// Save writes a node image that the engine holds to a file, and beside it its SHA-256. An image that is known by its digest
// gets its tag, as archives have no digests. Until all is written there is only a file with .part at its end.
func Save(ctx context.Context, e Keeper, ref, file string, say func(string)) (Archive, error) {
	a := Archive{File: file, Image: Short(ref)}
	var err error
	if a.ID, err = e.ImageID(ctx, ref); err != nil {
		return a, err
	}
	switch tagged, err := e.ImageID(ctx, a.Image); {
	case err != nil:
		return a, err
	case tagged == "":
		if err := e.TagImage(ctx, ref, a.Image); err != nil {
			return a, err
		}
	case tagged != a.ID:
		return a, fmt.Errorf("%s is the tag of another image than %s: give it to that one by docker tag, as an archive has tags alone", a.Image, ref)
	}
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644) //nolint:gosec // it is to be handed around
	if err != nil {
		return a, fmt.Errorf("write the image: %w", err)
	}
	err = a.write(ctx, e, f, say)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, file)
	}
	if err != nil {
		return a, errors.Join(fmt.Errorf("write the image: %w", err), os.Remove(part))
	}
	return a, atomicfile.Replace(sums(file), []byte(a.SHA256+"  "+filepath.Base(file)+"\n"), 0o644)
}

func (a *Archive) write(ctx context.Context, e Keeper, f *os.File, say func(string)) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	if err := e.SaveImage(ctx, a.Image, &counted{to: z, say: func(n int64) { say(fmt.Sprintf("%d MB of %s", n>>20, a.Image)) }}); err != nil {
		return errors.Join(err, z.Close())
	}
	if err := errors.Join(z.Close(), out.Flush(), f.Sync()); err != nil {
		return err
	}
	about, err := f.Stat()
	if err != nil {
		return err
	}
	a.Bytes, a.SHA256 = about.Size(), hex.EncodeToString(sum.Sum(nil))
	return nil
}

// Load gives the engine the node image of a file. The engine is not touched where the file is not the one that was saved, or
// has something else in it.
func Load(ctx context.Context, e Keeper, file string, say func(string)) (Archive, error) {
	a := Archive{File: file}
	say("comparing " + file + " with what was saved")
	if err := a.prove(); err != nil {
		return a, err
	}
	open := func() (io.ReadCloser, error) {
		r, _, err := unpack(file)
		return r, err
	}
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return a, notArchive(file, err)
	}
	if len(manifest) != 1 || len(manifest[0].RepoTags) != 1 {
		return a, fmt.Errorf("%s has not one image with one tag in it: make it with lab image save", file)
	}
	a.Image = manifest[0].RepoTags[0]
	img, err := tarball.Image(open, nil)
	if err != nil {
		return a, notArchive(file, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return a, notArchive(file, err)
	}
	if err := checkStart(a.Image, append(config.Config.Entrypoint, config.Config.Cmd...)); err != nil {
		return a, err
	}
	before, err := e.ImageID(ctx, a.Image)
	if err != nil {
		return a, err
	}
	r, err := open()
	if err != nil {
		return a, err
	}
	defer r.Close()
	in := &counted{from: r, say: func(n int64) { say(fmt.Sprintf("%d MB of %s", n>>20, a.Image)) }}
	if err := e.LoadImage(ctx, in); err != nil {
		return a, err
	}
	if a.ID, err = e.ImageID(ctx, a.Image); err == nil && a.ID == "" {
		err = fmt.Errorf("docker has read %s and has no image %s", file, a.Image)
	}
	if a.ID == before {
		a.note("was here already")
	}
	return a, err
}

// prove compares a file with the SHA-256 beside it.
func (a *Archive) prove() error {
	f, err := os.Open(a.File)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if a.Bytes, err = io.Copy(sum, f); err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	a.SHA256 = hex.EncodeToString(sum.Sum(nil))
	said, err := os.ReadFile(sums(a.File))
	if errors.Is(err, fs.ErrNotExist) {
		a.note(sums(a.File) + " is not there, so the file is not proved to be what was saved")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the image's SHA-256: %w", err)
	}
	if want, _, _ := strings.Cut(strings.TrimSpace(string(said)), " "); want != a.SHA256 {
		return fmt.Errorf("%s is not what was saved: its SHA-256 is %s, and %s says %s: copy both again", a.File, a.SHA256, sums(a.File), want)
	}
	return nil
}

func (a *Archive) note(s string) {
	if a.Note != "" {
		a.Note += "; "
	}
	a.Note += s
}

func notArchive(file string, err error) error {
	return fmt.Errorf("%s is no image archive that lab image save or docker save has written: %w", file, err)
}

// unpack opens a file that is compressed with zstd or gzip, or not at all, and tells whether it is.
func unpack(file string) (r io.ReadCloser, packed bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false, fmt.Errorf("read the image: %w", err)
	}
	in := bufio.NewReaderSize(f, 1<<20)
	magic, _ := in.Peek(4) // a shorter file is no archive, which its reader says
	switch {
	case string(magic) == "\x28\xb5\x2f\xfd": // RFC 8878, 3.1.1
		z, err := zstd.NewReader(in)
		if err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		return &unpacked{z, z.Close, f}, true, nil
	case strings.HasPrefix(string(magic), "\x1f\x8b"): // RFC 1952, 2.3.1
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		return &unpacked{z, func() {}, f}, true, nil
	}
	return &unpacked{in, func() {}, f}, false, nil
}

// unpacked is a file that is being read through what decompresses it.
type unpacked struct {
	io.Reader
	end  func()
	file *os.File
}

func (u *unpacked) Close() error {
	u.end()
	return u.file.Close()
}

// counted says how much has passed, each 16 MB.
type counted struct {
	from    io.Reader
	to      io.Writer
	n, said int64
	say     func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.add(n)
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.add(n)
	return n, err
}

func (c *counted) add(n int) {
	c.n += int64(n)
	if c.n-c.said >= 16<<20 {
		c.said = c.n
		c.say(c.n)
	}
}
