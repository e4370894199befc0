package loop

import (
	"errors"
	"io"
	"net"
	"runtime/debug"
	"time"
)

// ErrAgain is Read's answer when there is nothing to read now. Readable will be called when there is.
var ErrAgain error = again{}

// again is ErrAgain's type. Being temporary, it does not end a *tls.Conn that reads from a Switch.
type again struct{}

func (again) Error() string   { return "nothing to read now" }
func (again) Timeout() bool   { return false }
func (again) Temporary() bool { return true }

const (
	// ShutdownTimeout is how long Shutdown waits for the peer.
	ShutdownTimeout = 5 * time.Second
	// turnBudget is how much a connection may read in one turn of its loop: the others come before the rest.
	turnBudget = 4 * BufferSize
)

// Handler is told what happens to a connection, on the connection's loop. It must not block.
type Handler interface {
	// Readable is called when Read has something to say: bytes, the end, or an error. It reads until ErrAgain or an
	// error, or says Want(false); it is not called again for what it leaves. ErrAgain may also mean that others come first.
	Readable()
	// Drained is called when all that was written has been handed to the network.
	Drained()
	// Panicked is called after one of the other two has panicked. If it panics as well, the connection is closed.
	Panicked(v any, stack []byte)
}

// Conn is a connection that belongs to a loop. Its methods are to be called on that loop.
type Conn struct {
	loop    *Loop
	handler Handler
	t       transport

	paused bool // the handler does not want to be told that it can read
	closed bool
	queued bool // in the loop's ready list
	done   bool // nothing comes any more: the end, or an error, has been read
	turn   uint32
	spent  int32  // bytes that were read in turn
	place  int32  // among the loop's connections
	linger *Timer // of Shutdown, after which the handler hears nothing more
}

func (c *Conn) shutting() bool { return c.linger != nil }

// Place implements bag.Member.
func (c *Conn) Place() *int32 { return &c.place }

// transport is how bytes come and go: on a descriptor that the loop polls itself, or by goroutines.
type transport interface {
	read(p []byte) (n int, err error) // ErrAgain if there is nothing
	write(p []byte)                   // copies what it cannot send now; an error is read's to tell
	unsent() int
	failed() error  // why nothing can be written any more
	resume()        // the handler wants to read again: it is to be told what comes
	buffered() bool // read has something to say that the handler will not be told by itself
	closeWrite()    // called when nothing is unsent, and again if it has left something unsent and that is sent
	close()

	leave()        // its loop, on which it is called: nothing is read until arrive
	left(to *Loop) // the same, once it is settled that the next event is arrive, and before that; it must not block
	arrive()       // at the other loop, on which it is called; an error is read's to tell
}

// Adopt makes nc belong to the loop, with h as its handler. The caller gives nc away: nothing else may use it any more,
// nor the state of a *tls.Conn, of which only what the connection goes on with is kept. To be called on the loop.
func (l *Loop) Adopt(nc net.Conn, h Handler) *Conn {
	if s, ok := nc.(*Switch); ok {
		nc = s.inner
	}
	c := &Conn{loop: l, handler: h}
	l.conns.Add(c)
	if c.t = l.adoptPolled(nc, c); c.t == nil {
		c.t = newGoConn(nc, c)
	}
	if c.t.buffered() {
		l.enqueue(c)
	}
	return c
}

// Move has c leave its loop for another, where arrived is called once c belongs there: until then c is nobody's. It reports
// whether c goes: false, and nothing has changed, if something is unsent or at its end, if the loop has news for c already,
// or if the other loop has ended. What the handler wants to read is reported there.
func (c *Conn) Move(to *Loop, arrived func()) bool {
	if !c.Movable() {
		return false
	}
	from, t := c.loop, c.t
	from.conns.Remove(c)
	t.leave()
	if to.post(func() { c.arrive(to, arrived) }, func() { t.left(to) }) {
		return true
	}
	c.arrive(from, func() {})
	return false
}

// Movable reports whether c can leave its loop now.
func (c *Conn) Movable() bool {
	return !c.closed && !c.shutting() && !c.done && !c.queued && c.t.unsent() == 0 && c.t.failed() == nil && !c.t.buffered()
}

func (c *Conn) arrive(at *Loop, arrived func()) {
	c.loop = at
	c.turn = at.turnNo - 1
	at.conns.Add(c)
	c.t.arrive()
	arrived()
	if !c.closed && c.t.buffered() {
		at.enqueue(c)
	}
}

// Read reads into p what is there.
//
// Errors: ErrAgain if there is nothing now, io.EOF at the end, else what the connection says, write errors included.
func (c *Conn) Read(p []byte) (n int, err error) {
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case len(p) == 0:
		return 0, nil
	case c.turn != c.loop.turnNo:
		c.turn, c.spent = c.loop.turnNo, 0
	case c.spent >= turnBudget:
		if c.t.buffered() {
			c.loop.enqueue(c)
		}
		return 0, ErrAgain
	}
	n, err = c.t.read(p)
	c.spent += int32(n)
	c.done = c.done || err != nil && !errors.Is(err, ErrAgain)
	return n, err
}

// Want says whether the handler is to be told that it can read. At first it is.
func (c *Conn) Want(read bool) {
	resumed := c.paused && read
	c.paused = !read
	if !resumed || c.closed {
		return
	}
	c.t.resume()
	if c.t.buffered() {
		c.loop.enqueue(c)
	}
}

// Write sends p, or queues what the network does not take now, of which it makes a copy. An error is told by Read. After
// Shutdown it does nothing.
func (c *Conn) Write(p []byte) {
	if len(p) > 0 && !c.closed && !c.shutting() {
		c.t.write(p)
	}
}

// Unsent returns how many bytes have been written and not been handed to the network yet.
func (c *Conn) Unsent() int { return c.t.unsent() }

// Broken reports whether nothing can be written any more. The handler's Readable is called when that happens.
func (c *Conn) Broken() bool { return c.closed || c.t.failed() != nil }

// Close closes the connection at once, whatever is unsent. The handler hears nothing more.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	if c.linger != nil {
		c.linger.Stop()
	}
	c.loop.conns.Remove(c)
	c.t.close()
}

// Shutdown closes the connection when everything unsent has been sent and the peer has closed its side, or after
// ShutdownTimeout: closing before the peer has read would take the last message away from it. The handler hears nothing
// more.
func (c *Conn) Shutdown() {
	if c.closed || c.shutting() {
		return
	}
	c.linger = new(Timer)
	c.loop.Start(c.linger, ShutdownTimeout, c.Close)
	c.Want(true)
	if c.t.unsent() == 0 {
		c.finish()
	}
}

// finish ends our side, everything having been sent, and with it the connection if the peer's has ended.
func (c *Conn) finish() {
	if c.done || c.t.failed() != nil {
		c.Close()
		return
	}
	c.t.closeWrite()
}

// readable tells the handler that it can read.
func (c *Conn) readable() {
	switch {
	case c.closed:
	case c.shutting():
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
	case c.shutting():
		c.finish()
	default:
		defer c.recover()
		c.handler.Drained()
	}
}

func (c *Conn) recover() {
	v := recover()
	if v == nil {
		return
	}
	stack := debug.Stack()
	c.loop.guard(func() {
		told := false
		defer func() {
			if !told {
				c.Close()
			}
		}()
		c.handler.Panicked(v, stack)
		told = true
	})
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
			return // the peer may still read
		default:
			c.Close()
			return
		}
	}
}
