package relay

import "sluice/internal/wire"

// A cancel request hits whatever Postgres runs at that moment. It is to be what the client has sent, so it waits until that is so
// (Running, Owes), and from then on until Postgres has taken note nothing is injected and nothing more is sent: what is due
// behind the client's transaction (follow) waits, and so do the client's next messages.
//
// Hence what is injected in front of a message of the client's must be answered by itself: it ends with a Sync or Query, or, where
// that would end the client's transaction or cost a round trip, with a Flush.

// Running reports whether the backend works on something that the client has sent.
func (m *Machine) Running() bool {
	head := m.q.head()
	switch {
	case m.Quiet(), m.holding():
		return false
	case head == nil:
		return true
	case head.do.own():
		return false
	}
	return !m.await || m.q.has(entry.clients) // else the message for which something is being prepared waits for that
}

// Owes reports whether something that the client has sent is among what the backend is to answer.
func (m *Machine) Owes() bool { return !m.q.own() }

// Served returns how many requests of the client's backends have answered: it tells the one that is under way from the next.
func (m *Machine) Served() uint32 { return m.served }

// Cancelling says that a cancel request for what is Running is on its way, up to CancelOver.
func (m *Machine) Cancelling() { m.cancelling = true }

// CancelOver says that Postgres has taken note of all cancel requests, and has what waited for that injected. The client's messages
// may be passed to FromClient again.
func (m *Machine) CancelOver(toBackend *Out) {
	due := m.due
	m.cancelling, m.due = false, false
	switch {
	case !due:
	case m.gone:
		m.tidy(toBackend)
	default:
		m.follow(toBackend)
	}
}

// follow injects what is due behind a transaction of the client's, with nothing outstanding.
func (m *Machine) follow(toBackend *Out) {
	reset, ask := m.backend.application != m.application, m.ask && !m.unread
	if m.raw || !reset && !ask || m.postpone() {
		return
	}
	if reset {
		m.set(toBackend, nil, true, carry)
	}
	if ask {
		m.question(toBackend)
	}
}

// postpone reports whether what is to be injected has to wait for CancelOver. Till then m is not Free.
func (m *Machine) postpone() bool {
	m.due = m.due || m.cancelling
	return m.cancelling
}

// appendEnd ends what has been injected in front of the client's message, so that Postgres answers it whatever follows.
func (m *Machine) appendEnd(b []byte) []byte {
	switch last := m.q.last(); {
	case last == nil || !extended(last.kind) || m.flushed:
		return b
	case !m.InBlock():
		return m.appendCarrySync(b)
	}
	return m.appendFlush(b)
}

// appendFlush has Postgres answer what has been sent.
func (m *Machine) appendFlush(b []byte) []byte {
	m.flushed = true
	return wire.AppendHeader(b, wire.Flush, 0)
}
