package memnet

import (
	"errors"
	"io"
	"net"
	"time"
)

// Conn is one end of a connection. It behaves as a *net.TCPConn does, with these differences: what the peer wrote
// before its Close can always be read, and a write after it always fails with EPIPE (on a real network both depend on
// timing).
type Conn struct {
	in, out       *stream
	local, remote net.Addr
}

// pair returns the two ends of a connection.
func pair(near, far net.Addr, limit int) (dialled, accepted *Conn) {
	there, back := newStream(limit), newStream(limit)
	return &Conn{in: back, out: there, local: near, remote: far}, &Conn{in: there, out: back, local: far, remote: near}
}

// Read reads what has arrived, at least a byte; it blocks while nothing has.
//
// Errors: io.EOF when the peer has ended its side and everything is read, else *net.OpError around net.ErrClosed,
// os.ErrDeadlineExceeded or ECONNRESET.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

// Write writes all of p; it blocks while the peer's buffer is full. When it fails, n bytes have been written.
//
// Errors: *net.OpError around net.ErrClosed, os.ErrDeadlineExceeded, EPIPE or ECONNRESET.
func (c *Conn) Write(p []byte) (n int, err error) {
	n, err = c.out.write(p)
	return n, c.wrap("write", err)
}

// Close ends both directions. The peer still reads what has been written, then io.EOF.
func (c *Conn) Close() error {
	err := c.in.close(&c.in.reader)
	_ = c.out.close(&c.out.writer)
	return c.wrap("close", err)
}

// CloseWrite ends the direction to the peer, which reads io.EOF behind what has been written; reading goes on.
func (c *Conn) CloseWrite() error { return c.wrap("close", c.out.finish()) }

// Reset ends the connection abruptly: the peer's reads and writes fail with ECONNRESET at once, and what it has not
// read is lost.
func (c *Conn) Reset() {
	c.in.abort(&c.in.reader)
	c.out.abort(&c.out.writer)
}

// Written returns how many bytes this end has ever written.
func (c *Conn) Written() int64 {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.total
}

// Unread returns how many bytes have arrived at this end and have not been read.
func (c *Conn) Unread() int {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.data)
}

// LocalAddr returns this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the deadlines of reads and writes, also of those under way; the zero time is none.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.in.setDeadline(&c.in.reader, t))
}

// SetWriteDeadline sets the deadline of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.out.setDeadline(&c.out.writer, t))
}

func (c *Conn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}
