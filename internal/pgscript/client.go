package pgscript

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// patience is how long a Client waits for a message that does not come. It is longer than any timeout that is tested.
const patience = 10 * time.Minute

// RefusedError is an ErrorResponse that ended what the client did.
type RefusedError struct{ Response pgproto3.ErrorResponse }

func (e *RefusedError) Error() string { return Format(&e.Response) }

// Client is a scripted client of Postgres. It belongs to one goroutine.
type Client struct {
	PID      uint32            // from BackendKeyData
	Key      []byte            // from BackendKeyData
	Settings map[string]string // from ParameterStatus

	nc         net.Conn
	fe         *pgproto3.Frontend
	transcript []string
}

// NewClient returns a client on nc that has said nothing yet.
func NewClient(nc net.Conn) *Client {
	return &Client{nc: nc, fe: pgproto3.NewFrontend(nc, nc), Settings: map[string]string{}}
}

// NetConn returns the connection, encrypted after StartTLS.
func (c *Client) NetConn() net.Conn { return c.nc }

// Transcript returns everything sent ("C: …") and received ("B: …") so far.
func (c *Client) Transcript() string { return strings.Join(c.transcript, "\n") }

// StartTLS asks for TLS and makes the handshake. A server that says no is an error.
func (c *Client) StartTLS(config *tls.Config) error {
	c.fe.Send(&pgproto3.SSLRequest{})
	if err := c.fe.Flush(); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c.nc, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return fmt.Errorf("TLS was answered with %q", answer[0])
	}
	tc := tls.Client(c.nc, config)
	if err := tc.Handshake(); err != nil {
		return err
	}
	c.nc, c.fe = tc, pgproto3.NewFrontend(tc, tc)
	return nil
}

// Startup sends a StartupMessage of protocol 3.0 with parameters given as name, value, name, value.
func (c *Client) Startup(params ...string) error {
	m := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{}}
	for i := 0; i+1 < len(params); i += 2 {
		m.Parameters[params[i]] = params[i+1]
	}
	return c.send(m)
}

// Login logs in, with the password in whatever form the server asks for, and reads up to ReadyForQuery.
// params are further start-up parameters as for Startup. The error is *RefusedError when the server says no.
func (c *Client) Login(user, database, password string, params ...string) error {
	if err := c.Startup(append([]string{"user", user, "database", database}, params...)...); err != nil {
		return err
	}
	if err := c.authenticate(user, password); err != nil {
		return err
	}
	_, err := c.Collect()
	return err
}

// authenticate runs the dialogue up to AuthenticationOk.
func (c *Client) authenticate(user, password string) error {
	var proof scramClient
	for {
		msg, err := c.receive()
		if err != nil {
			return err
		}
		var answer pgproto3.FrontendMessage
		switch m := msg.(type) {
		case *pgproto3.AuthenticationOk:
			return nil
		case *pgproto3.AuthenticationCleartextPassword:
			answer = &pgproto3.PasswordMessage{Password: password}
		case *pgproto3.AuthenticationMD5Password:
			answer = &pgproto3.PasswordMessage{Password: md5Answer(user, password, m.Salt)}
		case *pgproto3.AuthenticationSASL:
			answer = proof.first()
		case *pgproto3.AuthenticationSASLContinue:
			answer, err = proof.answer(password, m.Data)
		case *pgproto3.AuthenticationSASLFinal:
			err = proof.verify(m.Data)
		case *pgproto3.NegotiateProtocolVersion:
		case *pgproto3.ErrorResponse:
			return &RefusedError{*m}
		default:
			return fmt.Errorf("%s during login", Format(msg))
		}
		if err == nil && answer != nil {
			err = c.send(answer)
		}
		if err != nil {
			return err
		}
	}
}

// Run plays a script and fails the test at the first line that does not come true. Lines are "C: …", messages to
// send, and "B: …", messages that must arrive next, as Matches compares them. Lines of C that follow one another leave in
// one write. "B: EOF" expects the end of the connection.
func (c *Client) Run(t testing.TB, lines ...string) {
	t.Helper()
	if err := c.Script(lines...); err != nil {
		t.Fatalf("%v\ntranscript:\n%s", err, c.Transcript())
	}
}

// Script is Run for goroutines other than the test's: it returns the error.
func (c *Client) Script(lines ...string) error {
	var batch []pgproto3.FrontendMessage
	for _, line := range lines {
		side, text, _ := strings.Cut(line, ":")
		switch side {
		case "C":
			msg, err := Parse(text)
			if err != nil {
				return err
			}
			fm, ok := msg.(pgproto3.FrontendMessage)
			if !ok {
				return fmt.Errorf("%s is not a client's message", line)
			}
			batch = append(batch, fm)
		case "B":
			if err := c.send(batch...); err != nil {
				return fmt.Errorf("before %s: %w", line, err)
			}
			batch = nil
			if err := c.expect(strings.TrimSpace(text)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("line %q is neither C: nor B: but must be one", line)
		}
	}
	return c.send(batch...)
}

func (c *Client) expect(want string) error {
	msg, err := c.receive()
	if want == "EOF" {
		if err == nil {
			return fmt.Errorf("got %s, want the end of the connection", Format(msg))
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("got %w, want the end of the connection", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("got %w, want %s", err, want)
	}
	switch ok, err := Matches(want, Format(msg)); {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("got %s, want %s", Format(msg), want)
	}
	return nil
}

// Collect reads up to and with ReadyForQuery and returns the lines. The error is *RefusedError after a FATAL.
func (c *Client) Collect() (lines []string, err error) {
	for {
		msg, err := c.receive()
		if err != nil {
			return lines, err
		}
		lines = append(lines, Format(msg))
		switch m := msg.(type) {
		case *pgproto3.ReadyForQuery:
			return lines, nil
		case *pgproto3.ErrorResponse:
			if m.Severity == "FATAL" {
				return lines, &RefusedError{*m}
			}
		}
	}
}

// Query runs sql by the simple protocol and returns the first value of each row. The error is *RefusedError when the
// server says no; if it was not FATAL the client can go on.
func (c *Client) Query(sql string) (first []string, err error) {
	if err := c.send(&pgproto3.Query{String: sql}); err != nil {
		return nil, err
	}
	var refused error
	for {
		msg, err := c.receive()
		if err != nil {
			return first, errors.Join(refused, err)
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if len(m.Values) > 0 {
				first = append(first, string(m.Values[0]))
			}
		case *pgproto3.ErrorResponse:
			refused = &RefusedError{*m}
			if m.Severity == "FATAL" {
				return first, refused
			}
		case *pgproto3.ReadyForQuery:
			return first, refused
		}
	}
}

// Close says Terminate and closes the connection.
func (c *Client) Close() error {
	_ = c.send(&pgproto3.Terminate{})
	return c.nc.Close()
}

// Cancel sends a CancelRequest on a connection of its own and waits until the server has closed it.
func Cancel(nc net.Conn, pid uint32, key []byte) error {
	defer nc.Close()
	b, err := (&pgproto3.CancelRequest{ProcessID: pid, SecretKey: key}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := nc.Write(b); err != nil {
		return err
	}
	answer, err := io.ReadAll(nc)
	if err == nil && len(answer) > 0 {
		err = fmt.Errorf("a cancel request was answered with %q", answer)
	}
	return err
}

func (c *Client) send(msgs ...pgproto3.FrontendMessage) error {
	if len(msgs) == 0 {
		return nil
	}
	for _, m := range msgs {
		c.fe.Send(m)
		c.transcript = append(c.transcript, "C: "+Format(m))
	}
	return c.fe.Flush()
}

func (c *Client) receive() (pgproto3.BackendMessage, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	msg, err := c.fe.Receive()
	if err != nil {
		c.transcript = append(c.transcript, "B: "+err.Error())
		return nil, err
	}
	c.transcript = append(c.transcript, "B: "+Format(msg))
	switch m := msg.(type) {
	case *pgproto3.BackendKeyData:
		c.PID, c.Key = m.ProcessID, m.SecretKey
	case *pgproto3.ParameterStatus:
		c.Settings[m.Name] = m.Value
	}
	return msg, nil
}
