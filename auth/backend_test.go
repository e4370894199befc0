package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

// postgres is the other end of LoginBackend, made of pgproto3's Backend.
type postgres struct {
	*pgproto3.Backend
	nc net.Conn
}

func (p *postgres) say(m ...pgproto3.BackendMessage) {
	for _, m := range m {
		p.Send(m)
	}
	_ = p.Flush()
}

// hear returns the next message of the client as what authType makes of it; nil if there is none.
func (p *postgres) hear(authType uint32) pgproto3.FrontendMessage {
	_ = p.SetAuthType(authType)
	m, err := p.Receive()
	if err != nil {
		return nil
	}
	return m
}

// backendLoginWith runs LoginBackend against the script.
func backendLoginWith(t *testing.T, cred Credential, o BackendOptions, script func(*postgres)) error {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = far.Close() }()
		script(&postgres{pgproto3.NewBackend(far, far), far})
	}()
	err := LoginBackend(t.Context(), wire.NewConn(near, wire.Backend), role, cred, o)
	_ = near.Close()
	<-done
	return err
}

// scramServer is a Postgres that stores v and offers the mechanisms.
func scramServer(v scram.Verifier, binding []byte, offered ...string) func(*postgres) {
	return func(p *postgres) {
		p.say(&pgproto3.AuthenticationSASL{AuthMechanisms: offered})
		first, _ := p.hear(pgproto3.AuthTypeSASL).(*pgproto3.SASLInitialResponse)
		if first == nil {
			return
		}
		s, err := scram.NewServer(v, scram.ServerOptions{Mechanism: first.AuthMechanism, ChannelBinding: binding})
		var challenge []byte
		if err == nil {
			challenge, err = s.First(first.Data)
		}
		if err != nil {
			p.say(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: err.Error()})
			return
		}
		p.say(&pgproto3.AuthenticationSASLContinue{Data: challenge})
		answer, _ := p.hear(pgproto3.AuthTypeSASLContinue).(*pgproto3.SASLResponse)
		if answer == nil {
			return
		}
		final, err := s.Final(answer.Data)
		if err != nil {
			p.say(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: err.Error()})
			return
		}
		p.say(&pgproto3.AuthenticationSASLFinal{Data: final}, &pgproto3.AuthenticationOk{})
	}
}

// passwordServer asks for a password by the request and lets in who gives the answer.
func passwordServer(request pgproto3.BackendMessage, authType uint32, want string) func(*postgres) {
	return func(p *postgres) {
		p.say(request)
		m, _ := p.hear(authType).(*pgproto3.PasswordMessage)
		switch {
		case m == nil:
		case m.Password != want:
			p.say(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "wrong"})
		default:
			p.say(&pgproto3.AuthenticationOk{})
		}
	}
}

func TestEveryCredentialWithEveryRequest(t *testing.T) {
	t.Parallel()
	_, hash, text := stored(t)
	v := *mustSecret(t, text).s.verifier
	keys, err := scram.DeriveKeys(password, v.Salt, v.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	creds := map[string]Credential{
		"nothing": {}, "a password": PasswordCredential(password), "an md5 hash": mustSecret(t, hash).credential(),
		"SCRAM keys": scramCredential(keys.ClientKey, v),
	}
	salt := [4]byte{1, 2, 3, 4}
	for _, tc := range []struct {
		need   string
		works  []string
		server func(*postgres)
	}{
		{"a password", []string{"a password"},
			passwordServer(&pgproto3.AuthenticationCleartextPassword{}, pgproto3.AuthTypeCleartextPassword, password)},
		{"md5", []string{"a password", "an md5 hash"}, passwordServer(&pgproto3.AuthenticationMD5Password{Salt: salt},
			pgproto3.AuthTypeMD5Password, answerMD5(hash[len(md5Prefix):], salt))},
		{scram.SHA256, []string{"a password", "SCRAM keys"}, scramServer(v, nil, scram.SHA256)},
		{"trust", []string{"nothing", "a password", "an md5 hash", "SCRAM keys"},
			func(p *postgres) { p.say(&pgproto3.AuthenticationOk{}) }},
	} {
		for have, cred := range creds {
			err := backendLoginWith(t, cred, BackendOptions{AllowCleartext: true}, tc.server)
			var none *NoSecretError
			switch works := strings.Contains(strings.Join(tc.works, "|"), have); {
			case works && err != nil:
				t.Errorf("%s asked, %s there: %v", tc.need, have, err)
			case works:
			case !errors.As(err, &none):
				t.Errorf("%s asked, %s there: got %v, want a NoSecretError", tc.need, have, err)
			default:
				if diff := cmp.Diff(&NoSecretError{Need: tc.need, Have: have}, none); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
		}
	}
}

// What a client's login leaves logs in to a Postgres that stores the same verifier, and to no other.
func TestPassThroughOfAClientLogin(t *testing.T) {
	t.Parallel()
	_, _, text := stored(t)
	o, clientErr := login(t, mustNew(t, Auto, fixed{entry: Entry{Secret: mustSecret(t, text)}}), role, password)
	if o.err != nil || clientErr != nil {
		t.Fatal(o.err, clientErr)
	}
	v := *mustSecret(t, text).s.verifier
	wantErr(t, backendLoginWith(t, o.cred, BackendOptions{}, scramServer(v, nil, scram.SHA256)), nil)
	other, err := scram.NewVerifier(password, scram.NewSalt(), 64)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, backendLoginWith(t, o.cred, BackendOptions{}, scramServer(other, nil, scram.SHA256)), ErrVerifierMismatch)
}

func TestBackendChannelBinding(t *testing.T) {
	t.Parallel()
	_, _, text := stored(t)
	v := *mustSecret(t, text).s.verifier
	hash := []byte("certificate hash")
	for _, tc := range []struct {
		name          string
		ours, servers []byte
		offered       []string
		want          error
		refusal       string
	}{
		{"both can", hash, hash, []string{scram.SHA256Plus, scram.SHA256}, nil, ""},
		{"only we can", hash, nil, []string{scram.SHA256}, nil, ""},
		{"only postgres can", nil, hash, []string{scram.SHA256Plus, scram.SHA256}, nil, ""},
		{"offer removed on the way", hash, hash, []string{scram.SHA256}, nil, "08P01"},
		{"another channel", []byte("other"), hash, []string{scram.SHA256Plus}, nil, "28P01"},
		{"only with binding, and we cannot", nil, hash, []string{scram.SHA256Plus}, ErrUnsupported, ""},
	} {
		err := backendLoginWith(t, PasswordCredential(password), BackendOptions{ChannelBinding: tc.ours},
			scramServer(v, tc.servers, tc.offered...))
		var refused *ServerError
		switch {
		case tc.refusal != "":
			if !errors.As(err, &refused) || refused.Response.Code != tc.refusal {
				t.Errorf("%s: got %v, want %s", tc.name, err, tc.refusal)
			}
		case !errors.Is(err, tc.want) || (tc.want == nil && err != nil):
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestPasswordGoesInClearOnlyWhereItIsSafe(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		o    BackendOptions
		want error
	}{
		{BackendOptions{}, ErrCleartext},
		{BackendOptions{TLS: true}, ErrCleartext},
		{BackendOptions{Verified: true}, ErrCleartext},
		{BackendOptions{TLS: true, Verified: true}, nil},
		{BackendOptions{AllowCleartext: true}, nil},
	} {
		err := backendLoginWith(t, PasswordCredential(password), tc.o,
			passwordServer(&pgproto3.AuthenticationCleartextPassword{}, pgproto3.AuthTypeCleartextPassword, password))
		if !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("%+v: got %v, want %v", tc.o, err, tc.want)
		}
	}
}

func TestRefusalOfPostgresComesWholeAndUntouched(t *testing.T) {
	t.Parallel()
	sent := answer(t, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "no pg_hba.conf entry",
		UnknownFields: map[byte]string{'z': "new"}})
	err := backendLoginWith(t, Credential{}, BackendOptions{}, func(p *postgres) { _, _ = p.nc.Write(sent) })
	var refused *ServerError
	if !errors.As(err, &refused) || string(refused.Raw) != string(sent) || refused.Response.Code != "28000" {
		t.Fatalf("got %v, raw %q; want raw %q", err, refused.Raw, sent)
	}
	if want := "postgres refused: FATAL: no pg_hba.conf entry (28000)"; refused.Error() != want {
		t.Errorf("error text %q, want %q", refused, want)
	}
}

func TestLoginReadsNothingPastAuthenticationOk(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	go func() {
		_, _ = far.Write(answer(t, &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 0, UnrecognizedOptions: []string{"_pq_.x"}},
			&pgproto3.NoticeResponse{Message: "hello"}, &pgproto3.AuthenticationOk{}))
		_, _ = far.Write([]byte("next"))
		_ = far.Close()
	}()
	wantErr(t, LoginBackend(t.Context(), wire.NewConn(near, wire.Backend), role, Credential{}, BackendOptions{}), nil)
	rest, err := io.ReadAll(near)
	if string(rest) != "next" || err != nil {
		t.Errorf("left %q, %v", rest, err)
	}
}

func TestServersThatBreakTheProtocol(t *testing.T) {
	t.Parallel()
	request := func(code byte, data string) string {
		return fmt.Sprintf("R\x00\x00\x00%c\x00\x00\x00%c%s", 8+len(data), code, data)
	}
	sasl := request(authSASL, scram.SHA256+"\x00\x00")
	for _, tc := range []struct {
		name, in string
		want     error
	}{
		{"gone", "", io.EOF},
		{"short", "R\x00\x00\x00\x06\x00\x00", ErrProtocol},
		{"another message", "Z\x00\x00\x00\x05I", ErrProtocol},
		{"malformed error", "E\x00\x00\x00\x06Sx", ErrProtocol},
		{"kerberos", request(authKerberosV5, ""), ErrUnsupported},
		{"scm", request(authSCM, ""), ErrUnsupported},
		{"gssapi", request(authGSS, ""), ErrUnsupported},
		{"sspi", request(authSSPI, ""), ErrUnsupported},
		{"unheard of", request(99, ""), ErrUnsupported},
		{"md5 without salt", request(authMD5, "abc"), ErrProtocol},
		{"mechanisms without end", request(authSASL, "SCRAM"), ErrProtocol},
		{"other mechanisms", request(authSASL, "OAUTHBEARER\x00\x00"), ErrUnsupported},
		{"ok instead of a challenge", sasl + request(authOK, ""), ErrProtocol},
		{"end instead of a challenge", sasl + request(authSASLFinal, "v="), ErrProtocol},
		{"malformed challenge", sasl + request(authSASLContinue, "r=x"), ErrProtocol},
		{"second request", request(authMD5, "abcd") + request(authMD5, "abcd"), ErrProtocol},
		{"too long", "R\x00\x7f\x00\x00", wire.ErrTooLarge},
	} {
		c := wire.NewConn(newScript([]byte(tc.in)), wire.Backend)
		err := LoginBackend(t.Context(), c, role, PasswordCredential(password), BackendOptions{})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

// A server that takes any proof must not be taken for Postgres.
func TestServerThatDoesNotKnowTheVerifierIsNotTrusted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		last []pgproto3.BackendMessage
		want error
	}{
		"wrong signature": {[]pgproto3.BackendMessage{&pgproto3.AuthenticationSASLFinal{Data: []byte("v=" + strings.Repeat("A", 43) + "=")},
			&pgproto3.AuthenticationOk{}}, ErrImpostor},
		"no signature": {[]pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}}, ErrProtocol},
		"an error":     {[]pgproto3.BackendMessage{&pgproto3.AuthenticationSASLFinal{Data: []byte("e=other-error")}}, ErrProtocol},
	} {
		err := backendLoginWith(t, PasswordCredential(password), BackendOptions{}, func(p *postgres) {
			p.say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{scram.SHA256}})
			first := p.hear(pgproto3.AuthTypeSASL).(*pgproto3.SASLInitialResponse)
			_, nonce, _ := strings.Cut(string(first.Data), "r=")
			p.say(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=" + nonce + "x,s=c2FsdA==,i=1")})
			p.hear(pgproto3.AuthTypeSASLContinue)
			for _, m := range tc.last {
				p.say(m)
			}
		})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestSilentServerIsEndedByContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		down := errors.New("shutting down")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, down)
		defer cancel()
		start := time.Now()
		err := LoginBackend(ctx, wire.NewConn(near, wire.Backend), role, Credential{}, BackendOptions{})
		wantErr(t, err, down)
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("after %v, want 5s", got)
		}
	})
}
