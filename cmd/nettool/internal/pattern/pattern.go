// Package pattern makes bytes that both ends of a transfer can make for
// themselves, so that either can tell a changed byte without having been sent
// the original.
package pattern

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
)

// Reader returns the first n bytes of the pattern. They do not compress.
func Reader(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{'n', 'e', 't', 't', 'o', 'o', 'l'}), n)
}

// Sum reads r to its end and returns how many bytes came and their SHA-256 in hex.
func Sum(r io.Reader) (int64, string, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	if err != nil {
		return n, "", fmt.Errorf("read after %d bytes: %w", n, err)
	}
	return n, hex.EncodeToString(hash.Sum(nil)), nil
}

// SumOf returns the SHA-256 in hex of b.
func SumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
