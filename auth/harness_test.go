package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth/scram"
	"sluice/internal/wire"
)

const (
	role     = "alice"
	password = "correct horse"
)

// stored returns the texts of every kind of secret for the password.
func stored(t testing.TB) (plain, hash, verifier string) {
	t.Helper()
	v, err := scram.NewVerifier(password, []byte("0123456789abcdef"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return password, md5Prefix + hashMD5(password, role), v.String()
}

func mustSecret(t testing.TB, text string) Secret {
	t.Helper()
	s, err := ParseSecret(role, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// text returns what ParseSecret has read.
func (s Secret) text() string {
	switch {
	case s.s.verifier != nil:
		return s.s.verifier.String()
	case s.s.hash != "":
		return md5Prefix + s.s.hash
	}
	return s.s.plain.password()
}

// fixed is a Store of one answer for role; other roles do not exist.
type fixed struct {
	entry Entry
	err   error
}

func (f fixed) Lookup(_ context.Context, name string) (Entry, error) {
	if f.err == nil && name != role {
		return Entry{}, ErrUnknownRole
	}
	return f.entry, f.err
}

func mustNew(t testing.TB, m Method, s Store) *Authenticator {
	t.Helper()
	a, err := New(Params{Method: m, Store: s, MockKey: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	mu      sync.Mutex // guards below
	written bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.written.Write(p)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

func (r *recorder) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.written.Bytes())
}

// outcome is what a login came to on our side.
type outcome struct {
	cred Credential
	err  error
	sent []byte // by us, before the end
}

// login has pgconn, which knows nothing of this package, log in to a.
func login(t testing.TB, a *Authenticator, user, pw string) (o outcome, clientErr error) {
	t.Helper()
	return loginWith(t, a, plainConfig(t), user, pw, nil)
}

func plainConfig(t testing.TB) *pgconn.Config {
	t.Helper()
	config, err := pgconn.ParseConfig("postgres://sluice.invalid/?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// loginPeer does so as a client of whom that is known.
func loginPeer(t testing.TB, a *Authenticator, p Peer, pw string) (o outcome, clientErr error) {
	t.Helper()
	return connect(t, plainConfig(t), p.Role, pw, func(nc net.Conn, served chan<- outcome) {
		var o outcome
		if _, o.err = wire.ReadRequest(nc); o.err == nil {
			o = judge(a, p, nc, nc)
		}
		served <- o
	})
}

// loginWith does so with the client's configuration, and over TLS if there is a certificate for the server.
func loginWith(t testing.TB, a *Authenticator, config *pgconn.Config, user, pw string, cert *tls.Certificate) (o outcome, clientErr error) {
	t.Helper()
	return connect(t, config, user, pw, func(nc net.Conn, served chan<- outcome) { serve(nc, a, cert, served) })
}

// connect has pgconn connect to who is served by serve.
func connect(t testing.TB, config *pgconn.Config, user, pw string, serve func(net.Conn, chan<- outcome)) (o outcome, clientErr error) {
	t.Helper()
	near, far := net.Pipe()
	config.User, config.Password = user, pw
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil }
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return far, nil }
	served := make(chan outcome, 1)
	go serve(near, served)
	conn, clientErr := pgconn.ConnectConfig(t.Context(), config)
	if clientErr == nil {
		go func() { _, _ = io.Copy(io.Discard, near) }() // its Terminate
		_ = conn.Close(t.Context())
	}
	o = <-served
	_ = near.Close()
	return o, clientErr
}

// serve is the part of a pooler's front that Authenticate leaves to others.
func serve(nc net.Conn, a *Authenticator, cert *tls.Certificate, served chan<- outcome) {
	var o outcome
	raw := nc
	defer func() { served <- o }()
	peer := Peer{Secure: true}
	r, err := wire.ReadRequest(nc)
	if err == nil && r.Kind == wire.SSLRequest && cert != nil {
		_, _ = nc.Write([]byte("S"))
		nc = tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{*cert}})
		hash := sha256.Sum256(cert.Certificate[0])
		peer = Peer{TLS: true, ChannelBinding: hash[:]}
		r, err = wire.ReadRequest(nc)
	}
	if err != nil {
		o.err = err
		return
	}
	peer.Role, _ = r.Get("user")
	o = judge(a, peer, nc, raw)
}

// judge authenticates the client at the other end of nc, which is over raw, and tells it how that ended.
func judge(a *Authenticator, peer Peer, nc, raw net.Conn) (o outcome) {
	rec := &recorder{Conn: nc}
	c := wire.NewConn(rec, wire.Client)
	o.cred, o.err = a.Authenticate(context.Background(), c, peer)
	o.sent = rec.bytes()
	if o.err != nil {
		_ = c.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "no"})
		_ = raw.Close() // nobody reads what the client says at its end
		return o
	}
	_ = c.Send(&pgproto3.AuthenticationOk{}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	return o
}

// certificate returns a new self-signed certificate.
func certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"sluice.invalid"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// wantErr fails unless err is want; want nil is no error.
func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || (want == nil && err != nil) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}
