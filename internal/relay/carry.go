package relay

import (
	"encoding/binary"
	"slices"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// Backend is what machines know of a backend past the session that has it.
type Backend struct {
	*prepared.Backend

	PID uint32 // of Postgres's process

	state       *sessionstate.State    // what has been set there
	application string                 // and its application_name
	channels    *sessionstate.Channels // what it listens to
	settable    bool                   // setName is prepared
	leadable    bool                   // beginName and commitName are
	asked       bool                   // and so are the statements of the question
	unasked     bool                   // code may have changed it since Postgres was asked last
	tainted     bool                   // it holds what nobody knows the owner of
	untuned     bool                   // what it delivers is for whoever had it before
	batch       batch
	speaker     speaker
}

// NewBackend returns what is known of a new backend, which keeps at most limit statements prepared. application is its
// application_name.
func NewBackend(limit int, application string) *Backend {
	return &Backend{Backend: prepared.NewBackend(limit), application: application}
}

// State tells apart what sessions have set there; empty: nothing. See Machine.State.
func (b *Backend) State() string { return b.state.Key() }

// crowded reports whether anything is prepared there that does not stand under a client's name.
func (b *Backend) crowded() bool { return b.settable || b.leadable || b.asked || !b.Empty() }

// ownNames returns the names of the statements that Sluice keeps there for itself, and forgets them.
func (b *Backend) ownNames() (names []string) {
	if b.settable {
		names = append(names, setName)
	}
	if b.leadable {
		names = append(names, beginName, commitName)
	}
	if b.asked {
		names = append(names, askName)
	}
	b.settable, b.leadable, b.asked = false, false, false
	return names
}

// Carry puts what the session has set on the backend that has just been attached, in place of what others have set there,
// its application_name and what it listens to included. It is settled, unseen, before the client's first message. If a setting
// fails, which is FromBackend's ErrCarry, none of the client's statements has run with the settings, or as the user, of somebody
// else: either FromClient waits for Postgres's consent, or what is injected leads the client's messages, see lead.
func (m *Machine) Carry(toBackend *Out) {
	m.retune(toBackend)
	b := m.backend
	changes := sessionstate.Changes(b.state, m.state)
	switch {
	case len(changes) == 0:
		m.set(toBackend, nil, b.application != m.application, carry)
	case m.mayLead(changes):
		m.set(toBackend, nil, b.application != m.application, carry)
		m.lead(toBackend, changes)
	default:
		m.set(toBackend, changes, b.application != m.application, carry)
		m.await, m.proven = true, true // or the session is over
	}
	b.state = m.state
	if m.names.SQL() { // it may speak of them at any moment, in a transaction that has failed too
		m.takeNames(toBackend, false)
	}
}

// State tells apart what the session has set, as a Backend of the same baseline does that has been given back by it: nothing
// but the application_name, timeouts and statements prepared with SQL has to be carried to one with the same.
func (m *Machine) State() string { return m.state.WithoutTimeouts().Key() }

// mayLead reports whether these changes to the session's state may lead the client's messages. Others wait: what Postgres has
// not put into force for this session before is likely to fail, who a session is too grave to be left to what a failure makes
// Postgres do, and a timeout may end the COMMIT. What Postgres reports it reports in front of a ReadyForQuery only, and only
// what differs from its last report: with none of its own the client would not be told if it set that back.
func (m *Machine) mayLead(changes []sessionstate.Change) bool {
	if m.state != nil && !m.proven || m.state.Hasty() || m.names.SQL() || m.state.Identity() || m.backend.state.Identity() {
		return false
	}
	return !slices.ContainsFunc(changes, func(c sessionstate.Change) bool {
		_, reported := find(m.p.Baseline, c.Name)
		return reported
	})
}

// lead injects the changes in a transaction of their own that is not followed by a Sync. Should anything in it fail, Postgres
// drops all messages behind it up to a Sync, be they extended or simple queries; and no Sync but the first of the client's is
// sent before the transaction is known to have been committed. It is answered at once, so that a cancel request never hits it.
// Protocol: "Extended Query".
func (m *Machine) lead(toBackend *Out, changes []sessionstate.Change) {
	b, before := toBackend.own(), m.q.len()
	if !m.backend.leadable {
		m.backend.leadable = true
		b = m.appendOwnParse(b, beginName, beginText, noTypes, lead)
		b = m.appendOwnParse(b, commitName, commitText, noTypes, lead)
	}
	b = m.appendOwnRun(b, beginName, lead)
	b = m.appendChanges(b, changes, lead)
	b = m.appendOwnRun(b, commitName, lead)
	m.leading = int32(m.q.len() - before)
	toBackend.set(m.appendFlush(b))
}

// Announce gives the backend of a Raw machine another application_name than the client's, until the client sets one, or resets
// it. It is settled, unseen, before the client's first message. The unnamed statement is used.
func (m *Machine) Announce(application string, toBackend *Out) {
	name := "application_name"
	b := m.appendOwnParse(toBackend.own(), "", setText, setTypes, carry)
	toBackend.set(m.appendCarrySync(m.appendOwnRun(b, "", carry, &name, &application)))
}

// Calm takes timeouts that the session has set off a backend that is to be given back, where they would act on others. It
// reports whether there are any: then FromClient waits, and m is Free when that is done. Should a timeout strike that itself, the
// backend is Worn.
func (m *Machine) Calm(toBackend *Out) bool {
	calm := m.backend.state.WithoutTimeouts()
	if m.raw || calm.Equal(m.backend.state) {
		return false
	}
	if m.postpone() {
		return true
	}
	m.set(toBackend, sessionstate.Changes(m.backend.state, calm), false, calming)
	m.backend.state = calm
	m.await = true
	return true
}

// set injects the changes, and that of the application_name, in a transaction of their own.
func (m *Machine) set(toBackend *Out, changes []sessionstate.Change, application bool, do action) {
	if len(changes) == 0 && !application {
		return
	}
	b := m.appendSetter(toBackend.own(), do)
	if application { // in front of timeouts
		name := "application_name"
		b = m.appendOwnRun(b, setName, do, &name, &m.application)
		m.backend.application = m.application
	}
	toBackend.set(m.appendCarrySync(m.appendChanges(b, changes, do)))
}

// appendSetter injects what changes need, if it is not there.
func (m *Machine) appendSetter(b []byte, do action) []byte {
	if m.backend.settable {
		return b
	}
	m.backend.settable = true
	return m.appendOwnParse(b, setName, setText, setTypes, do)
}

// appendChanges injects the changes, and what they need.
func (m *Machine) appendChanges(b []byte, changes []sessionstate.Change, do action) []byte {
	b = m.appendSetter(b, do)
	for i := range changes {
		value := &changes[i].Value
		if changes[i].Reset {
			value = nil
		}
		b = m.appendOwnRun(b, setName, do, &changes[i].Name, value)
		m.p.Counters.Carried++
	}
	return b
}

// appendOwnParse injects a Parse of a statement that Sluice keeps for itself. types is the list of its parameters' types.
func (m *Machine) appendOwnParse(b []byte, name, sql, types string, do action) []byte {
	m.push(entry{kind: wire.Parse, do: do})
	return appendParse(b, name, sql+"\x00"+types)
}

// appendOwnRun injects Bind with parameters in text, nil for NULL, and Execute, on the unnamed portal.
func (m *Machine) appendOwnRun(b []byte, name string, do action, args ...*string) []byte {
	return m.appendRun(b, "", name, do, args...)
}

// appendRunAside is appendOwnRun on a portal that it closes: the client may still have use for the unnamed one.
func (m *Machine) appendRunAside(b []byte, name string, do action, args ...*string) []byte {
	b = m.appendRun(b, carryName, name, do, args...)
	m.push(entry{kind: wire.Close, do: do})
	return append(append(append(wire.AppendHeader(b, wire.Close, 1+len(carryName)+1), 'P'), carryName...), 0)
}

func (m *Machine) appendRun(b []byte, portal, name string, do action, args ...*string) []byte {
	size := len(portal) + 1 + len(name) + 1 + 2 + 2 + 2
	for _, a := range args {
		if size += 4; a != nil {
			size += len(*a)
		}
	}
	b = wire.AppendHeader(b, wire.Bind, size)
	b = append(append(append(append(b, portal...), 0), name...), 0)
	b = append(b, 0, 0) // all parameters are text
	b = binary.BigEndian.AppendUint16(b, uint16(len(args)))
	for _, a := range args {
		if a == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(*a))), *a...)
	}
	b = append(b, 0, 0) // all results are text
	m.push(entry{kind: wire.Bind, do: do})
	m.push(entry{kind: wire.Execute, do: do})
	return append(append(wire.AppendHeader(b, wire.Execute, len(portal)+1+4), portal...), 0, 0, 0, 0, 0)
}

// appendQuery injects a simple query. It ends the unnamed statement.
func (m *Machine) appendQuery(b []byte, sql string, do action) []byte {
	m.backend.Unnamed = nil
	m.push(entry{kind: wire.Query, do: do})
	b = wire.AppendHeader(b, wire.Query, len(sql)+1)
	return append(append(b, sql...), 0)
}
