package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

// Errors of LoginBackend that a caller tells apart, besides ErrProtocol, *wire.Error and a context's cause.
var (
	// ErrVerifierMismatch is a Postgres that stores another verifier than the one that the client has proved itself
	// against: the SCRAM keys do not fit.
	ErrVerifierMismatch = errors.New("the SCRAM verifier known to Sluice differs from the one in Postgres: " +
		"copy pg_authid.rolpassword again, or ask for it by auth.query")
	// ErrCleartext is a Postgres that asks for the password in clear where it could be read or fall to a stranger.
	ErrCleartext = errors.New("postgres asks for the password in clear on a connection that is not verified by TLS")
	// ErrUnsupported is a Postgres that asks for something that Sluice cannot do.
	ErrUnsupported = errors.New("unsupported authentication method")
	// ErrImpostor is a server that took the SCRAM proof but does not know the verifier: it is not our Postgres.
	ErrImpostor = errors.New("the server has not proved to be the Postgres that knows the role")
)

// maxRequest bounds Postgres's messages during login.
const maxRequest = 64 << 10 // 64 KiB

// What an Authentication message asks for.
const (
	authOK           = 0
	authKerberosV5   = 2
	authCleartext    = 3
	authMD5          = 5
	authSCM          = 6
	authGSS          = 7
	authGSSContinue  = 8
	authSSPI         = 9
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// ServerError is an ErrorResponse that Postgres sent instead of letting the role in.
type ServerError struct {
	Response pgproto3.ErrorResponse
	Raw      []byte // the whole message as it came, type byte and length included
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("postgres refused: %s: %s (%s)", e.Response.Severity, e.Response.Message, e.Response.Code)
}

// NoSecretError is a Postgres that asks for what the Credential cannot answer.
type NoSecretError struct {
	Need string // what Postgres asks for: "a password", "md5" or "SCRAM-SHA-256"
	Have string // what there is: "nothing", "a password", "an md5 hash" or "SCRAM keys"
}

func (e *NoSecretError) Error() string {
	return fmt.Sprintf("postgres asks for %s and Sluice has %s: store the role's password, or what "+
		"pg_authid.rolpassword holds", e.Need, e.Have)
}

// BackendOptions says what is known of the connection to Postgres.
type BackendOptions struct {
	// TLS says that the connection is encrypted, Verified that the certificate and its name were checked as well.
	TLS      bool
	Verified bool
	// AllowCleartext has a password sent in clear without that: on loopback and Unix sockets.
	AllowCleartext bool
	// ChannelBinding is the tls-server-end-point hash of Postgres's certificate; nil if there is none.
	ChannelBinding []byte
}

// LoginBackend answers what Postgres asks for after the start-up message has been sent, and returns when it has said
// AuthenticationOk. It reads nothing past that, and owns c meanwhile. A NegotiateProtocolVersion is passed over.
//
// It blocks until Postgres has answered, the connection's deadline passes, or ctx is done, which leaves the
// connection's deadlines in the past.
//
// Errors: *ServerError, *NoSecretError, ErrVerifierMismatch, ErrCleartext, ErrUnsupported, ErrImpostor, ErrProtocol,
// *wire.Error, or ctx's cause, all wrapped.
func LoginBackend(ctx context.Context, c *wire.Conn, role string, cred Credential, o BackendOptions) error {
	l := &backendLogin{c: c, role: role, cred: cred, options: o}
	if err := dialogue(ctx, c, l.run); err != nil {
		return fmt.Errorf("log in to postgres as %q: %w", role, err)
	}
	return nil
}

type backendLogin struct {
	c       *wire.Conn
	role    string
	cred    Credential
	options BackendOptions
}

// run answers the first request, and expects to be let in.
func (l *backendLogin) run() error {
	code, data, err := l.read()
	if err != nil || code == authOK {
		return err
	}
	switch code {
	case authCleartext:
		err = l.clear()
	case authMD5:
		err = l.md5(data)
	case authSASL:
		err = l.sasl(data)
	default:
		err = fmt.Errorf("%w: %s", ErrUnsupported, requestName(code))
	}
	if err != nil {
		return err
	}
	_, err = l.expect(authOK)
	return err
}

// read returns the next request of Postgres and what comes with it, which is valid until the next read.
func (l *backendLogin) read() (code uint32, data []byte, err error) {
	for {
		typ, body, err := l.c.ReadMessage(maxRequest)
		if err != nil {
			return 0, nil, err
		}
		switch typ {
		case wire.NegotiateProtocolVersion, wire.NoticeResponse:
		case wire.ErrorResponse:
			return 0, nil, serverError(body)
		case wire.Authentication:
			if len(body) < 4 {
				return 0, nil, fmt.Errorf("%w: authentication request of %d bytes", ErrProtocol, len(body))
			}
			return binary.BigEndian.Uint32(body), body[4:], nil
		default:
			return 0, nil, fmt.Errorf("%w: message type %q during login", ErrProtocol, typ)
		}
	}
}

// expect reads a request that must have the given code.
func (l *backendLogin) expect(want uint32) (data []byte, err error) {
	code, data, err := l.read()
	if err == nil && code != want {
		return nil, fmt.Errorf("%w: %s where %s was expected", ErrProtocol, requestName(code), requestName(want))
	}
	return data, err
}

func (l *backendLogin) clear() error {
	if !(l.options.TLS && l.options.Verified) && !l.options.AllowCleartext {
		return ErrCleartext
	}
	if l.cred.password() == "" {
		return &NoSecretError{Need: "a password", Have: l.cred.kind()}
	}
	return l.c.Send(&pgproto3.PasswordMessage{Password: l.cred.password()})
}

func (l *backendLogin) md5(salt []byte) error {
	if len(salt) != 4 {
		return fmt.Errorf("%w: md5 salt of %d bytes", ErrProtocol, len(salt))
	}
	digits, ok := l.cred.md5Digits(l.role)
	if !ok {
		return &NoSecretError{Need: "md5", Have: l.cred.kind()}
	}
	return l.c.Send(&pgproto3.PasswordMessage{Password: answerMD5(digits, [4]byte(salt))})
}

func (l *backendLogin) sasl(data []byte) error {
	offered, err := parseMechanisms(data)
	if err != nil {
		return err
	}
	mechanism, ok := scram.Choose(offered, l.options.ChannelBinding)
	if !ok {
		return fmt.Errorf("%w: SASL %s", ErrUnsupported, strings.Join(offered, ", "))
	}
	if !l.cred.hasSCRAM() {
		return &NoSecretError{Need: scram.SHA256, Have: l.cred.kind()}
	}
	s := scram.NewClient(l.cred.keys, scram.ClientOptions{Mechanism: mechanism, ChannelBinding: l.options.ChannelBinding})
	if err := l.c.Send(&pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: s.First()}); err != nil {
		return err
	}
	if data, err = l.expect(authSASLContinue); err != nil {
		return err
	}
	final, err := s.Final(data)
	if err != nil {
		return scramError(err)
	}
	if err := l.c.Send(&pgproto3.SASLResponse{Data: final}); err != nil {
		return err
	}
	if data, err = l.expect(authSASLFinal); err != nil {
		return err
	}
	return scramError(s.Verify(data))
}

// scramError translates an error of scram.Client.
func scramError(err error) error {
	switch {
	case errors.Is(err, scram.ErrServerSignature):
		return fmt.Errorf("%w: %w", ErrImpostor, err)
	case errors.Is(err, scram.ErrMessage), errors.Is(err, scram.ErrUnsupported), errors.Is(err, scram.ErrRefused):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// parseMechanisms reads the list of an AuthenticationSASL, which an empty name ends.
func parseMechanisms(data []byte) (names []string, err error) {
	for {
		name, rest, ok := wire.CString(data)
		switch {
		case !ok:
			return nil, fmt.Errorf("%w: SASL mechanisms without end", ErrProtocol)
		case len(name) == 0:
			return names, nil
		}
		names, data = append(names, string(name)), rest
	}
}

// serverError reads an ErrorResponse.
func serverError(body []byte) error {
	e := &ServerError{Raw: append(wire.AppendHeader(nil, wire.ErrorResponse, len(body)), body...)}
	if err := e.Response.Decode(body); err != nil {
		return fmt.Errorf("%w: malformed error response: %w", ErrProtocol, err)
	}
	return e
}

// requestName names what an Authentication message asks for.
func requestName(code uint32) string {
	switch code {
	case authOK:
		return "AuthenticationOk"
	case authKerberosV5:
		return "Kerberos V5"
	case authCleartext:
		return "a password in clear"
	case authMD5:
		return "md5"
	case authSCM:
		return "SCM credentials"
	case authGSS, authGSSContinue:
		return "GSSAPI"
	case authSSPI:
		return "SSPI"
	case authSASL:
		return "SASL"
	case authSASLContinue:
		return "a SASL challenge"
	case authSASLFinal:
		return "the end of SASL"
	}
	return fmt.Sprintf("authentication code %d", code)
}
