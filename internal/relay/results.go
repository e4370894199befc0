package relay

import (
	"hash/fnv"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// stillSame sees to it that a statement which this backend has to prepare anew returns what clients have been told, as
// Postgres does where it has it prepared: bytes of one type are not to be taken for another's. The result is More if that is
// so, Blocked while it is being asked, and proceed if it is not: then the message is replaced by one that fails, with the
// entry failing.
func (m *Machine) stillSame(c *call, st *prepared.Statement, name []byte, failing entry) Next {
	switch {
	case st == nil || len(name) == 0:
		return More
	case st.Changed:
		return m.refuseChanged(c, failing)
	case st.Result == 0 || m.backend.Use(st):
		return More
	}
	m.note(sessionstate.Signals(st.Signals))
	if m.unsettled() {
		return More // it is parsed under other settings, for this client alone
	}
	m.prepareAsOf(c.toBackend, st, entry{kind: wire.Parse, do: swallow, stmt: st})
	b := appendDescribe(c.toBackend.own(), st.Name)
	m.push(entry{kind: wire.Describe, do: compare, stmt: st})
	c.toBackend.set(wire.AppendHeader(b, wire.Flush, 0))
	m.holdBack()
	return Blocked
}

// refuseChanged replaces the message by one that fails, with the entry failing.
func (m *Machine) refuseChanged(c *call, failing entry) Next {
	c.drop = true
	m.pass, m.passDrop = int32(c.total-len(c.msg)), true
	m.describeMissing(c.toBackend)
	m.push(failing)
	return proceed
}

// interned returns the statement of the table that is st's text and, as far as is known, returns the same, with a reference.
func (m *Machine) interned(table *prepared.Table, st *prepared.Statement) *prepared.Statement {
	again := table.Intern([]byte(st.Body()))
	if st.Result != 0 && again.Result != st.Result {
		again.Release()
		again = table.Private(st.Body())
		again.Result = st.Result
	}
	return again
}

// returns takes note of what a statement returns, by the body of the RowDescription, or NoData, in answer to a Describe.
func (m *Machine) returns(head *entry, body []byte) {
	st, result := head.stmt, resultOf(body)
	if head.do == compare {
		m.await = false
	}
	switch {
	case m.raw:
	case st.Result == 0:
		st.Result = result
	case st.Result != result:
		st.Changed = st.Changed || head.do == compare || head.do == attempt
		st.Forget()
		m.change = max(m.change, ChangedSchema)
	}
}

// resultOf tells results apart by the names and types of their columns, as Postgres does when it looks at a cached plan. It
// is never 0.
func resultOf(body []byte) uint64 {
	h := fnv.New64a()
	if len(body) >= 2 {
		body = body[2:]
	}
	for len(body) > 0 {
		name, rest, ok := wire.CString(body)
		if !ok || len(rest) < 18 {
			break
		}
		_, _ = h.Write(name)
		_, _ = h.Write(rest[6:16]) // the type, its size and its modifier, not the table's column nor the format
		body = rest[18:]
	}
	return h.Sum64() | 1
}
