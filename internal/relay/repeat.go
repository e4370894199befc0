package relay

import (
	"encoding/binary"

	"sluice/internal/prepared"
	"sluice/internal/wire"
)

// Where somebody has changed the schema past Sluice, what a backend has prepared before fails at its next use: 0A000, "cached plan
// must not change result type". A client that has just parsed that text, which Sluice has answered, or that asks with each run what
// comes back, has nothing to do with what others were told before: its batch is sent once more, with the text parsed anew. For
// that it is kept while it is under way, by its backend, if it came in one piece and runs one statement in a transaction of its own.

// maxBatch is the longest batch that is kept.
const maxBatch = 8 << 10 // 8 KiB

// batch is the last one that runs one statement, as it was sent: from the first message that uses it to the Sync.
type batch struct {
	stmt   *prepared.Statement
	name   []byte // by which the client uses it
	parsed bool   // by the same batch, as far as the client knows
	msgs   []byte
}

// beginBatch takes note that what is sent next, at this place in what is to be sent, uses st, which the client calls name. To be called
// before its entry is pushed.
func (m *Machine) beginBatch(at int, st *prepared.Statement, name []byte) {
	b := &m.backend.batch
	b.msgs, m.batchAt = b.msgs[:0], 0
	if m.status != 'I' || m.readies > 0 {
		return
	}
	n := m.q.len()
	b.parsed = n > 0 && m.q.at(n-1).do == synth && m.q.at(n-1).kind == wire.Parse
	if b.parsed {
		n--
	}
	if n > 0 && (m.q.at(n-1).kind != wire.Sync || !m.q.at(n-1).do.own()) {
		return
	}
	b.stmt, b.name, m.batchAt = st, append(b.name[:0], name...), int32(at)+1
}

// runBatch takes note of Execute: nobody else knows what comes back unless the client has asked in front of it.
func (m *Machine) runBatch() {
	if m.batchAt > 0 && !m.backend.batch.parsed && m.q.last().kind != wire.Describe {
		m.batchAt = 0
	}
}

// endBatch keeps the batch, whose Sync is in toBackend now.
func (m *Machine) endBatch(toBackend *Out) {
	if m.batchAt == 0 {
		return
	}
	if msgs := toBackend.buf[m.batchAt-1:]; len(msgs) <= maxBatch {
		b := &m.backend.batch
		b.msgs = append(b.msgs[:0], msgs...)
	}
	m.batchAt = 0
}

// mayRepeat reports whether the head, which has failed because its statement returns something else now, begins a batch that can
// be sent once more: nothing of it has been answered, and nothing has been sent behind it. Under the client's own names none is kept;
// what is there is an earlier one, perhaps of another session.
func (m *Machine) mayRepeat(head *entry) bool {
	b, n := &m.backend.batch, m.q.len()
	if m.gone || m.own || len(b.msgs) == 0 || head.stmt != b.stmt || head.do != forward || m.q.last().kind != wire.Sync || m.pass > 0 {
		return false
	}
	for i := range n {
		e := m.q.at(i)
		ofBatch := i == 0 || i == n-1 || e.kind == wire.Describe && e.stmt == nil || e.kind == wire.Execute
		if e.do != forward || !ofBatch {
			return false
		}
	}
	return b.parsed || head.kind == wire.Describe || asksForOneFormat(b.msgs)
}

// asksForOneFormat reports whether a Bind asks for all columns in the same format, so that it fits any number of them.
func asksForOneFormat(bind []byte) bool {
	_, body, _, _ := wire.Header(bind)
	_, rest, _ := wire.CString(bind[wire.HeaderLen : wire.HeaderLen+body])
	_, rest, _ = wire.CString(rest)
	rest, ok := skipShorts(rest)
	if !ok || len(rest) < 2 {
		return false
	}
	values := int(binary.BigEndian.Uint16(rest))
	rest = rest[2:]
	for ; values > 0 && len(rest) >= 4; values-- {
		size := max(0, int(int32(binary.BigEndian.Uint32(rest))))
		if size > len(rest)-4 {
			return false
		}
		rest = rest[4+size:]
	}
	return values == 0 && len(rest) >= 2 && binary.BigEndian.Uint16(rest) <= 1
}

// repeat sends the batch once more, with its statement parsed anew. What Postgres says to the Sync of the failed one is dropped.
func (m *Machine) repeat(head *entry, toBackend *Out) {
	st, kind := head.stmt, head.kind
	m.outdated(st)
	again := m.parsedAnew(st)
	m.names.Swap(string(m.backend.batch.name), again).Release()

	kinds := make([]byte, 0, 4)
	for ; m.q.len() > 0; m.q.pop() {
		kinds = append(kinds, m.q.head().kind)
	}
	m.readies--
	m.push(entry{kind: wire.Sync, do: carry})
	m.prepare(toBackend, again, entry{kind: wire.Parse, do: swallow, stmt: again})
	b, msgs := toBackend.own(), m.backend.batch.msgs
	_, body, _, _ := wire.Header(msgs)
	first, rest := msgs[wire.HeaderLen:wire.HeaderLen+body], msgs[wire.HeaderLen+body:]
	if kind == wire.Bind {
		portal, behind, _ := wire.CString(first)
		as, values, _ := wire.CString(behind)
		b = append(appendRenamed(b, body+len(again.Name)-len(as), portal, again.Name), values...)
	} else {
		b = appendDescribe(b, again.Name)
	}
	toBackend.set(append(b, rest...))
	for i, kind := range kinds {
		e := entry{kind: kind}
		if i == 0 {
			e.stmt = again
		}
		m.push(e)
	}
	m.backend.batch.msgs = msgs[:0]
}

// parsedAnew returns a statement with st's text that is parsed with the settings that the session has now, with a reference.
func (m *Machine) parsedAnew(st *prepared.Statement) *prepared.Statement {
	var again *prepared.Statement
	if m.unsettled() || !st.In(m.table()) {
		again = m.table().Private(st.Body())
	} else {
		again = m.table().Intern([]byte(st.Body()))
	}
	again.Signals, again.Scanned = st.Signals, true
	return again
}

// outdated has a statement prepared anew that returns something else now: because of somebody who did not come through Sluice, else it
// were known.
func (m *Machine) outdated(st *prepared.Statement) {
	m.change = max(m.change, ChangedSchema)
	m.backend.Spoil(st)
	st.Forget()
	st.Changed = true
}
