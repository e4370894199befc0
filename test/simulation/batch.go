package simulation

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// batch is what a client sends together.
type batch struct {
	c       *client
	bytes   []byte
	stamped bool // some of it names the session, and needs a backend
}

func (c *client) batch() *batch { return &batch{c: c} }

func (b *batch) add(m wire.Message) {
	p, err := m.Encode(b.bytes)
	if err != nil {
		b.c.violation("encode: %v", err)
		return
	}
	b.bytes = p
}

// query adds a Query of these statements, which are given stamps.
func (b *batch) query(statements ...statement) {
	texts := make([]string, len(statements))
	for i := range statements {
		s := &statements[i]
		s.stamp = b.c.nextStamp()
		texts[i] = s.String()
		b.c.account.send(*s, s.stamp)
	}
	b.stamped = true
	b.add(&pgproto3.Query{String: strings.Join(texts, "; ")})
	b.c.seal()
	b.c.push(&owed{kind: wire.Query, statements: statements})
}

// copyData adds what belongs to a COPY, in pieces that do not respect its lines.
func (b *batch) copyData(s statement, fail bool) {
	text := copyText(s, s.stamp)
	for len(text) > 0 {
		n := 1 + b.c.rng.IntN(len(text))
		b.add(&pgproto3.CopyData{Data: []byte(text[:n])})
		text = text[n:]
	}
	if fail {
		b.add(&pgproto3.CopyFail{Message: "as it was told"})
	} else {
		b.add(&pgproto3.CopyDone{})
	}
}

func (b *batch) parse(name string, s statement) {
	b.add(&pgproto3.Parse{Name: name, Query: s.String()})
	b.c.push(&owed{kind: wire.Parse, name: name, text: s})
}

func (b *batch) parseBroken(name string) {
	b.add(&pgproto3.Parse{Name: name, Query: "SYNTAX error of " + b.c.life.session})
	b.c.push(&owed{kind: wire.Parse, name: name, broken: true})
}

func (b *batch) describe(name string) {
	b.add(&pgproto3.Describe{ObjectType: 'S', Name: name})
	b.c.push(&owed{kind: wire.Describe, name: name})
}

func (b *batch) closeName(name string) {
	b.add(&pgproto3.Close{ObjectType: 'S', Name: name})
	b.c.push(&owed{kind: wire.Close, name: name})
}

// run adds Bind and Execute of what name is thought to mean.
func (b *batch) run(name string, s statement) {
	stamp := b.c.nextStamp()
	b.stamped = true
	b.add(&pgproto3.Bind{PreparedStatement: name, Parameters: [][]byte{[]byte(stamp)}})
	b.c.push(&owed{kind: wire.Bind, name: name})
	if chance(b.c.rng, 40) {
		b.add(&pgproto3.Describe{ObjectType: 'P'})
		b.c.push(&owed{kind: wire.Describe, portal: true})
	}
	b.add(&pgproto3.Execute{})
	b.c.account.send(s, stamp)
	b.c.push(&owed{kind: wire.Execute, stamp: stamp})
}

func (b *batch) sync() {
	b.add(&pgproto3.Sync{})
	b.c.seal()
	b.c.push(&owed{kind: wire.Sync})
}

func (b *batch) flush() { b.add(&pgproto3.Flush{}) }

// transmit writes the batch, cut into pieces anywhere. Whether the connection fails is found by reading.
func (b *batch) transmit() {
	c := b.c
	begins := c.block == 'I' && !c.pinned && c.who.mode == "transaction" && b.stamped
	if begins {
		c.w.line.come(c.life.session, c.who.tenant, c.who.shelf())
	}
	c.w.crowd.update(c.life, func(l *life) {
		if l.working.IsZero() {
			l.working = time.Now()
		}
	})
	c.writeAll(b.bytes)
	if begins {
		c.w.line.whole(c.life.session)
	}
	b.bytes = nil
}

// writeAll writes p, sometimes in pieces.
func (c *client) writeAll(p []byte) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(patience))
	for chance(c.rng, 30) && len(p) > 1 {
		n := 1 + c.rng.IntN(len(p)-1)
		if _, err := c.nc.Write(p[:n]); err != nil {
			return
		}
		p = p[n:]
		<-time.After(between(c.rng, 0, 3*time.Millisecond))
	}
	_, _ = c.nc.Write(p)
}

// rested notes that the client waits for no answer any more.
func (c *client) rested() {
	c.w.line.leave(c.life.session)
	limit := c.w.rules.queryLimit()
	c.w.crowd.update(c.life, func(l *life) {
		if limit > 0 && !l.working.IsZero() && time.Since(l.working) >= limit {
			l.slow = time.Now()
		}
		l.working = time.Time{}
	})
}
