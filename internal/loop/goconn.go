package loop

import (
	"net"
	"sync"
)

// Sizes of the buffer into which a connection's goroutine reads: small while little comes, large while a stream runs.
const (
	smallRead = 4 << 10  // 4 KiB
	largeRead = 64 << 10 // 64 KiB
)

// goConn is the portable transport: a goroutine reads ahead at most one buffer, another writes while there is something
// to write. It works with every net.Conn, TLS included, and in bubbles of testing/synctest.
type goConn struct {
	c    *Conn
	nc   net.Conn
	half bool // closeWrite was called

	taken chan struct{} // gives the buffer back to the reading goroutine
	gone  chan struct{} // closed by close

	// Handed over by the reading goroutine, back by taken. These belong to the loop.
	in      []byte
	readErr error
	handed  bool // in and readErr are the loop's now

	mu       sync.Mutex // guards below
	pending  []byte     // to be written next
	inFlight int        // bytes being written now
	writing  bool       // a goroutine writes
	writeErr error
}

func newGoConn(nc net.Conn, c *Conn) *goConn {
	t := &goConn{c: c, nc: nc, taken: make(chan struct{}, 1), gone: make(chan struct{})}
	c.loop.helpers.Add(1)
	go t.reader()
	return t
}

func (t *goConn) read(p []byte) (n int, err error) {
	if !t.handed {
		if err := t.failed(); err != nil {
			return 0, err
		}
		return 0, ErrAgain
	}
	n = copy(p, t.in)
	t.in = t.in[n:]
	switch {
	case len(t.in) > 0:
	case t.readErr == nil:
		t.handed = false
		t.taken <- struct{}{}
	case n == 0:
		return 0, t.readErr
	}
	return n, nil
}

func (t *goConn) resume()        {}
func (t *goConn) buffered() bool { return t.handed }

func (t *goConn) write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writeErr != nil {
		return
	}
	t.pending = append(t.pending, p...)
	if !t.writing {
		t.writing = true
		t.c.loop.helpers.Add(1)
		go t.writer()
	}
}

func (t *goConn) unsent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pending) + t.inFlight
}

func (t *goConn) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writeErr
}

// close leaves closing to a goroutine, because closing TLS writes, which may block for a while.
func (t *goConn) close() {
	close(t.gone)
	t.c.loop.helpers.Add(1)
	go t.closer()
}

func (t *goConn) closer() {
	defer t.c.loop.helpers.Done()
	_ = t.nc.Close()
}

func (t *goConn) closeWrite() {
	if t.half {
		return
	}
	t.half = true
	w, ok := t.nc.(interface{ CloseWrite() error })
	if !ok {
		t.c.Close()
		return
	}
	t.c.loop.helpers.Add(1)
	go t.writeCloser(w)
}

func (t *goConn) writeCloser(w interface{ CloseWrite() error }) {
	defer t.c.loop.helpers.Done()
	if w.CloseWrite() != nil {
		t.c.loop.Post(t.c.Close)
	}
}

// reader is the goroutine that reads.
func (t *goConn) reader() {
	defer t.c.loop.helpers.Done()
	buf := make([]byte, smallRead)
	for {
		n, err := t.nc.Read(buf)
		if !t.hand(buf[:n], err) || err != nil {
			return
		}
		switch {
		case n == len(buf) && n < largeRead:
			buf = make([]byte, largeRead)
		case n < smallRead && len(buf) > smallRead:
			buf = make([]byte, smallRead)
		}
	}
}

// hand gives what was read to the loop and waits until it has been taken. It reports false when nobody will take it.
func (t *goConn) hand(p []byte, err error) bool {
	ok := t.c.loop.Post(func() {
		t.in, t.readErr, t.handed = p, err, true
		t.c.readable()
	})
	if !ok || err != nil {
		return false
	}
	select {
	case <-t.taken:
		return true
	case <-t.gone:
		return false
	}
}

// writer is the goroutine that writes while there is something to write.
func (t *goConn) writer() {
	defer t.c.loop.helpers.Done()
	var buf []byte
	for {
		t.mu.Lock()
		buf, t.pending = t.pending, buf[:0]
		t.inFlight = len(buf)
		if len(buf) == 0 {
			t.pending, t.writing = nil, false
			t.mu.Unlock()
			t.c.loop.post(event{conn: t.c, kind: eventDrained})
			return
		}
		t.mu.Unlock()
		if _, err := t.nc.Write(buf); err != nil {
			t.mu.Lock()
			t.pending, t.inFlight, t.writing, t.writeErr = nil, 0, false, err
			t.mu.Unlock()
			t.c.loop.post(event{conn: t.c, kind: eventReadable})
			return
		}
	}
}
