package relay

import (
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// maxVacating is the longest message that is held whole, in a session of its own, to see whether it needs a vacancy.
const maxVacating = 4 << 10 // 4 KiB

// vacancy is what a statement needs that Postgres refuses while somebody is connected to certain databases.
type vacancy struct {
	databases []string
	ready     bool
}

// Vacancy returns, when FromClient has said NeedVacancy, the databases, by their names in Postgres, to which nobody who is
// idle is to be connected.
func (m *Machine) Vacancy() []string { return m.vacancy.databases }

// Vacated takes note that nobody is, or that waiting for it is of no use.
func (m *Machine) Vacated() { m.vacancy.ready = true }

// vacate asks for the vacancy that a text needs, if it needs one. The result is proceed when there is one.
func (m *Machine) vacate(text string) Next {
	if m.vacancy == nil {
		if m.status != 'I' {
			return proceed // Postgres refuses it
		}
		databases := sessionstate.Vacates(text)
		if len(databases) == 0 {
			return proceed
		}
		m.vacancy = &vacancy{databases: databases}
	}
	if !m.vacancy.ready {
		m.unused = true // the backend stays
		return NeedVacancy
	}
	m.vacancy = nil
	return proceed
}

// vacateRaw is vacate for a Query or Parse of a session of its own, whose texts are not looked at otherwise.
func (m *Machine) vacateRaw(c *call) Next {
	text := c.body()
	if c.typ == wire.Parse {
		_, rest, ok := wire.CString(text)
		if text = rest; !ok {
			text = nil
		}
	}
	switch {
	case c.total > maxVacating:
		return proceed
	case !c.whole() && (len(text) == 0 || sessionstate.MayBeginVacating(text[0])):
		return More
	case !sessionstate.MayVacate(text):
		return proceed
	}
	query, _, _ := wire.CString(text)
	return m.vacate(string(query))
}
