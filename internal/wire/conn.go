package wire

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
)

// ErrTooLarge is a message longer than the reader allows.
var ErrTooLarge = errors.New("message too large")

// Error is a failure of one side's connection.
type Error struct {
	Side Side
	Op   string // "read" or "write"
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Side, e.Op, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Message is what pgproto3's messages can do.
type Message interface {
	Encode(dst []byte) ([]byte, error)
}

// Conn reads and writes whole messages on a connection that its user owns. It never reads past the message that it
// returns, so the connection can be handed on at any message boundary. Deadlines are the user's to set. Conn is not
// safe for concurrent use, but one goroutine may read while another writes.
type Conn struct {
	nc   net.Conn
	side Side
	buf  []byte // body of the last message read
	out  []byte // queued
}

// NewConn returns a Conn on nc, whose errors name side.
func NewConn(nc net.Conn, side Side) *Conn { return &Conn{nc: nc, side: side} }

// NetConn returns the connection underneath.
func (c *Conn) NetConn() net.Conn { return c.nc }

// ReadMessage reads one message. The body is valid until the next call. It blocks until the message is whole.
//
// Errors: *Error, around ErrTooLarge when the body is longer than maxBody (nothing of it has been read then), around
// ErrLength, or around what the connection said (io.EOF only between messages).
func (c *Conn) ReadMessage(maxBody int) (typ byte, body []byte, err error) {
	var h [HeaderLen]byte
	if _, err := io.ReadFull(c.nc, h[:]); err != nil {
		return 0, nil, c.readError(err)
	}
	typ, n, _, err := Header(h[:])
	if err != nil {
		return typ, nil, c.readError(err)
	}
	if n > maxBody {
		return typ, nil, c.readError(fmt.Errorf("%w: %q with %d bytes, at most %d", ErrTooLarge, typ, n, maxBody))
	}
	body, err = readBody(c.nc, c.buf, n)
	c.buf = body
	if err != nil {
		return typ, nil, c.readError(err)
	}
	return typ, body, nil
}

// firstRead is what is made room for on nothing but the peer's announcement.
const firstRead = 1 << 10 // 1 KiB: nearly all messages of a login

// firstWrite is what is made room for before the first message is encoded.
const firstWrite = 512 // what nearly all clients are told at once when they are logged in

// readBody reads n bytes, into buf as far as that has room. It makes room as they come: who announces much and sends
// nothing costs nothing.
func readBody(r io.Reader, buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		if len(buf) == cap(buf) {
			outgrown := buf
			buf = append(make([]byte, 0, min(n, max(firstRead, 4*len(buf)))), buf...)
			clear(outgrown) // it may hold a part of a password
		}
		m, err := io.ReadFull(r, buf[len(buf):min(n, cap(buf))])
		buf = buf[:len(buf)+m]
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// Queue encodes the messages, to be written with what is sent next. Errors: *Error.
func (c *Conn) Queue(msgs ...Message) error {
	if c.out == nil {
		c.out = make([]byte, 0, firstWrite)
	}
	for _, m := range msgs {
		out, err := m.Encode(c.out)
		if err != nil {
			return &Error{Side: c.side, Op: "write", Err: err}
		}
		c.out = out
	}
	return nil
}

// Forget overwrites the body of the last message read, which may hold a secret.
func (c *Conn) Forget() { clear(c.buf[:cap(c.buf)]) }

// Send encodes the messages and writes them, with what is queued, with one call. Errors: *Error.
func (c *Conn) Send(msgs ...Message) error {
	if err := c.Queue(msgs...); err != nil {
		return err
	}
	return c.Write(nil)
}

// Write writes what is queued and p, which holds whole messages, with one call. Errors: *Error.
func (c *Conn) Write(p []byte) error {
	if len(c.out) > 0 {
		p = append(c.out, p...)
		c.out = p[:0]
		defer clear(p) // it may hold a password
	}
	if _, err := c.nc.Write(p); err != nil {
		return &Error{Side: c.side, Op: "write", Err: err}
	}
	return nil
}

func (c *Conn) readError(err error) error { return &Error{Side: c.side, Op: "read", Err: err} }

// pgproto3's messages satisfy Message.
var _ Message = (*pgproto3.ErrorResponse)(nil)
