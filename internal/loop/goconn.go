package loop

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of the buffer into which a connection's goroutine reads: small while little comes, large while a stream runs.
const (
	smallRead = 4 << 10  // 4 KiB
	largeRead = 64 << 10 // 64 KiB
)

// lastWords is how long a peer that takes nothing any more may go on without the end of what it says.
const lastWords = time.Second

// goConn is the portable transport: a goroutine reads ahead at most one buffer, another writes while there is something
// to write. It works with every net.Conn, TLS included, and in bubbles of testing/synctest.
type goConn struct {
	c    *Conn
	nc   net.Conn
	half bool                 // closeWrite was called
	home atomic.Pointer[Loop] // where c is, or arrives next

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
	t.home.Store(c.loop)
	t.help(t.reader)
	return t
}

// help has f run on a goroutine, for which the loop that c is on now waits at its end. To be called on that loop.
func (t *goConn) help(f func()) { t.c.loop.helpers.Go(f) }

// post has f called on c's loop, wherever c goes meanwhile. Where c is about to arrive, f waits for that.
func (t *goConn) post(f func()) bool {
	at := t.home.Load()
	return at.Post(func() {
		if t.home.Load() == at && t.c.loop == at {
			f()
			return
		}
		t.post(f)
	})
}

func (t *goConn) leave() {}

// left counts for what is posted from now on; what was posted before finds out.
func (t *goConn) left(to *Loop) { t.home.Store(to) }

func (t *goConn) arrive() {}

func (t *goConn) read(p []byte) (n int, err error) {
	if !t.handed {
		return 0, ErrAgain // where writing has failed too: the reading goroutine ends soon, and says so
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
		t.help(t.writer)
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
	t.help(func() { _ = t.nc.Close() })
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
	t.help(func() {
		if w.CloseWrite() != nil {
			t.post(t.c.Close)
		}
	})
}

// reader is the goroutine that reads.
func (t *goConn) reader() {
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
	ok := t.post(func() {
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
	var buf []byte
	for {
		t.mu.Lock()
		buf, t.pending = t.pending, buf[:0]
		t.inFlight = len(buf)
		if len(buf) == 0 {
			t.pending, t.writing = nil, false
			t.mu.Unlock()
			t.post(t.c.drained)
			return
		}
		t.mu.Unlock()
		if _, err := t.nc.Write(buf); err != nil {
			t.mu.Lock()
			t.pending, t.inFlight, t.writing, t.writeErr = nil, 0, false, err
			t.mu.Unlock()
			_ = t.nc.SetReadDeadline(time.Now().Add(lastWords))
			t.post(t.c.readable)
			return
		}
	}
}
