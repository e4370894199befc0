package backend_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/pgscript"
)

func TestTLSModes(t *testing.T) {
	for name, tc := range map[string]struct {
		mode    string
		offered bool
		tlsFor  func(roots *x509.CertPool) func(string) (*tls.Config, error)
		want    bool  // TLS
		err     error // instead
	}{
		"disable ignores an offer":          {backend.TLSDisable, true, verifying, false, nil},
		"prefer takes an offer":             {backend.TLSPrefer, true, nil, true, nil},
		"prefer goes without":               {backend.TLSPrefer, false, nil, false, nil},
		"prefer goes without if it fails":   {backend.TLSPrefer, true, strangers, false, nil},
		"require takes an offer":            {backend.TLSRequire, true, nil, true, nil},
		"require does not go without":       {backend.TLSRequire, false, nil, false, backend.ErrTLSRefused},
		"verify-full verifies the host":     {backend.TLSVerifyFull, true, verifying, true, nil},
		"verify-full refuses strangers":     {backend.TLSVerifyFull, true, strangers, false, errUnknownAuthority},
		"verify-full does not go without":   {backend.TLSVerifyFull, false, verifying, false, backend.ErrTLSRefused},
		"no configuration is not a licence": {backend.TLSRequire, true, nothing, false, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o pgscript.Options
				config, roots := certificate(t, x509.ECDSAWithSHA256)
				if tc.offered {
					o.TLS = config
				}
				h := newHarness(t, o)
				d := h.dialer(func(p *backend.Params) {
					p.TLSMode, p.TLSFor = tc.mode, trusting
					if tc.tlsFor != nil {
						p.TLSFor = tc.tlsFor(roots)
					}
				})
				c, err := d.Dial(t.Context(), alice())
				if tc.err != nil {
					wantTLSError(t, err, tc.err)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				conns := h.server.Conns()
				if _, encrypted := c.NetConn().(*tls.Conn); c.TLS != tc.want || encrypted != tc.want || conns[0].TLS != tc.want || len(conns) != 1 {
					t.Errorf("TLS is %t, NetConn a %T, the server saw %t", c.TLS, c.NetConn(), conns[0].TLS)
				}
				if _, err := c.Query(t.Context(), backend.Limit{Rows: 1, Bytes: 10}, "SELECT 'a'"); err != nil {
					t.Errorf("query: %v", err)
				}
			})
		})
	}
}

// errAny and errUnknownAuthority stand for errors that are no sentinels.
var (
	errAny              = errors.New("any")
	errUnknownAuthority = errors.New("x509.UnknownAuthorityError")
)

func wantTLSError(t *testing.T, err, want error) {
	t.Helper()
	_, dialing := errors.AsType[*backend.DialError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	if !dialing || errors.Is(want, errUnknownAuthority) && !unknown || errors.Is(want, backend.ErrTLSRefused) && !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func strangers(*x509.CertPool) func(string) (*tls.Config, error) {
	return verifying(x509.NewCertPool())
}

func nothing(*x509.CertPool) func(string) (*tls.Config, error) {
	return func(string) (*tls.Config, error) { return nil, nil }
}

func TestUnixSocketsNeverUseTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		socket := backend.Address{Network: "unix", Addr: "/run/.s.PGSQL.5432"}
		h.serve(socket.Addr, pgscript.Options{})
		c := dial(t, h.dialer(func(p *backend.Params) {
			p.Hosts, p.TLSMode, p.TLSFor = []backend.Address{socket}, backend.TLSVerifyFull, trusting
		}))
		if c.TLS {
			t.Error("a Unix socket has TLS")
		}
	})
}

func TestRefusalBeforeTLSIsNotForClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusal := &pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "send me your password in clear"}
		h := newHarness(t, pgscript.Options{Knobs: pgscript.Knobs{RefuseSSL: refusal}})
		d := h.dialer(func(p *backend.Params) { p.TLSMode, p.TLSFor = backend.TLSRequire, trusting })
		_, err := d.Dial(t.Context(), alice())
		login, ok := errors.AsType[*backend.LoginError](err)
		if !ok || !login.BeforeTLS || !backend.Unreachable(err) || backend.Full(err) {
			t.Errorf("got %v, want a refusal before TLS, unreachable", err)
		}
		if said, ok := backend.Rejected(err); ok {
			t.Errorf("clients would be told %v", said)
		}
	})
}

func TestBytesInjectedBehindTheAnswerToSSLRequestBreakTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config, roots := certificate(t, x509.ECDSAWithSHA256)
		h := newHarness(t, pgscript.Options{})
		h.listen("injected:5432", func(nc net.Conn) {
			_, _ = io.ReadFull(nc, make([]byte, 8))
			_, _ = io.WriteString(nc, "SR\x00\x00\x00\x08\x00\x00\x00\x00")
			if tls.Server(nc, config).Handshake() == nil {
				t.Error("the handshake succeeded: the injected bytes were taken before it")
			}
		})
		d := h.dialer(func(p *backend.Params) {
			p.Hosts, p.TLSMode, p.TLSFor = []backend.Address{tcp("injected:5432")}, backend.TLSRequire, func(string) (*tls.Config, error) {
				return &tls.Config{RootCAs: roots, ServerName: "db.example"}, nil
			}
		})
		_, err := d.Dial(t.Context(), alice())
		if _, ok := errors.AsType[tls.RecordHeaderError](err); !ok {
			t.Errorf("got %v, want a broken handshake", err)
		}
	})
}

func TestOddAnswersToSSLRequestAreErrors(t *testing.T) {
	for name, say := range map[string]string{
		"an answer and a greeting": "SR\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I",
		"an unknown answer":        "X",
		"an error of protocol 2":   "Ecould not fork new process for connection\n\x00",
		"an error cut off":         "E\x00\x00\x00\x20",
		"nothing":                  "",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{})
				h.listen("evil:5432", func(nc net.Conn) {
					_, _ = io.ReadFull(nc, make([]byte, 8))
					_, _ = io.WriteString(nc, say)
				})
				d := h.dialer(func(p *backend.Params) {
					p.Hosts, p.TLSMode, p.TLSFor = []backend.Address{tcp("evil:5432")}, backend.TLSRequire, trusting
				})
				_, err := d.Dial(t.Context(), alice())
				if _, ok := errors.AsType[*backend.DialError](err); !ok {
					t.Errorf("got %v, want a *DialError", err)
				}
			})
		})
	}
}

func TestTLSHandshakeIsBoundByTheConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{})
		h.listen("stuck:5432", func(nc net.Conn) {
			_, _ = io.ReadFull(nc, make([]byte, 8))
			_, _ = nc.Write([]byte("S"))
			_, _ = io.Copy(io.Discard, nc)
		})
		d := h.dialer(func(p *backend.Params) {
			p.Hosts, p.TLSMode, p.TLSFor = []backend.Address{tcp("stuck:5432")}, backend.TLSPrefer, trusting
		})
		start := time.Now()
		_, err := d.Dial(t.Context(), alice())
		wantElapsed(t, start, 5*time.Second)
		if !backend.Unreachable(err) {
			t.Errorf("got %v, want unreachable", err)
		}
	})
}

func TestCleartextPasswordNeedsAVerifiedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config, roots := certificate(t, x509.ECDSAWithSHA384)
		h := newHarness(t, pgscript.Options{TLS: config, Passwords: map[string]string{"alice": "secret"}})
		d := h.dialer(func(p *backend.Params) { p.TLSMode, p.TLSFor = backend.TLSRequire, verifying(roots) })
		if _, err := d.Dial(t.Context(), alice()); !errors.Is(err, auth.ErrCleartext) {
			t.Errorf("require: got %v, want ErrCleartext", err)
		}
		dial(t, h.dialer(func(p *backend.Params) {
			p.TLSMode, p.TLSFor, p.Verifies = backend.TLSRequire, verifying(roots), true
		}))
		dial(t, h.dialer(func(p *backend.Params) { p.TLSMode, p.TLSFor = backend.TLSVerifyFull, verifying(roots) }))
	})
}
