package relay

import (
	"bytes"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// numbers is what is known of a session that asks for currval or lastval, which is kept by the backend that ran nextval.
type numbers struct {
	asked     bool  // in the transaction that is under way
	ran       bool  // in it, a command has run
	drawn     bool  // and one that may have drawn a number
	across    bool  // the session asks in later transactions than it draws in
	due       bool  // the last transaction has drawn a number, for which the session may still ask
	undefined uint8 // how often it was told that there is none
}

// ownNumbers is called before a text is sent that asks for currval or lastval. What earlier clients left on the backend is
// discarded first, which waits until no reply is outstanding (Blocked); in a transaction that has failed Postgres will refuse
// the text. From then on that is discarded whenever a backend changes hands.
func (m *Machine) ownNumbers(c *call) Next {
	*m.p.Sequences = true
	if m.fresh {
		return proceed
	}
	if next := m.block(c); next != proceed {
		return next
	}
	if m.status == 'E' {
		return proceed
	}
	c.toBackend.set(m.appendEnd(m.appendDiscard(c.toBackend.own(), carry)))
	m.fresh = true
	return proceed
}

// useNumbers is called before a statement is used that asks for them. Its Parse has had Params.Sequences set, so what others
// left is gone, unless the backend was attached without that.
func (m *Machine) useNumbers(c *call) {
	m.numbers.asked = m.numbers.asked || c.typ == wire.Bind
	if !m.fresh { // and it stays so: should an earlier message fail, this one is skipped
		c.toBackend.set(m.appendDiscard(c.toBackend.own(), swallow))
	}
}

// runNumbers is called before a text is sent that runs a prepared statement, which may be one that asks for them, or one that
// draws them: what it asks for may be of an earlier transaction. The result is that of ownNumbers.
func (m *Machine) runNumbers(c *call) Next {
	next := m.ownNumbers(c)
	if next == proceed && (c.typ == wire.Query || c.typ == wire.Bind) {
		m.numbers.asked, m.numbers.across = true, true
		m.blameAsking(c.text())
	}
	return next
}

// drew takes note of a command, which may have drawn a number from a sequence, by a column's default or a trigger.
func (m *Machine) drew(tag []byte) {
	m.numbers.ran = true
	verb, _, _ := bytes.Cut(tag, []byte(" "))
	switch string(verb) {
	case "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "DO", "CALL":
		m.numbers.drawn = true
	}
}

// noteNumbers takes note of what a text says about sequences.
func (m *Machine) noteNumbers(s sessionstate.Signals) {
	if s&sessionstate.Nextval != 0 {
		m.numbers.drawn = true
	}
}

// settleNumbers draws the conclusions at the end of a transaction. A session that asks for the number of an earlier
// transaction is pinned behind each that draws one, until the end of the next that does not.
func (m *Machine) settleNumbers() {
	n := &m.numbers
	if !n.ran && !n.asked {
		return // a statement was prepared
	}
	n.across = n.across || n.asked && !n.drawn
	n.due = n.across && n.drawn
	n.asked, n.ran, n.drawn = false, false, false
	switch {
	case n.due:
		m.Pin(PinSequence)
	case m.pin == PinSequence && !m.forever:
		m.pin = ""
	}
}

// undefinedNumber takes note that a session which asks across transactions was told that there is no number. If that happens
// again, it draws them where that is not seen, or asks more than once: it keeps its backend to its end.
func (m *Machine) undefinedNumber() {
	n := &m.numbers
	if !n.asked {
		return
	}
	if n.undefined++; n.undefined > 1 {
		m.pinForever(PinSequence)
	}
}
