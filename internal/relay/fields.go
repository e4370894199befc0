package relay

import (
	"github.com/jackc/pgx/v5/pgproto3"

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
