package relay

import (
	"sluice/internal/prepared"
	"sluice/internal/wire"
)

// complete takes note that the entry's message has done what it was to do.
func (m *Machine) complete(e *entry) {
	e.prev.Release()
	if e.spoilt != nil {
		m.backend.Closed(e.spoilt)
	}
	switch {
	case e.do == lead:
		m.leading--
	case e.stmt == nil:
	case e.kind == wire.Close:
		e.stmt.Release()
	case e.kind == wire.Parse:
		m.backend.Confirm(e.stmt)
	}
}

// forget takes note that there will be no ReadyForQuery for the entry.
func (m *Machine) forget(e *entry) {
	if endsWithReady(e.kind) && !e.do.own() {
		m.readies--
	}
}

// fail takes back what the entry's message would have done, had it not failed. next is where the next request begins in the
// queue.
func (m *Machine) fail(e *entry, next int) {
	switch {
	case e.do == attempt:
		m.undo(e, next)
	case e.kind == wire.Parse && e.do == forward && !m.raw && e.name == "":
		m.restore("", nil, next) // Postgres drops the old one before it looks at the new one
		e.prev.Release()
		m.backend.Unnamed = nil
		if e.stmt != nil {
			m.backend.Remove(e.stmt)
		}
	case e.kind == wire.Parse:
		m.undo(e, next)
	default:
		m.complete(e)
	}
}

// undo takes back what the entry's message would have done, had the backend not skipped it.
func (m *Machine) undo(e *entry, next int) {
	switch {
	case e.do == attempt, e.do == swallow && e.name != "":
		if e.name != "" && m.backend.Own.Lookup([]byte(e.name)) == e.stmt {
			m.backend.Own.Swap(e.name, nil).Release()
		}
	case e.do == duplicate, e.do == stale, e.do == compare, e.do == marker, e.do.own():
	case e.kind == wire.Parse:
		if e.stmt != nil {
			m.backend.Remove(e.stmt)
		}
		m.backend.Unnamed = nil
		if e.do != swallow && !m.raw {
			m.restore(e.name, e.prev, next)
		}
	case e.kind == wire.Close && e.stmt != nil: // the evicted one stays
		m.backend.Keep(e.stmt)
		e.stmt.Release()
	case e.kind == wire.Close && e.defines(e.name), e.kind == wire.Query && e.do == forward && !m.raw:
		m.restore(e.name, e.prev, next)
	}
}

// restore makes name mean before again, as of the request that has failed: if a later one, from the entry next on, has given
// it another meaning, that stays.
func (m *Machine) restore(name string, before *prepared.Statement, next int) {
	for i := next; i < m.q.len(); i++ {
		if e := m.q.at(i); !m.raw && e.defines(name) {
			e.prev.Release()
			e.prev = before
			return
		}
	}
	m.swap(name, before).Release()
}
