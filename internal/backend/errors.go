package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth"
	"sluice/internal/wire"
)

// Errors that a caller tells apart.
var (
	// ErrTLSRefused is a server that does not offer the TLS that the mode asks for. It comes in a *DialError.
	ErrTLSRefused = errors.New("server does not offer TLS")
	// ErrNoALPN is a server that took TLS at once without agreeing on the protocol: it may not be a Postgres. It comes in a
	// *DialError.
	ErrNoALPN = errors.New("server took direct TLS without ALPN: it is no PostgreSQL 17 or newer")
	// ErrProtocol is a message of Postgres that is malformed or out of place.
	ErrProtocol = errors.New("protocol violation by backend")
	// ErrTarget is a Target that cannot be put into a start-up message.
	ErrTarget = errors.New("invalid start-up parameters")
	// ErrLimit is a result with more rows or bytes than the Limit allows.
	ErrLimit = errors.New("result too large")
	// ErrBroken is a Query on a Conn whose last one was not read to its end.
	ErrBroken = errors.New("connection is unusable")
)

// errHandshake is a TLS handshake that failed, for prefer to go on without.
var errHandshake = errors.New("TLS handshake")

// SQLSTATEs of Postgres that tell that it takes nobody now.
const (
	adminShutdown      = "57P01"
	crashShutdown      = "57P02"
	cannotConnectNow   = "57P03"
	tooManyConnections = "53300"
)

// DialError is a server that could not be reached: refused or lost connections, timeouts, TLS that cannot be agreed
// on.
type DialError struct {
	Addr string
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("dial backend %s: %v", e.Addr, e.Err) }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// LoginError is a login that Postgres refused (around *auth.ServerError), or that could not be brought to its end with
// what there is.
type LoginError struct {
	Addr      string
	BeforeTLS bool // the refusal came unprotected where TLS was asked for: anybody can have sent it
	Err       error
}

func (e *LoginError) Error() string { return fmt.Sprintf("log in to backend %s: %v", e.Addr, e.Err) }

// Unwrap returns the cause.
func (e *LoginError) Unwrap() error { return e.Err }

// Unreachable reports whether err of Dial says that Postgres cannot be reached now, whoever logs in: the network
// failed, the time was up, or Postgres is starting, stopping or recovering. A cancelled context is not that.
func Unreachable(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	if e, ok := errors.AsType[*LoginError](err); ok {
		return e.BeforeTLS || saysOneOf(err, adminShutdown, crashShutdown, cannotConnectNow)
	}
	_, ok := errors.AsType[*DialError](err)
	return ok
}

// Full reports whether err of Dial says that Postgres has no connection left, for this role, this database or at all.
func Full(err error) bool {
	_, ok := Rejected(err)
	return ok && saysOneOf(err, tooManyConnections)
}

// Rejected returns Postgres's own refusal of a login, if err of Dial is one that a client may be told. A refusal that
// came before TLS is not.
func Rejected(err error) (*pgproto3.ErrorResponse, bool) {
	login, ok := errors.AsType[*LoginError](err)
	if !ok || login.BeforeTLS {
		return nil, false
	}
	server, ok := errors.AsType[*auth.ServerError](err)
	if !ok {
		return nil, false
	}
	return &server.Response, true
}

// WrongPassword reports whether err of Dial is a login that Postgres has refused for its password; that may have counted.
func WrongPassword(err error) bool {
	refused, ok := Rejected(err)
	return ok && refused.Code == "28P01"
}

func saysOneOf(err error, sqlstates ...string) bool {
	e, ok := errors.AsType[*auth.ServerError](err)
	return ok && slices.Contains(sqlstates, e.Response.Code)
}

// serverError makes an error of the body of an ErrorResponse, which it copies.
func serverError(body []byte) error {
	e := &auth.ServerError{Raw: append(wire.AppendHeader(nil, wire.ErrorResponse, len(body)), body...)}
	if err := e.Response.Decode(body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return e
}

// timeoutCause is why a context with a timeout is done.
func timeoutCause(d time.Duration) error {
	return fmt.Errorf("no answer within %s: %w", d, context.DeadlineExceeded)
}
