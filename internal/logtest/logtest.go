// Package logtest keeps what a program, or a part of one, prints while a test looks at it.
package logtest

import (
	"strings"
	"sync"
)

// Buffer keeps what is written to it. Its zero value is empty, and any number of goroutines may use it.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
