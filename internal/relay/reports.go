package relay

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// reports is what Postgres has reported with ParameterStatus that differs from the baseline.
type reports struct {
	first *string // the application_name that the client came with, once it has had another

	shown []wire.Param // of the settled state
	dirty []wire.Param // and what differs from that
}

// parameterStatus notes a changed setting. drop says that the client is not to see it.
func (m *Machine) parameterStatus(body []byte, toClient *Out) (drop bool) {
	if head := m.q.head(); m.gone || head != nil && head.do.own() {
		return true
	}
	name, rest, _ := wire.CString(body)
	value, _, ok := wire.CString(rest)
	if !ok || m.raw || string(name) == "in_hot_standby" {
		return false
	}
	if string(name) == "application_name" {
		return m.renamed(string(value), toClient)
	}
	unusual := !m.usual(name, value)
	if m.reports == nil {
		if !unusual {
			return false
		}
		m.reports = &reports{}
	}
	m.reports.dirty = without(m.reports.dirty, name)
	if unusual {
		m.reports.dirty = append(m.reports.dirty, wire.Param{Name: string(name), Value: string(value)})
	}
	return false
}

// renamed takes note of another application_name, which can be carried as it is. One that is the
// backend's own default has been reset: it is that of the client's start, which the backend does not know.
func (m *Machine) renamed(name string, toClient *Out) (drop bool) {
	m.backend.application = name
	if m.reports == nil {
		m.reports = &reports{}
	}
	if m.reports.first == nil {
		first := m.application
		m.reports.first = &first
	}
	was := m.application
	m.application = name
	if *m.reports.first == name || !m.usual([]byte("application_name"), []byte(name)) {
		return false
	}
	if m.application = *m.reports.first; m.application == was {
		return true // as the client knows
	}
	status := pgproto3.ParameterStatus{Name: "application_name", Value: m.application}
	if b, err := status.Encode(toClient.own()); err == nil {
		toClient.set(b)
	}
	return true
}

// usual reports whether the setting has the value that goes with the settled state.
func (m *Machine) usual(name, value []byte) bool {
	if m.reports != nil {
		if v, ok := find(m.reports.shown, string(name)); ok {
			return v == string(value)
		}
	}
	v, ok := find(m.p.Baseline, string(name))
	return ok && v == string(value)
}

func find(params []wire.Param, name string) (value string, ok bool) {
	for _, p := range params {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// Reported returns the value of a setting that Postgres reports, as the client knows it; empty if it does not.
func (m *Machine) Reported(name string) string {
	params := m.p.Baseline
	if m.reports != nil {
		params = slices.Concat(params, m.reports.shown, m.reports.dirty)
	}
	value := ""
	for _, p := range params {
		if p.Name == name {
			value = p.Value // the last counts
		}
	}
	return value
}

// settleReports takes note that the reported values are those of the settled state.
func (m *Machine) settleReports() {
	if m.reports == nil {
		return
	}
	for _, p := range m.reports.dirty {
		m.reports.shown = append(without(m.reports.shown, []byte(p.Name)), p)
	}
	m.reports.dirty = nil
}

func without(params []wire.Param, name []byte) []wire.Param {
	return slices.DeleteFunc(params, func(p wire.Param) bool { return p.Name == string(name) })
}

// isDirty reports whether Postgres has reported the setting anew since the state was settled.
func (r *reports) isDirty(name string) bool {
	return r != nil && slices.ContainsFunc(r.dirty, func(p wire.Param) bool { return strings.EqualFold(p.Name, name) })
}
