package relay

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// errorFields is what the machine needs to know of an ErrorResponse.
type errorFields struct {
	code    string
	message string
	fatal   bool
}

// parseError reads the fields of an ErrorResponse's body; what is missing or cut off stays empty.
// Protocol: "Error and Notice Message Fields".
func parseError(body []byte) errorFields {
	var f errorFields
	for len(body) > 0 && body[0] != 0 {
		field := body[0]
		value, rest, ok := wire.CString(body[1:])
		if !ok {
			return f
		}
		switch field {
		case 'C':
			f.code = string(value)
		case 'M':
			f.message = string(value)
		case 'V':
			f.fatal = string(value) == "FATAL" || string(value) == "PANIC"
		}
		body = rest
	}
	return f
}

// errDuplicate is what Postgres says to a Parse under a name that is taken.
func errDuplicate(name string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{
		Severity:            "ERROR",
		SeverityUnlocalized: "ERROR",
		Code:                "42P05",
		Message:             `prepared statement "` + name + `" already exists`,
		File:                "prepare.c",
		Routine:             "StorePreparedStatement",
	}
}

// errStale is what Postgres says to a Bind of a statement that returns something else than when it was parsed.
func errStale() *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{
		Severity:            "ERROR",
		SeverityUnlocalized: "ERROR",
		Code:                "0A000",
		Message:             "cached plan must not change result type",
		File:                "plancache.c",
		Routine:             "RevalidateCachedQuery",
	}
}

func appendError(dst []byte, e *pgproto3.ErrorResponse) []byte {
	out, err := e.Encode(dst)
	if err != nil { // only for messages over 1 GiB
		return dst
	}
	return out
}

// boundValue returns the value of parameter n, counted from 1, from what a Bind has behind its names. ok is false if it is
// not there, or NULL. A text's is the same in both formats.
func boundValue(values []byte, n int) (value string, ok bool) {
	values, ok = skipShorts(values)
	if !ok || len(values) < 2 || int(binary.BigEndian.Uint16(values)) < n {
		return "", false
	}
	values = values[2:]
	for ; len(values) >= 4; n-- {
		size := int(int32(binary.BigEndian.Uint32(values)))
		values = values[4:]
		switch {
		case size > len(values) || size < 0 && n == 1:
			return "", false
		case n == 1:
			return string(values[:size]), true
		}
		values = values[max(size, 0):]
	}
	return "", false
}

// bindsMeaning reports whether a Bind of the client's statement may have the name of a setting, or a pid, among its values.
func (m *Machine) bindsMeaning(statement []byte) bool {
	st := m.names.Lookup(statement)
	return st != nil && sessionstate.Signals(st.Signals)&(sessionstate.SetConfig|sessionstate.Process) != 0
}

// skipShorts returns what is behind a list of 16-bit numbers.
func skipShorts(p []byte) (rest []byte, ok bool) {
	if len(p) < 2 {
		return nil, false
	}
	size := 2 + 2*int(binary.BigEndian.Uint16(p))
	if size > len(p) {
		return nil, false
	}
	return p[size:], true
}

// wellFormed reports whether p is a query with its zero byte and a list of parameter types.
func wellFormed(p []byte) bool {
	_, types, ok := wire.CString(p)
	return ok && len(types) >= 2 && len(types) == 2+4*int(binary.BigEndian.Uint16(types))
}
