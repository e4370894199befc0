package relay

import (
	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
)

// setLocalText sets, up to the end of the transaction.
const setLocalText = "SELECT pg_catalog.set_config($1, $2, true)"

// rehome returns what the client's name means for a session with the settings of now, nil if nothing. A statement that was parsed
// under others keeps its meaning: it is shared with those only who have parsed it under the same, and have the same now.
func (m *Machine) rehome(name []byte) *prepared.Statement {
	st := m.names.Lookup(name)
	if st == nil || m.unsettled() || st.UsedUnder(m.state.Parse()) && !st.Stopgap || len(name) == 0 && m.backend.Unnamed == st {
		return st
	}
	if st.Unsettled && m.backend.Use(st) {
		return st
	}
	again := m.reparsed(st)
	m.adopt(string(name), st, again)
	return again
}

// reparsed returns the statement that is to serve the session in place of st, with a reference.
func (m *Machine) reparsed(st *prepared.Statement) *prepared.Statement {
	now := m.state.Parse()
	if st.Unsettled || st.SQL {
		return m.interned(m.table(), st)
	}
	return m.interned(m.p.Table.Under(sessionstate.ParseAgain(st.ParsedUnder(), now), now), st)
}

// private returns a statement that the client parses for itself alone.
func (m *Machine) private(body []byte, signals sessionstate.Signals) *prepared.Statement {
	st := m.table().Private(string(body))
	st.Signals, st.Scanned, st.Unsettled = uint32(signals), true, m.unsettled()
	if m.doubt != nil {
		m.doubt.parsed = m.doubt.parsed || st.Unsettled
	}
	return st
}

// stopgap has the client's name mean a statement of its own, in place of st, that is parsed under settings that are not known.
func (m *Machine) stopgap(name string, st *prepared.Statement) *prepared.Statement {
	again := m.p.Table.Under(st.ParsedUnder(), m.state.Parse()).Private(st.Body())
	again.Unsettled, again.Stopgap = st.Unsettled, !st.Unsettled
	m.adopt(name, st, again)
	return again
}

// settleNames takes note under which settings the statements were parsed that were while that was not known.
func (m *Machine) settleNames() {
	if !m.doubt.parsed {
		return
	}
	m.doubt.parsed = false
	m.names.Named(func(_ string, st *prepared.Statement) {
		if st.Unsettled {
			st.Settle(m.table())
		}
	})
}

// prepareAsOf is prepare for a statement that may have been parsed under other settings than those of now.
func (m *Machine) prepareAsOf(toBackend *Out, st *prepared.Statement, e entry) {
	steps := m.stepsTo(st)
	if steps == nil {
		m.prepare(toBackend, st, e)
		return
	}
	m.backend.Unnamed = nil
	toBackend.set(m.appendStepsTo(toBackend.own(), steps, swallow))
	m.prepare(toBackend, st, e)
	toBackend.set(m.appendStepsBack(toBackend.own(), st, swallow))
}

// stepsTo returns the steps to the settings under which st is to be parsed, none if it is those of now, or nobody knows these.
func (m *Machine) stepsTo(st *prepared.Statement) []sessionstate.Change {
	now := m.state.Parse()
	if st.ParsedUnder() == now || st.Unsettled || m.unsettled() {
		return nil
	}
	return sessionstate.ParseChanges(now, st.ParsedUnder())
}

// appendStepsTo injects the steps into the transaction that is under way. The unnamed statement is used.
func (m *Machine) appendStepsTo(b []byte, steps []sessionstate.Change, do action) []byte {
	b = m.appendOwnParse(b, "", setLocalText, setTypes, do)
	return m.appendSteps(b, steps, do)
}

// appendStepsBack injects what takes the settings under which st is parsed back to those of now; appendStepsTo has been there.
func (m *Machine) appendStepsBack(b []byte, st *prepared.Statement, do action) []byte {
	return m.appendSteps(b, sessionstate.ParseChanges(st.ParsedUnder(), m.state.Parse()), do)
}

// appendSteps runs the unnamed statement, setLocalText, for each step, on a portal of its own: the client may still have use for
// the unnamed one.
func (m *Machine) appendSteps(b []byte, steps []sessionstate.Change, do action) []byte {
	for i := range steps {
		value := &steps[i].Value
		if steps[i].Reset {
			value = nil
		}
		b = m.appendRunAside(b, "", do, &steps[i].Name, value)
	}
	return b
}
