package auth

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

func TestSilentClientIsEndedByContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		start := time.Now()
		_, err := mustNew(t, Auto, fixed{}).Authenticate(ctx, wire.NewConn(near, wire.Client), Peer{Role: role})
		wantErr(t, err, context.DeadlineExceeded)
		if got := time.Since(start); got != 15*time.Second {
			t.Errorf("after %v, want 15s", got)
		}
		_ = near.Close()
	})
}

// answer encodes messages of a client.
func answer(t testing.TB, msgs ...wire.Message) []byte {
	t.Helper()
	var out []byte
	for _, m := range msgs {
		var err error
		if out, err = m.Encode(out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestClientsThatBreakTheProtocol(t *testing.T) {
	t.Parallel()
	raw := func(typ byte, body string) []byte { return append(wire.AppendHeader(nil, typ, len(body)), body...) }
	first := func(mechanism, data string) []byte {
		return answer(t, &pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(data)})
	}
	for _, tc := range []struct {
		name   string
		method Method
		in     []byte
		want   error
	}{
		{"another message", Password, answer(t, &pgproto3.Query{String: "select 1"}), ErrProtocol},
		{"terminate", Auto, answer(t, &pgproto3.Terminate{}), ErrProtocol},
		{"password without end", Password, raw('p', "secret"), ErrProtocol},
		{"bytes behind the password", MD5, raw('p', "secret\x00x"), ErrProtocol},
		{"gone", Password, nil, io.EOF},
		{"gone in the middle", Password, []byte("p\x00\x00"), io.ErrUnexpectedEOF},
		{"too long a password", Password, wire.AppendHeader(nil, 'p', maxPassword+1), wire.ErrTooLarge},
		{"too long a proof", Auto, wire.AppendHeader(nil, 'p', maxSCRAM+1), wire.ErrTooLarge},
		{"impossible length", Auto, []byte("p\x00\x00\x00\x01"), wire.ErrLength},
		{"no SASL", Auto, raw('p', "secret"), ErrProtocol},
		{"another length", Auto, raw('p', scram.SHA256+"\x00\x00\x00\x00\x05abc"), ErrProtocol},
		{"negative length", Auto, raw('p', scram.SHA256+"\x00\xff\xff\xff\xfeabc"), ErrProtocol},
		{"mechanism not offered", Auto, first(scram.SHA256Plus, "p=tls-server-end-point,,n=,r=abc"), ErrProtocol},
		{"malformed first", Auto, first(scram.SHA256, "n,,r=abc"), ErrProtocol},
		{"empty first", Auto, first(scram.SHA256, ""), ErrProtocol},
		{"malformed final", Auto, append(first(scram.SHA256, "n,,n=,r=abc"), raw('p', "c=biws")...), ErrProtocol},
	} {
		for _, user := range []string{role, "bob"} {
			c := newScript(tc.in)
			p := Peer{Role: user, Secure: true}
			a := mustNew(t, tc.method, fixed{entry: Entry{Secret: mustSecret(t, password)}})
			_, err := a.Authenticate(t.Context(), wire.NewConn(c, wire.Client), p)
			if !errors.Is(err, tc.want) || errors.Is(err, ErrAuthFailed) {
				t.Errorf("%s, role %s: got %v, want %v", tc.name, user, err, tc.want)
			}
		}
	}
}

func TestLongTokensAreTakenAsPasswords(t *testing.T) {
	t.Parallel()
	token := strings.Repeat("x", maxPassword-1)
	c := newScript(answer(t, &pgproto3.PasswordMessage{Password: token}))
	a := mustNew(t, Password, fixed{entry: Entry{Secret: mustSecret(t, token)}})
	if _, err := a.Authenticate(t.Context(), wire.NewConn(c, wire.Client), Peer{Role: role, TLS: true}); err != nil {
		t.Error(err)
	}
}

func TestClientFirstMayComeAfterAnEmptyChallenge(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	a := mustNew(t, Auto, fixed{entry: Entry{Secret: mustSecret(t, password)}})
	done := make(chan error, 1)
	go func() {
		c := wire.NewConn(near, wire.Client)
		_, err := a.Authenticate(context.Background(), c, Peer{Role: role})
		done <- errors.Join(err, c.Send(&pgproto3.AuthenticationOk{}))
	}()
	s := scram.NewClient(scram.PasswordKeys(password), scram.ClientOptions{Mechanism: scram.SHA256})
	front := pgproto3.NewFrontend(far, far)
	receive[*pgproto3.AuthenticationSASL](t, front)
	_, _ = far.Write([]byte("p\x00\x00\x00\x16" + scram.SHA256 + "\x00\xff\xff\xff\xff"))
	if m := receive[*pgproto3.AuthenticationSASLContinue](t, front); len(m.Data) != 0 {
		t.Fatalf("challenge %q", m.Data)
	}
	_, _ = far.Write(answer(t, &pgproto3.SASLResponse{Data: s.First()}))
	final, err := s.Final(receive[*pgproto3.AuthenticationSASLContinue](t, front).Data)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = far.Write(answer(t, &pgproto3.SASLResponse{Data: final}))
	wantErr(t, s.Verify(receive[*pgproto3.AuthenticationSASLFinal](t, front).Data), nil)
	receive[*pgproto3.AuthenticationOk](t, front)
	wantErr(t, <-done, nil)
}

func receive[M pgproto3.BackendMessage](t *testing.T, f *pgproto3.Frontend) M {
	t.Helper()
	m, err := f.Receive()
	if err != nil {
		t.Fatal(err)
	}
	want, ok := m.(M)
	if !ok {
		t.Fatalf("got %T, want %T", m, want)
	}
	return want
}
