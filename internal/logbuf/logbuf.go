// Package logbuf keeps in memory what tests log.
package logbuf

import (
	"bytes"
	"sync"
)

// Buffer is an io.Writer that can be read while it is written. The zero value is ready to use; it is safe for concurrent use.
type Buffer struct {
	mu  sync.Mutex // guards below
	buf bytes.Buffer
}

// Write implements io.Writer. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what has been written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Cap returns how many bytes of memory the buffer takes.
func (b *Buffer) Cap() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Cap()
}
