package throwawaypg

import (
	"io"
	"sync"
)

// tailBytes is enough for the lines in which a server says why it does not start.
const tailBytes = 4 << 10 // 4 KiB

// tail passes output on and keeps its end for an error message.
type tail struct {
	next io.Writer // may be nil

	mu   sync.Mutex // guards below
	kept []byte
}

// Write never fails: a log that cannot be written must not stop Postgres.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, b...)
	if extra := len(t.kept) - tailBytes; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	t.mu.Unlock()
	if t.next != nil {
		_, _ = t.next.Write(b)
	}
	return len(b), nil
}

// String returns what was written last.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
