package proxy_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
	"sluice/internal/wire"
)

// withTLS offers TLS to clients.
func withTLS(t *testing.T) change {
	cert, key := certificate(t)
	return func(c *config.Config, _ *config.Tenant) { c.TLS.CertFile, c.TLS.KeyFile = cert, key }
}

// clientTLS is a client's configuration with these protocols.
func clientTLS(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
}

// direct opens a connection that begins with TLS.
func (h *harness) direct(port string, config *tls.Config) (*tls.Conn, error) {
	h.t.Helper()
	tc := tls.Client(h.dialFrom("127.0.0.1", port), config)
	return tc, tc.Handshake()
}

func TestDirectTLS(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, withTLS(t))
		tc, err := h.direct(port, clientTLS("postgresql"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tc.Write(wire.AppendSSLRequest(nil)); err != nil { // a client that asks nevertheless
			t.Fatal(err)
		}
		var answer [1]byte
		if _, err := io.ReadFull(tc, answer[:]); err != nil || answer[0] != 'N' {
			t.Errorf("SSLRequest inside TLS: %q, %v, want N", answer, err)
		}
		c := pgscript.NewClient(tc)
		if err := c.Login("alice", "app", ""); err != nil {
			t.Fatal(err)
		}
		query(t, c, "SELECT 'x'", "x")
	})
}

func TestDirectTLSIsRefusedWithoutAWord(t *testing.T) {
	for name, tc := range map[string]struct {
		offered   bool
		protocols []string
	}{
		"no protocol named": {true, nil},
		"another protocol":  {true, []string{"h2"}},
		"no TLS":            {false, []string{"postgresql"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ch change
				if tc.offered {
					ch = withTLS(t)
				}
				h := newHarness(t, pgscript.Options{}, ch)
				conn, err := h.direct(transactionPort, clientTLS(tc.protocols...))
				if err == nil {
					_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 the client is done before the server has judged it
				}
				if err == nil {
					t.Error("it was let in")
				}
				synctest.Wait()
				if !strings.Contains(h.log.String(), "reason=protocol_violation") {
					t.Errorf("the log does not say so:\n%s", h.log)
				}
				noBackends(t, h)
			})
		})
	}
}

func TestTLSInTheMiddleOfTheNegotiationIsAProtocolViolation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		nc := h.dialFrom("127.0.0.1", transactionPort)
		if _, err := nc.Write(append(wire.AppendSSLRequest(nil), 0x16, 3, 1, 0, 5)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(nc)
		if err != nil || got[0] != 'N' || !strings.Contains(string(got), "08P01") {
			t.Errorf("got %q, %v, want N and 08P01", got, err)
		}
	})
}

// clientHello returns what a client sends first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		_ = tls.Client(near, clientTLS("postgresql")).Handshake()
		_ = near.Close()
	}()
	buf := make([]byte, 16<<10)
	n, err := far.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestSilentHandshakesKeepNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, withTLS(t))
		hello := clientHello(t)
		for i := range 20 { // more than there are cores, at each step of the handshake
			said := hello
			if i%2 == 0 {
				said = hello[:100]
			}
			nc := h.dialFrom("127.0.0.1", transactionPort)
			if _, err := nc.Write(said); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		start := time.Now()
		c := h.connect(transactionPort)
		if err := c.StartTLS(clientTLS()); err != nil {
			t.Fatal(err)
		}
		if err := c.Login("alice", "app", ""); err != nil {
			t.Fatal(err)
		}
		wantElapsed(t, start, 0)
		time.Sleep(16 * time.Second)
		if n := strings.Count(h.log.String(), "reason=login_timeout"); n != 20 {
			t.Errorf("%d logins timed out, want 20", n)
		}
		query(t, c, "SELECT 'alive'", "alive")
	})
}

func TestHundredsOfTLSClientsAtOnceAreAllServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, withTLS(t))
		const clients = 200
		results := make(chan error, clients)
		for range clients {
			nc := h.dialFrom("127.0.0.1", transactionPort)
			background(t, func() {
				tc := tls.Client(nc, clientTLS("postgresql"))
				results <- errors.Join(tc.Handshake(), pgscript.NewClient(tc).Login("alice", "app", ""))
			})
		}
		for range clients {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestGoodbyeBeforeTheStartIsAnsweredByNothing(t *testing.T) {
	for name, before := range map[string]struct{ said, answer string }{
		"at once":          {"", ""},
		"behind no to TLS": {string(wire.AppendSSLRequest(nil)), "N"},
	} {
		t.Run(name, func(t *testing.T) {
			bothPorts(t, func(t *testing.T, port string) {
				h := newHarness(t, pgscript.Options{}, nil)
				nc := h.dialFrom("127.0.0.1", port)
				utter(t, nc, before.said+"X\x00\x00\x00\x04")
				if got, err := io.ReadAll(nc); err != nil || string(got) != before.answer {
					t.Errorf("got %q, %v, want %q", got, err, before.answer)
				}
				if log := h.log.String(); strings.Contains(log, "session ended") {
					t.Errorf("it is worth a line:\n%s", log)
				}
				noBackends(t, h)
			})
		})
	}
}
