package simulation

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// account is what a client knows of what it has sent: which statements are unanswered, which wait for their commit, and
// which cannot have been committed, whatever happened, because nothing that commits them has been sent.
type account struct {
	block      byte            // of the transaction, as the answers so far tell: I, T or E
	sent       map[string]bool // stamps without an answer
	pending    []string        // stamps of what was done in the open transaction
	unsealed   map[string]bool // stamps that nothing commits that has been sent
	commitSent bool            // COMMIT has been sent in the open block
}

func newAccount() account {
	return account{block: 'I', sent: make(map[string]bool), unsealed: make(map[string]bool)}
}

// send notes a statement that is to be sent.
func (a *account) send(s statement, stamp string) {
	a.sent[stamp], a.unsealed[stamp] = true, true
	if s.verb == verbCommit {
		a.commitSent = true
	}
}

// seal notes that a Query or Sync is to be sent: it commits what is in no block.
func (a *account) seal() {
	if a.block == 'I' || a.commitSent {
		clear(a.unsealed)
	}
}

// done notes that a statement has succeeded, with its tag.
func (c *client) done(s statement, stamp, tag string) {
	delete(c.sent, stamp)
	switch {
	case tag == verbBegin:
		c.block = 'T'
	case tag == verbCommit:
		c.resolve(toldCommitted, "COMMIT")
		c.block, c.commitSent = 'I', false
	case tag == verbRollback:
		c.resolve(toldFailed, "ROLLBACK")
		c.block, c.commitSent = 'I', false
	case s.changes():
		c.pending = append(c.pending, stamp)
	}
}

// failed notes that a statement has failed and has taken its transaction with it.
func (c *client) failed(stamps []string, why string) {
	for _, s := range stamps {
		if c.sent[s] {
			delete(c.sent, s)
			c.w.ledger.tell(s, toldFailed, why)
		}
	}
	c.resolve(toldFailed, why)
	if c.block == 'T' {
		c.block = 'E'
	}
}

// resolve tells the ledger what became of the open transaction.
func (c *client) resolve(what told, why string) {
	for _, s := range c.pending {
		c.w.ledger.tell(s, what, why)
	}
	c.pending = nil
}

// over notes that the connection has ended under the client.
func (c *client) over(err error) {
	c.note("connection: %v", err)
	if !c.read.boundary() { // no message can be sent into the middle of another
		c.w.crowd.update(c.life, func(l *life) { l.torn = true })
	}
	c.gone(nil)
}

// fatal notes that the session is over, and was said to be so; nothing may follow.
func (c *client) fatal(m *pgproto3.ErrorResponse) {
	c.note("FATAL %s %s", m.Code, m.Message)
	c.w.outcomes.add("session: " + m.Code + " " + m.Message)
	c.w.crowd.update(c.life, func(l *life) { l.fatal = m.Code })
	response := *m
	if msg, err := c.receive(); err == nil {
		c.violation("%T behind FATAL %s", msg, m.Code)
	}
	c.gone(&response)
}

// gone settles the account of a session that is over; m is what the client was told, nil if nothing.
func (c *client) gone(m *pgproto3.ErrorResponse) {
	what, why := toldUnknown, "nothing: the client cut the connection"
	if m != nil {
		what, why = c.meaning(m), m.Code+" "+m.Message
	}
	var open []string
	for s := range c.sent {
		open = append(open, s)
	}
	slices.Sort(open)
	for _, s := range append(open, c.pending...) {
		if c.unsealed[s] {
			c.w.ledger.tell(s, toldFailed, "nothing that could commit it was sent; then "+why)
		} else {
			c.w.ledger.tell(s, what, why)
		}
	}
	c.sent, c.pending, c.ended = nil, nil, true
	c.w.line.leave(c.life.session)
	if m != nil {
		c.w.crowd.leave(c.life)
	}
}

// meaning tells what the client may conclude for statements without an answer. Whose FATAL a 57P01 is the log knows: it
// was written before the client was told.
func (c *client) meaning(m *pgproto3.ErrorResponse) told {
	end := c.w.ends.of(c.life.addr)
	switch {
	case m.Code == "08007", strings.Contains(m.Detail, "unknown"):
		return toldUnknown // Sluice says so
	case m.Code == "57P01" && (end == nil || end.reason == "backend_terminated"):
		return toldUnknown // Postgres says it, in the middle of anything
	}
	return toldFailed
}
