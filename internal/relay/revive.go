package relay

import (
	"slices"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// In a transaction that has failed Postgres prepares nothing. So that a text such as ROLLBACK; EXECUTE p finds the client's statements on a
// backend that does not have them, three steps go in front of it, of which the client sees nothing: its first statement, which ends the
// failed transaction, or goes back in it; what prepares the statements; and what has a transaction fail again. Then the text is sent as it
// is. Nothing is left of a failed transaction but what AND CHAIN takes from it and the savepoints that ROLLBACK TO goes back to, and
// those are what the first step leaves.

// revive takes the first of those steps for a text that speaks of statements by name. The result is Blocked if it does.
func (m *Machine) revive(c *call) Next {
	if m.status != 'E' || m.revived || m.own || m.open || c.typ != wire.Query || m.names.Len() == 0 {
		return proceed
	}
	query, _, _ := wire.CString(c.body())
	first, ok := sessionstate.Ending(string(query))
	if !ok || slices.ContainsFunc(m.names.Names(), reserved) {
		return proceed
	}
	if next := m.block(c); next != proceed {
		return next
	}
	c.toBackend.set(m.appendQuery(c.toBackend.own(), first, attempt))
	m.revived = true
	m.holdBack()
	return Blocked
}

// failAgain takes the last of them, where the first has been taken.
func (m *Machine) failAgain(c *call) Next {
	if !m.revived {
		return proceed
	}
	m.revived = false
	switch m.status {
	case 'E':
		return proceed // there is something wrong with the first statement, as Postgres will say again
	case 'I':
		c.toBackend.set(m.appendQuery(c.toBackend.own(), "BEGIN", carry))
	}
	m.describeMissing(c.toBackend)
	m.push(entry{kind: wire.Describe, do: attempt})
	c.toBackend.set(m.appendCarrySync(c.toBackend.own()))
	m.holdBack()
	return Blocked
}
