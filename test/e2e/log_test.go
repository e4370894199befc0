package e2e

import (
	"bytes"
	"sync"
)

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex // guards below
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// capacity is how much memory the buffer takes.
func (b *logBuffer) capacity() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Cap()
}
