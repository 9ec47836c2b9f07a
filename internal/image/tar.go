package image

import (
	"archive/tar"
	"io"
)

// tarBlock is what the length of everything in a tar archive is a multiple of.
const tarBlock = 512

// tarEnd is how many zeros a tar archive ends with.
const tarEnd = 2 * tarBlock

// addHeader writes what is before a file's content in a tar archive.
func addHeader(to io.Writer, h *tar.Header) error { return tar.NewWriter(to).WriteHeader(h) }

// padding is what follows a file's content in a tar archive.
func padding(size int64) []byte { return make([]byte, -size&(tarBlock-1)) }
