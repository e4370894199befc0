package relay

import (
	"slices"

	"sluice/internal/wire"
)

// parameterStatus notes a changed setting. drop says that the client is not to see it.
func (m *Machine) parameterStatus(body []byte) (drop bool) {
	if head := m.q.head(); m.gone || head != nil && head.do.own() {
		return true
	}
	name, rest, _ := wire.CString(body)
	value, _, ok := wire.CString(rest)
	if !ok || m.raw || string(name) == "in_hot_standby" {
		return false
	}
	if string(name) == "application_name" {
		m.application, m.backend.application = string(value), string(value) // known, so it can be carried as it is
		return false
	}
	m.dirty = without(m.dirty, name)
	if !m.usual(name, value) {
		m.dirty = append(m.dirty, wire.Param{Name: string(name), Value: string(value)})
	}
	return false
}

// usual reports whether the setting has the value that goes with the settled state.
func (m *Machine) usual(name, value []byte) bool {
	for _, known := range [...][]wire.Param{m.shown, m.p.Baseline} {
		for _, p := range known {
			if p.Name == string(name) {
				return p.Value == string(value)
			}
		}
	}
	return false
}

// settleReports takes note that the reported values are those of the settled state.
func (m *Machine) settleReports() {
	for _, p := range m.dirty {
		m.shown = append(without(m.shown, []byte(p.Name)), p)
	}
	m.dirty = nil
}

func without(params []wire.Param, name []byte) []wire.Param {
	return slices.DeleteFunc(params, func(p wire.Param) bool { return p.Name == string(name) })
}
