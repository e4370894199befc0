package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
)

const (
	loginTimeout      = 60 * time.Second // a thousand others may be in line
	acceptsTLS   byte = 'S'
)

// dialer logs in by SCRAM. It derives the keys of its password once per salt, since PBKDF2 would cost a client a hundred
// times what its login costs a pooler.
type dialer struct {
	user, password, database string

	mu   sync.Mutex // guards below
	keys map[string]scram.Keys
}

func newDialer(user, password, database string) *dialer {
	return &dialer{user: user, password: password, database: database, keys: map[string]scram.Keys{}}
}

// session is a connection that is logged in. It belongs to one goroutine.
type session struct {
	net.Conn
	frontend *pgproto3.Frontend
}

// login blocks until ReadyForQuery, ctx is done or loginTimeout has passed. The caller must end the session.
func (d *dialer) login(ctx context.Context, address string, encrypted bool) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	s, err := d.loginOver(ctx, conn, encrypted)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("log in at %s: %w", address, err)
	}
	return s, nil
}

func (d *dialer) loginOver(ctx context.Context, conn net.Conn, encrypted bool) (*session, error) {
	if encrypted {
		var err error
		if conn, err = startTLS(ctx, conn); err != nil {
			return nil, err
		}
	}
	s := &session{Conn: conn, frontend: pgproto3.NewFrontend(conn, conn)}
	s.frontend.Send(&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters:      map[string]string{"user": d.user, "database": d.database, "client_encoding": "UTF8"},
	})
	return s, d.authenticate(s)
}

// startTLS offers the key exchanges that a libpq with OpenSSL 3.0 offers, so that a server's choice is the one it makes
// for most clients. The certificate is not checked: that costs the client, not the server.
func startTLS(ctx context.Context, conn net.Conn) (net.Conn, error) {
	request, err := (&pgproto3.SSLRequest{}).Encode(nil)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != acceptsTLS {
		return nil, fmt.Errorf("TLS refused with %q", answer[0])
	}
	encrypted := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true,
		CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256},
	})
	return encrypted, encrypted.HandshakeContext(ctx)
}

// authenticate answers what the server asks until it is ready.
func (d *dialer) authenticate(s *session) error {
	proof := scram.NewClient(d.derive, scram.ClientOptions{Mechanism: scram.SHA256})
	for {
		if err := s.frontend.Flush(); err != nil {
			return err
		}
		message, err := s.frontend.Receive()
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *pgproto3.AuthenticationSASL:
			s.frontend.Send(&pgproto3.SASLInitialResponse{AuthMechanism: scram.SHA256, Data: proof.First()})
		case *pgproto3.AuthenticationSASLContinue:
			final, err := proof.Final(m.Data)
			if err != nil {
				return err
			}
			s.frontend.Send(&pgproto3.SASLResponse{Data: final})
		case *pgproto3.AuthenticationSASLFinal:
			if err := proof.Verify(m.Data); err != nil {
				return err
			}
		case *pgproto3.AuthenticationCleartextPassword, *pgproto3.AuthenticationMD5Password:
			return errors.New("it asks for a password by another method than SCRAM")
		case *pgproto3.ErrorResponse:
			return serverError(m)
		case *pgproto3.ReadyForQuery:
			return nil
		}
	}
}

// derive is a scram.KeyFunc.
func (d *dialer) derive(salt []byte, iterations int) (scram.Keys, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := fmt.Sprintf("%d:%x", iterations, salt)
	if keys, ok := d.keys[name]; ok {
		return keys, nil
	}
	keys, err := scram.DeriveKeys(d.password, salt, iterations)
	if err == nil {
		d.keys[name] = keys
	}
	return keys, err
}

func serverError(m *pgproto3.ErrorResponse) error {
	return fmt.Errorf("%s %s: %s", m.Severity, m.Code, m.Message)
}

// query runs a statement without parameters and reads past its rows.
func (s *session) query(sql string) error {
	s.frontend.SendQuery(&pgproto3.Query{String: sql})
	if err := s.frontend.Flush(); err != nil {
		return err
	}
	_, err := s.untilReady()
	return err
}

// untilReady reads up to ReadyForQuery and returns how many bytes of CopyData there were on the way.
func (s *session) untilReady() (copied int64, err error) {
	var failure error
	for {
		message, err := s.frontend.Receive()
		if err != nil {
			return copied, err
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			copied += int64(len(m.Data))
		case *pgproto3.ErrorResponse:
			failure = serverError(m)
		case *pgproto3.ReadyForQuery:
			return copied, failure
		}
	}
}

// end says goodbye and closes.
func (s *session) end() {
	s.frontend.Send(&pgproto3.Terminate{})
	_ = s.frontend.Flush() // the other side may have gone first
	_ = s.Close()
}

// loginMany opens n sessions, some at a time, and runs a statement on each; what it opened is returned with an error as
// well.
func (d *dialer) loginMany(ctx context.Context, address string, encrypted bool, n int, sql string) ([]*session, error) {
	const atATime = 16
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex // guards sessions and failure
		sessions = make([]*session, 0, n)
		failure  error
		tickets  = make(chan struct{}, n)
	)
	for range n {
		tickets <- struct{}{}
	}
	close(tickets)
	for range atATime {
		wg.Go(func() {
			for range tickets {
				s, err := d.login(ctx, address, encrypted)
				if err == nil {
					err = s.query(sql)
				}
				mu.Lock()
				if s != nil {
					sessions = append(sessions, s)
				}
				failure = errors.Join(failure, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return sessions, failure
}
