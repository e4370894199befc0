package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream carries bytes in one direction. Whoever waits does so on a channel and without the mutex, so that a blocked
// reader or writer is durably blocked in a synctest bubble.
type stream struct {
	writing chan struct{} // holds a token while a Write is under way, so that large writes do not mix

	mu      sync.Mutex    // guards below; never held while waiting
	changed chan struct{} // closed at the next change
	data    []byte        // written and not read yet
	limit   int           // the most that data holds
	total   int64         // ever written
	reader  end
	writer  end
	ended   bool // the writer has said its last byte
	reset   bool
}

// end is what a stream knows of one of its two users.
type end struct {
	closed  bool // by its own Close
	late    bool // its deadline has passed
	timer   *time.Timer
	setting int // counts deadlines set, so that a timer that was replaced does nothing
}

func newStream(limit int) *stream {
	return &stream{writing: make(chan struct{}, 1), changed: make(chan struct{}), limit: limit}
}

// wake tells everybody who waits that something has changed. s.mu is held.
func (s *stream) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) read(p []byte) (int, error) {
	for {
		n, wait, err := s.tryRead(p)
		if wait == nil {
			return n, err
		}
		<-wait
	}
}

// tryRead reads what there is. A non-nil wait is closed when it is worth trying again.
func (s *stream) tryRead(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reader.closed:
		return 0, nil, net.ErrClosed
	case s.reader.late:
		return 0, nil, os.ErrDeadlineExceeded
	case s.reset:
		return 0, nil, os.NewSyscallError("read", syscall.ECONNRESET)
	case len(p) == 0:
		return 0, nil, nil
	case len(s.data) > 0:
		n = copy(p, s.data)
		s.data = s.data[n:]
		s.wake()
		return n, nil, nil
	case s.ended:
		return 0, nil, io.EOF
	}
	return 0, s.changed, nil
}

func (s *stream) write(p []byte) (int, error) {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	written := 0
	for {
		n, wait, err := s.tryWrite(p[written:])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
		if wait != nil {
			<-wait
		}
	}
}

// tryWrite writes what there is room for. A non-nil wait is closed when it is worth trying again.
func (s *stream) tryWrite(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch room := s.limit - len(s.data); {
	case s.writer.closed:
		return 0, nil, net.ErrClosed
	case s.writer.late:
		return 0, nil, os.ErrDeadlineExceeded
	case s.reset:
		return 0, nil, os.NewSyscallError("write", syscall.ECONNRESET)
	case s.ended, s.reader.closed:
		return 0, nil, os.NewSyscallError("write", syscall.EPIPE)
	case room > 0:
		n = min(room, len(p))
		s.data = append(s.data, p[:n]...)
		s.total += int64(n)
		s.wake()
		return n, nil, nil
	}
	return 0, s.changed, nil
}

// close ends e's use of the stream: the writer's last byte is said, or the reader takes no more.
func (s *stream) close(e *end) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	e.closed = true
	if e.timer != nil {
		e.timer.Stop()
	}
	if e == &s.writer {
		s.ended = true
	} else {
		s.data = nil
	}
	s.wake()
	return nil
}

// finish says the writer's last byte without closing its end.
func (s *stream) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writer.closed {
		return net.ErrClosed
	}
	s.ended = true
	s.wake()
	return nil
}

// abort closes e and drops what is under way; reads and writes of the other end say ECONNRESET from now on.
func (s *stream) abort(e *end) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
	}
	e.closed, s.reset, s.data = true, true, nil
	s.wake()
}

// setDeadline sets the deadline of e; the zero time is none.
func (s *stream) setDeadline(e *end, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.setting++
	left := time.Until(t)
	e.late = !t.IsZero() && left <= 0
	if !t.IsZero() && left > 0 {
		setting := e.setting
		e.timer = time.AfterFunc(left, func() { s.expire(e, setting) })
	}
	s.wake()
	return nil
}

func (s *stream) expire(e *end, setting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.setting == setting {
		e.late = true
		s.wake()
	}
}
