package relay

import (
	"strings"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// tag takes note of what a command was.
func (m *Machine) tag(tag []byte) {
	change := changeOf(tag)
	if block := string(tag) == "DO" || string(tag) == "CALL"; block && !m.raw && !m.ddl && !m.p.Behind.defines() {
		change = ChangedNothing
	}
	m.change = max(m.change, change)
	switch string(tag) {
	case "CREATE ROLE", "DROP ROLE":
		m.redefines = max(m.redefines, redefinesRoles)
	case "ALTER DATABASE", "ALTER ROLE":
		m.redefines = max(m.redefines, redefinesRoles)
		if m.raw || m.saysSet || m.q.head().kind != wire.Query { // else it is known to be something else
			m.redefines = redefinesSettings
		}
	}
	if !m.raw {
		m.drew(tag)
		if string(tag) == "DEALLOCATE ALL" || string(tag) == "DISCARD ALL" {
			m.emptied()
		}
		if s := sessionstate.ScanTag(tag); s.Sticky() && !s.Within(askable) {
			m.pinForever(s.First())
		} else if s.Sticky() || m.pin != "" && mayGiveUp(tag) {
			m.Pin(s.First())
			m.ask = !m.forever
			m.mayListen(s)
			m.doubt.prepared = m.doubt.prepared || s&prepares != 0
		}
	}
}

// redefinition is what a transaction may have changed of what new sessions begin with.
type redefinition uint8

const (
	redefinesNothing  redefinition = iota
	redefinesRoles                 // who can log in, and with which password
	redefinesSettings              // and with which settings
)

// redefined tells of a transaction that is over and may have changed that.
func (m *Machine) redefined() {
	settings := m.redefines == redefinesSettings
	m.redefines, m.saysSet = redefinesNothing, false
	if m.p.Redefined != nil {
		m.p.Redefined(settings)
	}
}

// mayGiveUp reports whether a command may have ended what pins the session, although its text is no signal.
func mayGiveUp(tag []byte) bool {
	verb, _, _ := strings.Cut(string(tag), " ")
	return verb == "CLOSE" || verb == "DROP"
}

// changeOf tells from a CommandComplete's tag what the command may have changed.
func changeOf(tag []byte) Change {
	verb, object, _ := strings.Cut(string(tag), " ")
	switch verb {
	case "DO", "CALL":
		return ChangedCode
	case "DROP", "IMPORT":
		return ChangedSchema
	case "CREATE", "ALTER":
	default:
		return ChangedNothing
	}
	switch object {
	case "FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE", "EXTENSION", "TRIGGER", "RULE", "POLICY", "VIEW",
		"MATERIALIZED VIEW", "DOMAIN", "OPERATOR", "CAST", "LANGUAGE", "TRANSFORM":
		return ChangedCode
	}
	return ChangedSchema
}
