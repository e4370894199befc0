// Package auth verifies who a client is and keeps what is needed to log in to Postgres as that role.
//
// An Authenticator asks a client for the secret that a Store holds of its role, and returns a Credential; LoginBackend
// logs in to Postgres with one. A client that proves itself by SCRAM shows its ClientKey by that, so Sluice logs in
// where the same verifier is stored without ever knowing the password.
//
// Protocol: "Start-up", "SASL Authentication", "SCRAM-SHA-256 Authentication".
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

// Errors of Authenticate that a caller tells apart, besides *wire.Error and a context's cause.
var (
	// ErrAuthFailed is a client that has not shown the secret of its role; see FailedError.
	ErrAuthFailed = errors.New("authentication failed")
	// ErrProtocol is a message that is malformed or out of place, of a client or, in LoginBackend, of Postgres.
	ErrProtocol = errors.New("authentication protocol violated")
	// ErrNeedsTLS is a method that has the client send its secret in clear, or show a certificate, without TLS.
	ErrNeedsTLS = errors.New("this authentication method needs TLS")
	// ErrLookup is a store that could not be asked, such as Postgres being down: nothing is known about the client.
	ErrLookup = errors.New("role lookup failed")
	// ErrChannelBinding is a client that is bound to another TLS channel than ours, or, then it is also an
	// ErrBindingDowngrade, was led to believe that we cannot bind: somebody may sit in between.
	ErrChannelBinding   = scram.ErrChannelBinding
	ErrBindingDowngrade = scram.ErrBindingDowngrade
	// ErrUnknownRole is what a Store says of a role that does not exist. Authenticate never returns it.
	ErrUnknownRole = errors.New("unknown role")
)

// Why is the reason of a failed login, for the log: the client must not learn it.
type Why string

// The reasons of failed logins.
const (
	WhyUnknownRole   Why = "no such role"
	WhyNoPassword    Why = "no password"
	WhyWrongPassword Why = "wrong password"
	WhyExpired       Why = "expired"
	WhyMD5Stored     Why = "stored md5 but scram required"
	WhyMD5Name       Why = "wrong password, or a right one that md5 has hashed with another user name than the stored md5 hash is of"
)

// FailedError is a login that failed after the client had given its whole answer. It unwraps to ErrAuthFailed.
type FailedError struct {
	Role  string
	Asked Method // by which the client was asked for its secret
	Why   Why
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("%v for role %.64q: %s", ErrAuthFailed, e.Role, e.Why)
}

// Unwrap returns ErrAuthFailed.
func (e *FailedError) Unwrap() error { return ErrAuthFailed }

// Method is how clients prove who they are.
type Method string

// The methods. Auto goes by the stored secret, never weaker: md5 for an md5 hash, SCRAM-SHA-256 for everything else.
// MD5 asks for SCRAM-SHA-256 where a verifier is stored, as Postgres does. Cert wants a certificate that is for the role,
// SocketUser a Unix socket and at its other end a user who is; Params say by which names. JWT wants a token of an issuer that
// holds the role, in place of a password. Trust asks for nothing.
const (
	Auto        Method = "auto"
	Trust       Method = "trust"
	Password    Method = "password"
	MD5         Method = "md5"
	SCRAMSHA256 Method = "scram-sha-256"
	Cert        Method = "cert"
	SocketUser  Method = "peer"
	JWT         Method = "jwt"
)

// Valid reports whether m is one of the methods.
func (m Method) Valid() bool {
	switch m {
	case Auto, Trust, Password, MD5, SCRAMSHA256, Cert, SocketUser, JWT:
		return true
	}
	return false
}

// asks reports whether the client is asked for what is stored of its role.
func (m Method) asks() bool { return m != Trust && m != Cert && m != SocketUser && m != JWT }

// forSecret returns what a role with this secret is asked for; for no secret, what an unknown role is asked for.
func (m Method) forSecret(s Secret) Method {
	switch {
	case m == Auto && s.hash() != "":
		return MD5
	case m == Auto, m == MD5 && s.isVerifier():
		return SCRAMSHA256
	}
	return m
}

// Entry is what a Store knows of a role.
type Entry struct {
	Secret     Secret    // the zero Secret: the role has no password, and cannot log in with one
	ValidUntil time.Time // zero: for ever
	// Also is a second secret that is good as well, while the role's password changes; the zero Secret: there is none.
	Also      Secret
	AlsoUntil time.Time
}

// With returns e with a second secret, which is valid until a time, the zero one being for ever. The one that lasts longer is
// the role's, the other one is good as well. Errors: one of the two is none, or neither has an end.
func (e Entry) With(second Secret, until time.Time) (Entry, error) {
	switch {
	case until.IsZero() && e.ValidUntil.IsZero():
		return e, errors.New("of two secrets one must have an end, until which both are good")
	case e.Secret.IsZero() || second.IsZero():
		return e, errors.New("one of two secrets is empty")
	}
	e.Also, e.AlsoUntil = second, until
	if until.IsZero() || !e.ValidUntil.IsZero() && until.After(e.ValidUntil) {
		e.Secret, e.ValidUntil, e.Also, e.AlsoUntil = e.Also, e.AlsoUntil, e.Secret, e.ValidUntil
	}
	return e, nil
}

// valid returns the secrets that have not expired.
func (e Entry) valid() (secrets []Secret) {
	now := time.Now()
	if !e.Secret.IsZero() && !expired(e.ValidUntil, now) {
		secrets = append(secrets, e.Secret)
	}
	if !e.Also.IsZero() && !expired(e.AlsoUntil, now) {
		secrets = append(secrets, e.Also)
	}
	return secrets
}

// expired reports whether what is valid until a time, the zero one being never, is so no longer.
func expired(until, now time.Time) bool { return !until.IsZero() && until.Before(now) }

// keep takes over the secrets of before that have not changed, with what has been computed from them.
func (e *Entry) keep(before Entry) {
	for _, s := range []*Secret{&e.Secret, &e.Also} {
		for _, old := range []Secret{before.Secret, before.Also} {
			if s.Equal(old) {
				*s = old
			}
		}
	}
}

// credential returns what the stored secrets alone suffice for.
func (e Entry) credential() Credential {
	secrets := e.valid()
	if len(secrets) == 0 && !e.Secret.IsZero() { // who need not prove a secret may have one that has expired
		secrets = []Secret{e.Secret}
	}
	for i, s := range secrets {
		if c := s.credential(); !c.IsZero() {
			return c.amid(secrets, i)
		}
	}
	return Credential{}
}

// Store knows roles and their secrets. It is safe for concurrent use.
type Store interface {
	// Lookup returns what is known of a role. It may block until ctx is done. Errors: ErrUnknownRole, wrapped; any
	// other is a failure to find out.
	Lookup(ctx context.Context, role string) (Entry, error)
}

// invalidator is a Store that may hold old news.
type invalidator interface{ Invalidate(role string) }

// forgetter is a Store that may hold old news of any role.
type forgetter interface{ Forget() }

// Chain is a Store that asks its members in order until one knows the role.
type Chain []Store

// Lookup implements Store.
func (c Chain) Lookup(ctx context.Context, role string) (Entry, error) {
	for _, s := range c {
		if e, err := s.Lookup(ctx, role); !errors.Is(err, ErrUnknownRole) {
			return e, err
		}
	}
	return Entry{}, ErrUnknownRole
}

// Invalidate tells those members that may hold old news of the role.
func (c Chain) Invalidate(role string) {
	for _, s := range c {
		if i, ok := s.(invalidator); ok {
			i.Invalidate(role)
		}
	}
}

// Forget has the next Lookup of each role find out anew, where members may hold old news.
func (c Chain) Forget() {
	for _, s := range c {
		if f, ok := s.(forgetter); ok {
			f.Forget()
		}
	}
}

// keep implements keeper for those members that can, from the members of before in their order.
func (c Chain) keep(before Store) {
	old, _ := before.(Chain)
	for i, s := range c[:min(len(c), len(old))] {
		if k, ok := s.(keeper); ok {
			k.keep(old[i])
		}
	}
}

// derive implements deriver for those members that can.
func (c Chain) derive(salt func(role string) []byte) error {
	var all error
	for _, s := range c {
		if d, ok := s.(deriver); ok {
			all = errors.Join(all, d.derive(salt))
		}
	}
	return all
}

const redacted = "[redacted]"

func redactedValue() slog.Value { return slog.StringValue(redacted) }

// dialogue runs f, which talks on c, and has ctx end it: the connection's deadlines are in the past then.
func dialogue(ctx context.Context, c *wire.Conn, f func() error) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = c.NetConn().SetDeadline(time.Unix(1, 0)) // fails only on a closed connection, which ends f as well
	})
	err := f()
	if !stop() {
		<-stopped
		return fmt.Errorf("login interrupted: %w", context.Cause(ctx))
	}
	return err
}
