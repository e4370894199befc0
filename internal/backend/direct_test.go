package backend_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"sluice/internal/backend"
	"sluice/internal/pgscript"
)

const directAddress = "direct:5432"

// newDirectHarness has a Postgres on directAddress that takes nothing but TLS from the first byte on, for these protocols.
func newDirectHarness(t *testing.T, protocols ...string) (h *harness, server *pgscript.Server, roots *x509.CertPool) {
	t.Helper()
	config, roots := certificate(t, x509.ECDSAWithSHA256)
	config.NextProtos = protocols
	h = &harness{t: t, network: newHarness(t, pgscript.Options{}).network}
	server = pgscript.Serve(tls.NewListener(h.network.Listen(directAddress), config), pgscript.Options{})
	t.Cleanup(server.Close)
	return h, server, roots
}

// direct is a change of a dialer's parameters to direct TLS, verified against roots.
func direct(roots *x509.CertPool) func(p *backend.Params) {
	return func(p *backend.Params) {
		p.Hosts, p.TLSMode, p.DirectTLS = []backend.Address{tcp(directAddress)}, backend.TLSVerifyFull, true
		p.TLSFor = func(string) (*tls.Config, error) { return &tls.Config{RootCAs: roots, ServerName: "db.example"}, nil }
	}
}

func TestDirectTLSBeginsAtOnceForLoginsCancelsAndProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, server, roots := newDirectHarness(t, "postgresql")
		d := h.dialer(direct(roots))
		c := dial(t, d)
		if _, encrypted := c.NetConn().(*tls.Conn); !c.TLS || !encrypted {
			t.Errorf("TLS is %t, NetConn a %T", c.TLS, c.NetConn())
		}
		if err := d.Cancel(t.Context(), c.Identity); err != nil || server.Cancels() != 1 {
			t.Errorf("cancel: %v, %d requests arrived, want 1", err, server.Cancels())
		}
		if err := d.Probe(t.Context()); err != nil {
			t.Errorf("probe: %v", err)
		}
	})
}

func TestDirectTLSNeedsAServerThatAgreesOnTheProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, server, roots := newDirectHarness(t)
		d := h.dialer(direct(roots))
		_, err := d.Dial(t.Context(), alice())
		if _, dialing := errors.AsType[*backend.DialError](err); !dialing || !errors.Is(err, backend.ErrNoALPN) {
			t.Errorf("got %v, want ErrNoALPN", err)
		}
		if err := d.Probe(t.Context()); !errors.Is(err, backend.ErrNoALPN) || strings.Count(err.Error(), "dial backend") != 1 {
			t.Errorf("probe: %v, want ErrNoALPN", err)
		}
		if n := len(server.Conns()); n != 0 {
			t.Errorf("%d start-up messages were sent", n)
		}
	})
}

func TestDirectTLSTakesNoModeThatGoesWithout(t *testing.T) {
	t.Parallel()
	for mode, ok := range map[string]bool{
		backend.TLSDisable: false, backend.TLSPrefer: false, backend.TLSRequire: true, backend.TLSVerifyCA: true, backend.TLSVerifyFull: true,
	} {
		p := backend.Params{Hosts: []backend.Address{tcp(address)}, TLSMode: mode, TLSFor: trusting, DirectTLS: true}
		if _, err := backend.NewDialer(p); (err == nil) != ok {
			t.Errorf("%s: %v, want accepted %t", mode, err, ok)
		}
	}
}
