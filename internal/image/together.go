package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Together gives several images as one archive of the same kind as Open's, which a node reads at once. What images share is in it
// once. It is written as it is read.
func Together(images ...*Image) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeTogether(w, images)) }()
	return r
}

func writeTogether(to io.Writer, images []*Image) error {
	var all tarball.Manifest
	w, done := tar.NewWriter(to), map[string]bool{}
	for _, i := range images {
		m, err := i.copyTo(w, done)
		if err != nil {
			return fmt.Errorf("archive image %s: %w", i.Ref(), err)
		}
		all = append(all, m...)
	}
	manifest, err := json.Marshal(all)
	if err == nil {
		err = w.WriteHeader(&tar.Header{Name: manifestFile, Mode: 0o444, Size: int64(len(manifest))})
	}
	if err == nil {
		_, err = w.Write(manifest)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("archive images: %w", err)
	}
	return nil
}

// copyTo writes what is in the image's archive and not done yet, but for its manifest, which it returns.
func (i *Image) copyTo(w *tar.Writer, done map[string]bool) (m tarball.Manifest, err error) {
	for r := tar.NewReader(bytes.NewReader(i.archive)); ; {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return m, nil
		case err != nil:
			return nil, err
		case h.Name == manifestFile:
			err = json.NewDecoder(r).Decode(&m)
		case done[h.Name]:
		default:
			done[h.Name] = true
			if err = w.WriteHeader(h); err == nil {
				_, err = io.Copy(w, r) //nolint:gosec // our own images
			}
		}
		if err != nil {
			return nil, err
		}
	}
}
