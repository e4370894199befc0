package relay

import (
	"slices"
	"strings"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// byName are the signals of texts that see prepared statements by their names.
const byName = sessionstate.Prepare | sessionstate.Execute | sessionstate.Deallocate | sessionstate.Discard | sessionstate.PreparedStatements

// maxName is how much of a statement's name Postgres looks at.
const maxName = 63

// goOwn has the backend know the client's statements under the client's own names, up to the end of the lease, so that what
// sees them by name means what it means on a direct connection: from then on messages pass as they are. It waits until no
// reply is outstanding (Blocked). What s mentions may need more: a list of them shows none of Sluice's.
//
// Where the lease ends the statements stay: a client with the same ones finds them, others have them closed when they need
// own names themselves, and meet them nowhere else.
func (m *Machine) goOwn(c *call, s sessionstate.Signals) Next {
	alone := s&sessionstate.PreparedStatements != 0
	switch {
	case m.own && !(alone && m.backend.crowded()):
		return proceed
	case slices.ContainsFunc(m.names.Names(), reserved):
		return m.goRaw(c, s.First())
	}
	if next := m.block(c); next != proceed {
		m.unused = m.q.own() && !m.Asking() // the backend stays for what has been done to it for this message
		return next
	}
	m.takeNames(c.toBackend, alone)
	if m.await {
		return Blocked
	}
	return proceed
}

// takeNames injects what makes the backend's names the client's: those of others are closed, its own prepared. alone says
// that Sluice's are closed as well. In a transaction that has failed Postgres prepares nothing; then no name means anything
// but what it means to the client, if anything. Nothing but injections may be outstanding.
func (m *Machine) takeNames(toBackend *Out, alone bool) {
	b := toBackend.own()
	for _, name := range m.backend.Own.Names() {
		if m.backend.Own.Lookup([]byte(name)) != m.names.Lookup([]byte(name)) {
			m.backend.Own.Swap(name, nil).Release()
			b = m.appendOwnClose(b, name)
		}
	}
	if alone {
		b = m.appendCloseShared(b)
	}
	if m.status != 'E' {
		var lacking []string
		for _, name := range m.names.Names() {
			if m.backend.Own.Lookup([]byte(name)) == nil {
				lacking = append(lacking, name)
			}
		}
		b = m.appendOwnStatements(b, lacking)
		m.own = true
	}
	toBackend.set(m.appendEnd(b))
}

// appendOwnStatements injects what prepares the client's statements under their names. Each gets a Sync of its own, and in a block
// a savepoint: one that cannot be prepared any more, because what it speaks of is gone, is then missing and does no other harm. Only
// where extended queries wait for their Sync is that not possible.
func (m *Machine) appendOwnStatements(b []byte, names []string) []byte {
	const savepoint = "sluice_names"
	solo, inBlock := !m.open, m.status == 'T' && !m.open
	if inBlock && len(names) > 0 {
		b = m.appendQuery(b, "SAVEPOINT "+savepoint, carry)
	}
	for _, name := range names {
		b = m.appendOwnStatement(b, name, m.atHome(name), solo)
		if inBlock {
			b = m.appendQuery(b, "ROLLBACK TO SAVEPOINT "+savepoint, carry)
		}
	}
	if inBlock && len(names) > 0 {
		b = m.appendQuery(b, "RELEASE SAVEPOINT "+savepoint, carry)
	}
	return b
}

// appendCloseShared closes everything that does not stand under a client's name.
func (m *Machine) appendCloseShared(b []byte) []byte {
	m.backend.Each(func(st *prepared.Statement) { b = m.appendOwnClose(b, st.Name) })
	for _, name := range m.backend.ownNames() {
		b = m.appendOwnClose(b, name)
	}
	m.backend.ClearShared()
	return b
}

// atHome returns what the client's name means, as a statement that serves a session with the settings of now.
func (m *Machine) atHome(name string) *prepared.Statement {
	st := m.names.Lookup([]byte(name))
	switch {
	case m.unsettled():
		m.adopt(name, st, m.table().Private(st.Body()))
	case !st.UsedUnder(m.state.Parse()):
		m.adopt(name, st, m.reparsed(st))
	}
	return m.names.Lookup([]byte(name))
}

// adopt has the client's name mean again, which it takes over, in place of st: the same text, prepared anew.
func (m *Machine) adopt(name string, st, again *prepared.Statement) {
	again.Signals, again.Scanned, again.Changed = st.Signals, st.Scanned, st.Changed
	m.names.Swap(name, again).Release()
}

// appendOwnStatement injects what prepares st under the client's name. solo says that it may fail, and does no harm then.
func (m *Machine) appendOwnStatement(b []byte, name string, st *prepared.Statement, solo bool) []byte {
	do := carry
	if solo {
		do = attempt
	}
	m.p.Counters.BackendParses++
	steps := m.stepsTo(st)
	if steps != nil && (solo || name != "") {
		m.backend.Unnamed = nil
		b = m.appendStepsTo(b, steps, do)
	}
	if st.SQL {
		b = m.appendOwnParse(b, "", st.Query(), "\x00\x00", do)
		m.backend.Unnamed = nil
		b = m.appendOwnRun(b, "", do)
	} else {
		b = appendParse(b, name, st.Body())
		m.push(entry{kind: wire.Parse, do: do, name: name})
	}
	last := m.q.last()
	last.name, last.stmt = name, st // what is missing if it fails
	if solo && !st.SQL && st.Result != 0 {
		b = appendDescribe(b, name)
		m.push(entry{kind: wire.Describe, do: do, stmt: st})
		m.holdBack() // for what it returns now, before it is used
	}
	st.Retain()
	m.backend.Own.Swap(name, st).Release()
	switch {
	case solo:
		b = m.appendCarrySync(b)
	case steps != nil && name != "":
		b = m.appendStepsBack(b, st, do)
	}
	return b
}

// holdBack has the client's message wait for what has been injected in front of it. The backend stays for it.
func (m *Machine) holdBack() { m.await, m.unused = true, true }

// appendOwnClose injects a Close that cannot fail.
func (m *Machine) appendOwnClose(b []byte, name string) []byte {
	m.push(entry{kind: wire.Close, do: carry})
	return appendClose(b, name)
}

// swap makes the client's name mean st, whose reference it takes, on the backend too if that knows the client's names. It
// returns what the name meant before, with its reference.
func (m *Machine) swap(name string, st *prepared.Statement) (before *prepared.Statement) {
	if m.own && name != "" {
		if st != nil {
			st.Retain()
		}
		m.backend.Own.Swap(name, st).Release()
	}
	return m.names.Swap(name, st)
}

// reserved reports whether a name that the client gives a statement may be mistaken for another: it is one of Sluice's, or
// Postgres does not look at all of it.
func reserved(name string) bool {
	return len(name) > maxName || strings.HasPrefix(name, prepared.Prefix)
}

// meet prepares the backend for a text with the signals s, which may speak of statements by name, and takes into account
// what it runs with EXECUTE, if it has one: any of the client's statements.
func (m *Machine) meet(c *call, s sessionstate.Signals) Next {
	if s&byName == 0 {
		return proceed
	}
	next := m.revive(c)
	if next == proceed {
		next = m.goOwn(c, s)
	}
	if next == proceed {
		next = m.failAgain(c)
	}
	if next == proceed {
		next = m.retry(c, s)
	}
	if next != proceed || s&sessionstate.Execute == 0 {
		return next
	}
	all, was := s, s
	for _, name := range m.names.Names() {
		st := m.names.Lookup([]byte(name))
		all |= sessionstate.Signals(st.Signals)
		m.leaves(st, []byte{})
	}
	if all&sessionstate.Notify != 0 {
		m.speak(c, true)
	}
	if all&sessionstate.Sequence != 0 {
		if next := m.runNumbers(c); next != proceed {
			return next
		}
	}
	if s |= all & sessionstate.PreparedStatements; s != was {
		return m.goOwn(c, s)
	}
	return proceed
}

// account takes into account what a statement means for the session that is about to be bound or described. values are what a
// Bind has behind the names, nil if it is none.
func (m *Machine) account(c *call, st *prepared.Statement, values []byte) {
	if sessionstate.Signals(st.Signals)&sessionstate.Sequence != 0 {
		m.useNumbers(c)
		m.blameAsking(st.Query())
	}
	m.leaves(st, values)
}

// leaves takes into account what running st with these values may leave behind.
func (m *Machine) leaves(st *prepared.Statement, values []byte) {
	s := sessionstate.Signals(st.Signals) &^ sessionstate.Sequence
	if m.note(s) && !m.suspect(s, st.Query(), values) {
		m.blame(s, st.Query())
		m.pinForever(s.First())
	}
}

// meant waits until it is certain what the client's name means, and until the backend knows it by that name if it speaks of
// others by theirs. It returns that statement, nil if there is none.
func (m *Machine) meant(c *call, name []byte) (st *prepared.Statement, next Next) {
	if m.own {
		st = m.names.Lookup(name)
	} else {
		if next := m.certain(c, name); next != proceed {
			return nil, next
		}
		st = m.rehome(name)
	}
	if st == nil {
		return nil, proceed
	}
	if sessionstate.Signals(st.Signals)&sessionstate.Notify != 0 {
		m.speak(c, true)
	}
	return st, m.meet(c, sessionstate.Signals(st.Signals))
}

// judge takes into account what the text of a Parse says: the session becomes raw, or has its own names, if it must.
func (m *Machine) judge(c *call, name string, st *prepared.Statement) Next {
	s := sessionstate.Signals(st.Signals)
	if notifies := s&sessionstate.Notify != 0; notifies || m.spokenOf() {
		m.speak(c, notifies)
	}
	if s&sessionstate.Sequence != 0 {
		if next := m.ownNumbers(c); next != proceed {
			return next
		}
		s &^= sessionstate.Sequence
	}
	if next := m.meet(c, s); next != proceed {
		return next
	}
	switch {
	case m.p.Behind.binds() && !digestOf(st).Inert:
		m.pinForever(PinOpaque)
	case s&sessionstate.Clock != 0 && name != "":
		m.pinForever(PinClock)
	case (m.own || s&byName != 0) && reserved(name):
		m.pinForever(sessionstate.Prepare.First())
	}
	switch {
	case s.Sticky() && !m.suspect(s, st.Query(), nil):
		return m.goRaw(c, s.First())
	case m.forever:
		return m.goRaw(c, m.pin)
	}
	return proceed
}

// parseOwn forwards a Parse under the client's own name.
func (m *Machine) parseOwn(c *call, name string, st *prepared.Statement) Next {
	m.p.Counters.ClientParses++
	m.p.Counters.BackendParses++
	if name == "" {
		m.backend.Unnamed = st
	}
	return m.send(c, entry{kind: wire.Parse, name: name, prev: m.swap(name, st)})
}

// useOwn prepares the use of a statement under the client's own name, and returns the entry for the reply. The result is that
// of stillSame.
func (m *Machine) useOwn(c *call, kind byte, st *prepared.Statement, name, values []byte) (e entry, next Next) {
	if st != nil && st.Changed {
		return e, m.refuseChanged(c, entry{kind: kind, do: stale})
	}
	e = entry{kind: kind}
	if st == nil {
		return e, More
	}
	if kind == wire.Bind {
		m.runsStatement(st)
		m.account(c, st, values)
	}
	switch {
	case len(name) == 0 && m.backend.Unnamed != st:
		m.backend.Unnamed = st
		m.prepareOwn(c, entry{kind: wire.Parse, do: swallow}, st)
	case len(name) > 0 && !st.SQL && m.isMissing(string(name)): // the client is to see why
		if m.backend.Own.Lookup(name) != nil {
			c.toBackend.set(appendClose(c.toBackend.own(), string(name)))
			m.push(entry{kind: wire.Close, do: swallow})
		}
		st.Retain()
		m.backend.Own.Swap(string(name), st).Release()
		m.prepareOwn(c, entry{kind: wire.Parse, do: swallow, name: string(name), stmt: st}, st)
	}
	if sessionstate.Signals(st.Signals)&sessionstate.Execute == 0 { // else it returns what another statement does
		e.stmt = st
	}
	return e, More
}

// prepareOwn injects a Parse of st in front of the client's message.
func (m *Machine) prepareOwn(c *call, e entry, st *prepared.Statement) {
	m.p.Counters.BackendParses++
	c.toBackend.set(appendParse(c.toBackend.own(), e.name, st.Body()))
	m.push(e)
}

// closeOwn forwards a Close of a statement under the client's own name.
func (m *Machine) closeOwn(c *call, name string) Next {
	if name == "" {
		m.backend.Unnamed = nil
	}
	return m.send(c, entry{kind: wire.Close, name: name, prev: m.swap(name, nil)})
}

// emptied takes note that a command has taken all prepared statements from the backend; what has been sent behind it stands.
func (m *Machine) emptied() {
	m.backend.ownNames()
	m.backend.Clear()
	m.names.ClearNamed()
	for i := 1; i < m.q.len(); i++ {
		e := m.q.at(i)
		clients := e.do == swallow && e.name != "" // under the client's name, see useOwn
		if e.kind == wire.Parse && e.stmt != nil && !e.do.own() && !clients {
			m.backend.Add(e.stmt)
		}
	}
}
