package simulation

import (
	"encoding/binary"
	"time"

	"sluice/internal/wire"
)

// leave ends the session, with a goodbye or without.
func (c *client) leave() {
	switch c.rng.IntN(8) {
	case 0:
		c.cut("between two statements")
	case 1:
		b := c.batch()
		b.query(c.some())
		b.bytes = b.bytes[:1+c.rng.IntN(len(b.bytes)-1)]
		c.writeAll(b.bytes)
		c.cut("in the middle of a message")
	case 2:
		b := c.batch()
		c.segment(b)
		c.writeAll(b.bytes)
		<-time.After(between(c.rng, 0, 30*time.Millisecond))
		c.cut("in the middle of an answer")
	case 3:
		c.halfClose()
	case 4:
		c.farewell(true)
	default:
		c.farewell(false)
	}
}

// halfClose sends nothing more and reads to the end.
func (c *client) halfClose() {
	b := c.batch()
	b.query(c.some())
	c.writeAll(b.bytes)
	c.w.crowd.leave(c.life)
	_ = c.nc.CloseWrite()
	c.drainAnswers()
}

// farewell says goodbye, behind a statement or not. What was said before the goodbye is answered.
func (c *client) farewell(behindStatement bool) {
	b := c.batch()
	if behindStatement {
		b.query(c.some())
	}
	b.bytes = append(b.bytes, wire.Terminate, 0, 0, 0, 4)
	c.w.crowd.leave(c.life)
	c.writeAll(b.bytes)
	owed := len(c.owed)
	c.drainAnswers()
	if owed > 0 && c.unanswered && c.fatalCode() == "" {
		c.violation("said goodbye behind a statement, which was not answered")
	}
}

// drainAnswers reads to the end of the connection.
func (c *client) drainAnswers() {
	for !c.ended {
		msg, err := c.receive()
		if err != nil {
			c.unanswered = len(c.owed) > 0
			c.over(err)
			return
		}
		c.take(msg)
	}
}

// fatalCode returns what ended the session, as far as the client was told.
func (c *client) fatalCode() string {
	l, _ := c.w.crowd.of(c.life.session)
	return l.fatal
}

// frames follows the messages in what is read.
type frames struct {
	header []byte // the beginning of one
	body   int    // bytes that are still to come of it
}

func (f *frames) feed(p []byte) {
	for len(p) > 0 {
		if f.body > 0 {
			n := min(f.body, len(p))
			f.body -= n
			p = p[n:]
			continue
		}
		n := min(wire.HeaderLen-len(f.header), len(p))
		f.header, p = append(f.header, p[:n]...), p[n:]
		if len(f.header) == wire.HeaderLen {
			f.body = int(binary.BigEndian.Uint32(f.header[1:])) - 4
			f.header = f.header[:0]
		}
	}
}

// boundary reports whether nothing of a message is missing.
func (f *frames) boundary() bool { return len(f.header) == 0 && f.body == 0 }
