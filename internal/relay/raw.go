package relay

import (
	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// goRaw pins the session and makes the backend the client's own: it is given the client's statements under the client's
// names and loses everybody else's, so that what the client does has the meaning of a direct connection, whatever it is. That
// waits until no reply is outstanding (Blocked), and it does not happen in a transaction that has failed, where Postgres would
// refuse it; the session is then pinned but not raw yet.
func (m *Machine) goRaw(c *call, reason string) Next {
	m.blame(sessionstate.Ambiguous, c.text())
	m.pinForever(reason)
	if next := m.block(c); next != proceed {
		return next
	}
	m.speak(c, true) // of what it does from now on nothing is known
	m.takeNames(c.toBackend, true)
	switch {
	case m.await:
		return Blocked
	case m.status == 'E':
		return proceed
	}
	b := c.toBackend.own()
	if u := m.names.Lookup(nil); u != nil && m.backend.Unnamed != u && c.typ != wire.Query {
		b = m.appendOwnStatement(b, "", u, !m.InBlock())
	}
	c.toBackend.set(m.appendEnd(b))
	m.backend.Clear()
	m.names.Clear()
	m.raw, m.own = true, false
	return proceed
}

// parseRaw forwards a Parse as it is.
func (m *Machine) parseRaw(c *call) Next {
	m.p.Counters.ClientParses++
	m.p.Counters.BackendParses++
	return m.send(c, entry{kind: wire.Parse})
}

// appendCarrySync ends what Sluice has injected on its own account.
func (m *Machine) appendCarrySync(b []byte) []byte {
	m.push(entry{kind: wire.Sync, do: carry})
	return wire.AppendHeader(b, wire.Sync, 0)
}

// carryName is the name of the statement and of the portal of injected commands.
const carryName = prepared.Prefix + "carry"

// appendDiscard injects a DISCARD SEQUENCES, in the transaction that is under way.
func (m *Machine) appendDiscard(b []byte, do action) []byte {
	run := m.appendOwnRun
	if m.InBlock() {
		run = m.appendRunAside
	}
	b = appendParse(b, carryName, "DISCARD SEQUENCES\x00\x00\x00")
	m.push(entry{kind: wire.Parse, do: do})
	b = run(b, carryName, do)
	b = appendClose(b, carryName)
	m.push(entry{kind: wire.Close, do: do})
	return b
}

// DiscardSequences has the backend that has just been attached forget what earlier clients did to its sequences. It is
// settled, unseen, before the client's first message, whose bytes may follow in the same write.
func (m *Machine) DiscardSequences(toBackend *Out) {
	toBackend.set(m.appendCarrySync(m.appendDiscard(toBackend.own(), carry)))
	m.fresh = true
}

// Abandon turns the machine around for a client that is gone. What the backend still sends is swallowed, what the client
// left open is ended and rolled back, and if reset is set DISCARD ALL follows; when the machine is Free the backend can
// serve somebody else. ok is false if the backend cannot be brought back: the client's last message is half sent.
//
// A query that runs goes on running: cancelling it is the caller's business.
func (m *Machine) Abandon(reset bool, toBackend *Out) (ok bool) {
	if m.pass > 0 {
		return false
	}
	m.gone, m.reset = true, reset
	m.unused, m.await, m.due = false, false, false
	m.stopHolding()
	switch {
	case m.leading > 0 && m.q.last().do == lead: // nothing of the client's is behind it
		toBackend.set(m.appendSync(toBackend.own()))
	case m.copyIn:
		toBackend.set(m.appendCopyFail(toBackend.own()))
	case m.skipping:
		toBackend.set(m.appendSync(toBackend.own()))
	case m.open: // Sync alone would commit what the client has not
		m.describeMissing(toBackend)
		m.push(entry{kind: wire.Describe, do: swallow})
		toBackend.set(m.appendSync(toBackend.own()))
	}
	if m.q.len() == 0 {
		m.tidy(toBackend)
	}
	return true
}

// appendCopyFail ends the COPY that is under way.
func (m *Machine) appendCopyFail(b []byte) []byte {
	const why = "client gone\x00"
	m.copyIn = false
	b = append(wire.AppendHeader(b, wire.CopyFail, len(why)), why...)
	if head := m.q.head(); head != nil && head.kind == wire.Execute {
		b = m.appendSync(b)
	}
	return b
}

func (m *Machine) appendSync(b []byte) []byte {
	m.skipping = false
	m.push(entry{kind: wire.Sync, do: swallow})
	return wire.AppendHeader(b, wire.Sync, 0)
}

// tidy is called when nothing is outstanding any more behind a client that is gone: it ends its transaction, then resets
// the session.
func (m *Machine) tidy(toBackend *Out) {
	var sql string
	switch {
	case m.status == 'I' && !m.reset, m.postpone():
		return
	case m.status != 'I':
		sql = "ROLLBACK"
	default:
		m.reset = false
		sql = "DISCARD ALL"
	}
	toBackend.set(m.appendQuery(toBackend.own(), sql, carry))
}
