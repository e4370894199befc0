// Package wire frames protocol-3 messages and holds the tables of what each type byte means in each direction; it
// also reads the start-up dialogue.
//
// It is used in two ways. Login, the console and everything else that is sequential uses Conn, which blocks and never
// reads past the message it returns, so that the connection can be handed on at any message boundary. The relay uses
// Header and the tables on bytes that somebody else has read.
//
// Protocol: "Message Formats" and "Message Flow".
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderLen is the length of a message's type byte and length word.
const HeaderLen = 5

// Longest messages that Postgres takes from a frontend, type byte not counted (PQ_SMALL_MESSAGE_LIMIT and
// PQ_LARGE_MESSAGE_LIMIT).
const (
	maxSmall = 10000
	maxLarge = 1<<30 - 1 - 1
)

// ErrLength is a message whose length word cannot be right.
var ErrLength = errors.New("invalid message length")

// ErrType is a message whose type byte means nothing in its direction.
var ErrType = errors.New("invalid message type")

// Side names an end of Sluice's connections in errors.
type Side string

// The two sides.
const (
	Client  Side = "client"
	Backend Side = "backend"
)

// Frontend message types: what a client sends.
const (
	Bind         = 'B'
	Close        = 'C'
	CopyData     = 'd' // both directions
	CopyDone     = 'c' // both directions
	CopyFail     = 'f'
	Describe     = 'D'
	Execute      = 'E'
	Flush        = 'H'
	FunctionCall = 'F'
	Parse        = 'P'
	Password     = 'p' // and SASL responses
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// Backend message types: what Postgres sends.
const (
	Authentication           = 'R'
	BackendKeyData           = 'K'
	BindComplete             = '2'
	CloseComplete            = '3'
	CommandComplete          = 'C'
	CopyBothResponse         = 'W'
	CopyInResponse           = 'G'
	CopyOutResponse          = 'H'
	DataRow                  = 'D'
	EmptyQueryResponse       = 'I'
	ErrorResponse            = 'E'
	FunctionCallResponse     = 'V'
	NegotiateProtocolVersion = 'v'
	NoData                   = 'n'
	NoticeResponse           = 'N'
	NotificationResponse     = 'A'
	ParameterDescription     = 't'
	ParameterStatus          = 'S'
	ParseComplete            = '1'
	PortalSuspended          = 's'
	ReadyForQuery            = 'Z'
	RowDescription           = 'T'
)

// Header reads the header at the start of p. ok is false when p holds fewer than HeaderLen bytes; otherwise body is
// the number of bytes that follow the header, at least 0. err is ErrLength, wrapped, when the length word is below 4.
func Header(p []byte) (typ byte, body int, ok bool, err error) {
	if len(p) < HeaderLen {
		return 0, 0, false, nil
	}
	n := binary.BigEndian.Uint32(p[1:5])
	if n < 4 || n > maxLarge {
		return p[0], 0, true, fmt.Errorf("%w %d in message %q", ErrLength, n, p[0])
	}
	return p[0], int(n) - 4, true, nil
}

// CheckFrontend reports whether Postgres would take a message of this type and body length from a client that is
// logged in: ErrType or ErrLength, wrapped, if not.
func CheckFrontend(typ byte, body int) error {
	var limit int
	switch typ {
	case Bind, Parse, Query, FunctionCall, CopyData:
		limit = maxLarge
	case Close, Describe, Execute, Flush, Sync, Terminate, CopyDone, CopyFail:
		limit = maxSmall
	default:
		return fmt.Errorf("%w %d", ErrType, typ)
	}
	if body+4 > limit {
		return fmt.Errorf("%w %d in message %q", ErrLength, body+4, typ)
	}
	return nil
}

// AppendHeader appends the header of a message whose body has the given length.
func AppendHeader(dst []byte, typ byte, body int) []byte {
	dst = append(dst, typ)
	return binary.BigEndian.AppendUint32(dst, uint32(body+4))
}

// CString returns the bytes before the first zero byte of p and what follows it; ok is false when there is none.
// The results alias p.
func CString(p []byte) (s, rest []byte, ok bool) {
	for i, b := range p {
		if b == 0 {
			return p[:i], p[i+1:], true
		}
	}
	return nil, p, false
}
