package backend_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
)

const address = "db.example:5432"

func alice() backend.Target {
	return backend.Target{Role: "alice", Database: "app", Credential: auth.PasswordCredential("secret")}
}

func tcp(addr string) backend.Address { return backend.Address{Network: "tcp", Addr: addr} }

// harness is a network with a Postgres on address.
type harness struct {
	t       *testing.T
	network *memnet.Network
	server  *pgscript.Server
}

func newHarness(t *testing.T, o pgscript.Options) *harness {
	t.Helper()
	h := &harness{t: t, network: memnet.New()}
	h.server = h.serve(address, o)
	return h
}

// serve starts a further Postgres that ends with the test.
func (h *harness) serve(addr string, o pgscript.Options) *pgscript.Server {
	s := pgscript.Serve(h.network.Listen(addr), o)
	h.t.Cleanup(s.Close)
	return s
}

// dialer returns a Dialer without TLS and with a timeout of 5 s, but as change wants it.
func (h *harness) dialer(change func(p *backend.Params)) *backend.Dialer {
	h.t.Helper()
	p := backend.Params{
		Hosts: []backend.Address{tcp(address)}, TLSMode: backend.TLSDisable, ConnectTimeout: 5 * time.Second,
		DialContext: h.network.Dial,
	}
	if change != nil {
		change(&p)
	}
	return newDialer(h.t, p)
}

func newDialer(t *testing.T, p backend.Params) *backend.Dialer {
	t.Helper()
	d, err := backend.NewDialer(p)
	if err != nil {
		t.Fatalf("NewDialer: %v", err)
	}
	return d
}

// dial connects as alice and closes the connection at the end of the test.
func dial(t *testing.T, d *backend.Dialer) *backend.Conn {
	t.Helper()
	c, err := d.Dial(t.Context(), alice())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// listen plays a server by hand on the harness's network: play gets the one connection that is made.
func (h *harness) listen(addr string, play func(nc net.Conn)) {
	l := h.network.Listen(addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		play(nc)
	}()
	h.t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

func wantElapsed(t *testing.T, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("took %s, want %s", got, want)
	}
}

// certificate is a certificate for db.example that is its own authority, signed as the algorithm says.
func certificate(t *testing.T, algorithm x509.SignatureAlgorithm) (server *tls.Config, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"db.example"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), SignatureAlgorithm: algorithm,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// verifying is a TLSFor that verifies against roots.
func verifying(roots *x509.CertPool) func(string) (*tls.Config, error) {
	return func(string) (*tls.Config, error) { return &tls.Config{RootCAs: roots}, nil }
}

// trusting is a TLSFor that verifies nothing.
func trusting(string) (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true}, nil }

// after returns a context that is cancelled after d.
func after(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(d, cancel)
	t.Cleanup(func() { timer.Stop(); cancel() })
	return ctx
}
