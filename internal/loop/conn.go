package loop

import (
	"errors"
	"io"
	"net"
	"runtime/debug"
	"time"
)

// ErrAgain is Read's answer when there is nothing to read now. Readable will be called when there is.
var ErrAgain = errors.New("nothing to read now")

// ShutdownTimeout is how long Shutdown waits for the peer.
const ShutdownTimeout = 5 * time.Second

// Handler is told what happens to a connection, on the connection's loop. It must not block.
type Handler interface {
	// Readable is called when Read has something to say: bytes, the end, or an error. It reads until ErrAgain or an
	// error, or says Want(false); it is not called again for what it leaves.
	Readable()
	// Drained is called when all that was written has been handed to the network.
	Drained()
	// Panicked is called after one of the other two has panicked.
	Panicked(v any, stack []byte)
}

// Conn is a connection that belongs to a loop. Its methods are to be called on that loop.
type Conn struct {
	loop    *Loop
	handler Handler
	t       transport

	paused   bool // the handler does not want to be told that it can read
	closed   bool
	shutting bool // Shutdown was called: the handler hears nothing more
	half     bool // our side of the connection is closed
	done     bool // shutting, and the peer's side is closed
	linger   Timer
}

// transport is how bytes come and go: on a descriptor that the loop polls itself, or by goroutines.
type transport interface {
	read(p []byte) (n int, err error) // ErrAgain if there is nothing
	write(p []byte)                   // copies what it cannot send now; an error is read's to tell
	unsent() int
	failed() error // why nothing can be written any more
	resume()       // the handler wants to read again: it is to be told if there is something
	closeWrite()
	close()
}

// Adopt makes nc belong to the loop, with h as its handler. The caller gives nc away: nothing else may use it any more.
// To be called on the loop.
func (l *Loop) Adopt(nc net.Conn, h Handler) *Conn {
	c := &Conn{loop: l, handler: h}
	l.conns[c] = struct{}{}
	if c.t = l.adoptPolled(nc, c); c.t == nil {
		c.t = newGoConn(nc, c)
	}
	return c
}

// Read reads into p what is there.
//
// Errors: ErrAgain if there is nothing now, io.EOF at the end, else what the connection says, write errors included.
func (c *Conn) Read(p []byte) (n int, err error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.t.read(p)
}

// Want says whether the handler is to be told that it can read. At first it is.
func (c *Conn) Want(read bool) {
	resumed := c.paused && read
	c.paused = !read
	if resumed && !c.closed {
		c.t.resume()
	}
}

// Write sends p, or queues what the network does not take now, of which it makes a copy. An error is told by Read.
func (c *Conn) Write(p []byte) {
	if len(p) > 0 && !c.closed {
		c.t.write(p)
	}
}

// Unsent returns how many bytes have been written and not been handed to the network yet.
func (c *Conn) Unsent() int { return c.t.unsent() }

// Close closes the connection at once, whatever is unsent. The handler hears nothing more.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.linger.Stop()
	delete(c.loop.conns, c)
	c.t.close()
}

// Shutdown closes the connection when everything unsent has been sent and the peer has closed its side, or after
// ShutdownTimeout: closing before the peer has read would take the last message away from it. The handler hears nothing
// more.
func (c *Conn) Shutdown() {
	if c.closed || c.shutting {
		return
	}
	c.shutting = true
	c.loop.Start(&c.linger, ShutdownTimeout, c.Close)
	c.Want(true)
	if c.t.unsent() == 0 {
		c.halfClose()
	}
}

// halfClose tells the peer that nothing more comes.
func (c *Conn) halfClose() {
	switch {
	case c.half:
	case c.t.failed() != nil:
		c.Close()
	default:
		c.half = true
		c.t.closeWrite()
	}
}

// readable tells the handler that it can read.
func (c *Conn) readable() {
	switch {
	case c.closed:
	case c.shutting:
		c.drop()
	case !c.paused || c.t.failed() != nil:
		defer c.recover()
		c.handler.Readable()
	}
}

// drained tells the handler that everything has been sent.
func (c *Conn) drained() {
	switch {
	case c.closed || c.t.unsent() > 0: // old news
	case c.shutting && c.done:
		c.Close()
	case c.shutting:
		c.halfClose()
	default:
		defer c.recover()
		c.handler.Drained()
	}
}

func (c *Conn) recover() {
	if v := recover(); v != nil {
		c.handler.Panicked(v, debug.Stack())
	}
}

// drop reads and forgets what still comes, and closes when nothing can come any more.
func (c *Conn) drop() {
	for {
		_, err := c.Read(c.loop.buf)
		switch {
		case err == nil:
		case errors.Is(err, ErrAgain):
			return
		case errors.Is(err, io.EOF) && c.t.unsent() > 0:
			c.done = true // the peer may still read
			return
		default:
			c.Close()
			return
		}
	}
}
