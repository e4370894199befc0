package relay

import (
	"bytes"
	"maps"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// A statement of the client's that could not be prepared on this backend, because what it speaks of is gone, is missing there. On a
// direct connection it would still have its name: EXECUTE would say what is wrong with it, and run it again once that is mended.

// nothing is the body of what takes the name of a missing statement, for a text that gives the name up.
const nothing = "\x00\x00\x00"

// missed takes note of why a statement could not be prepared. Where the error stands in its text is left out: it is not in that
// of an EXECUTE.
func (m *Machine) missed(name string, body []byte) {
	if m.doubt == nil {
		m.doubt = &doubt{}
	}
	if m.doubt.missing == nil {
		m.doubt.missing = make(map[string][]byte)
	}
	maps.DeleteFunc(m.doubt.missing, func(name string, _ []byte) bool { return m.names.Lookup([]byte(name)) == nil })
	var why []byte
	for len(body) > 0 && body[0] != 0 {
		_, rest, ok := wire.CString(body)
		if !ok {
			break
		}
		if field := body[:len(body)-len(rest)]; field[0] != 'P' {
			why = append(why, field...)
		}
		body = rest
	}
	m.doubt.missing[name] = append(why, 0)
}

// isMissing reports whether the backend does not have the client's statement.
func (m *Machine) isMissing(name string) bool {
	has := m.backend.Own.Lookup([]byte(name))
	return has == nil || has.Body() == nothing && m.names.Lookup([]byte(name)).Body() != nothing
}

// retry deals with what is missing before a text with the signals s, on a backend that knows the client's names: what it may run
// is prepared, if that is possible now, and what it may give up gets something to be given up.
func (m *Machine) retry(c *call, s sessionstate.Signals) Next {
	const both = sessionstate.Execute | sessionstate.Deallocate
	givesUp := s&both == sessionstate.Deallocate
	if s&both == 0 || !m.own || m.doubt == nil || len(m.doubt.missing) == 0 || m.status == 'E' || m.open && !givesUp {
		return proceed
	}
	if m.doubt.retried { // for this message, which has waited for that
		m.doubt.retried = false
		return proceed
	}
	var missing []string
	for _, name := range m.names.Names() {
		if m.isMissing(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return proceed
	}
	if next := m.block(c); next != proceed {
		m.unused = m.q.own() && !m.Asking() // the backend stays for this message
		return next
	}
	var again []string
	b := c.toBackend.own()
	for _, name := range missing {
		if m.backend.Own.Lookup([]byte(name)) != nil {
			m.backend.Own.Swap(name, nil).Release()
			b = m.appendOwnClose(b, name)
		}
		if givesUp {
			b = appendParse(b, name, nothing)
			m.push(entry{kind: wire.Parse, do: carry})
			m.backend.Own.Swap(name, m.table().Private(nothing))
			continue
		}
		again = append(again, name)
	}
	b = m.appendOwnStatements(b, again)
	c.toBackend.set(m.appendEnd(b))
	if m.await {
		m.doubt.retried = true
		return Blocked
	}
	return proceed
}

// unknown deals with an error that says that a statement is not there: the client may have to be told another one. It returns the
// code of what it is told, and whether that has been sent.
func (m *Machine) unknown(head *entry, msg []byte, toClient *Out) (code string, sent bool) {
	switch head.do {
	case duplicate:
		toClient.set(appendError(toClient.own(), errDuplicate(head.name)))
		return "42P05", true
	case stale:
		toClient.set(appendError(toClient.own(), errStale()))
		return "0A000", true
	}
	if why := m.whyMissing(msg); why != nil {
		toClient.set(append(wire.AppendHeader(toClient.own(), wire.ErrorResponse, len(why)), why...))
		return parseError(why).code, true
	}
	return "26000", m.restate(msg, `"`+missing, `"`, toClient)
}

// whyMissing returns what is wrong with the statement of which Postgres says that it is missing, nil if nothing is known of it.
func (m *Machine) whyMissing(msg []byte) []byte {
	if !m.own || m.doubt == nil {
		return nil
	}
	for name, why := range m.doubt.missing {
		if m.names.Lookup([]byte(name)) != nil && m.isMissing(name) && bytes.Contains(msg, []byte(`"`+name+`"`)) {
			return why
		}
	}
	return nil
}
