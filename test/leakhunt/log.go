package leakhunt

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
