package relay

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
)

// statement is what Postgres says of a statement that the session has prepared.
type statement struct {
	name  string
	text  string // for an SQL statement that of all the statements beside which it was prepared
	sql   bool
	types []uint32 // of its parameters; not of an SQL statement's
}

// statement takes a row of the answer that speaks of a statement.
func (a *answer) statement(sql bool, name string, text, types *string) {
	st := statement{name: name, sql: sql}
	if text == nil || types == nil {
		a.failed = true
		return
	}
	st.text = *text
	for _, oid := range strings.FieldsFunc(*types, func(c rune) bool { return c < '0' || c > '9' }) {
		n, err := strconv.ParseUint(oid, 10, 32)
		if err != nil {
			a.failed = true
			return
		}
		st.types = append(st.types, uint32(n))
	}
	a.statements = append(a.statements, st)
}

// withoutStrangers takes the statements prepared with SQL out of the answer that code behind a statement has made: nothing is
// known of them on the backend, and no text has announced them. It reports whether there are any.
func (m *Machine) withoutStrangers(a *answer) (found bool) {
	d, n := m.doubt, len(a.statements)
	a.statements = slices.DeleteFunc(a.statements, func(st statement) bool {
		announced := d.prepared && (!m.backend.unasked || d.expects(st.name))
		return st.sql && !announced && m.backend.Own.Lookup([]byte(st.name)) == nil
	})
	return len(a.statements) < n
}

// learn draws the conclusions from what Postgres says about the statements that the session has prepared. Of those that it
// does not have the client's is gone, unless it could not be prepared on this backend.
func (m *Machine) learn(statements []statement) {
	for _, st := range statements {
		known := m.names.Lookup([]byte(st.name))
		switch {
		case !st.sql && st.text == "" && known != nil && m.isMissing(st.name): // stands in for it
		case st.sql && (known == nil || !known.SQL || known.Query() != st.text):
			m.learnSQL(st)
		case !st.sql && (known == nil || known.SQL || !st.parsedFrom(known)):
			again := m.table().Intern([]byte(st.body()))
			again.Signals, again.Scanned = uint32(sessionstate.ScanString(st.text)), true
			m.learned(st.name, again)
		}
	}
	for _, name := range m.backend.Own.Names() {
		if !slices.ContainsFunc(statements, func(st statement) bool { return st.name == name }) {
			m.learned(name, nil)
		}
	}
}

// learned takes note of what the name means on the backend, and to the client, if what it has sent meanwhile does not give it
// another meaning. It takes st's reference.
func (m *Machine) learned(name string, st *prepared.Statement) {
	if !m.own {
		if st != nil {
			st.Retain()
		}
		m.backend.Own.Swap(name, st).Release()
	}
	m.restore(name, st, 0)
}

// learnSQL takes note of an SQL statement. Where it was prepared beside others, or perhaps under other settings than the
// session's, it is as good as new there only.
func (m *Machine) learnSQL(st statement) {
	clause, ok := sessionstate.PrepareClause(st.text, st.name)
	s := sessionstate.ScanString(clause)
	switch {
	case !ok:
		m.blame(sessionstate.Ambiguous, st.text)
		m.pinForever(sessionstate.Prepare.First())
		return
	case s&sessionstate.Clock != 0:
		m.blame(sessionstate.Ambiguous, st.text)
		m.pin = PinClock
		m.pinForever(PinClock)
		return
	}
	body := prepared.SQLBody(clause)
	shared := m.table().Intern([]byte(body))
	shared.Signals, shared.Scanned = uint32(s&^sessionstate.Prepare), true // of what it runs
	m.learned(st.name, shared)
	if clause != st.text || m.doubt.mixed {
		m.backend.Own.Swap(st.name, m.table().Private(body)).Release()
	}
}

// parsedFrom reports whether the statement can be what was made of known.
func (st *statement) parsedFrom(known *prepared.Statement) bool {
	if known.Query() != st.text {
		return false
	}
	types := known.Body()[len(st.text)+1+2:]
	for i := 0; i+4 <= len(types); i += 4 {
		declared := binary.BigEndian.Uint32([]byte(types[i:]))
		if i/4 >= len(st.types) || declared != 0 && declared != st.types[i/4] {
			return false
		}
	}
	return true
}

// body returns the body of a Parse that makes the statement.
func (st *statement) body() string {
	b := append([]byte(st.text), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(st.types)))
	for _, oid := range st.types {
		b = binary.BigEndian.AppendUint32(b, oid)
	}
	return string(b)
}
