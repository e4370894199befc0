package proxy_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
	"sluice/internal/wire"
)

// Attacks on poolers that are known by a number, each against Sluice; those that need a real Postgres are in test/e2e.

// CVE-2021-3935: what somebody in between puts in clear behind a client's SSLRequest is not taken for the client's.
func TestAttackPlaintextBehindSSLRequest(t *testing.T) {
	startup := wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "alice"}, {Name: "database", Value: "app"}})
	injected := append(append([]byte(nil), startup...), "Q\x00\x00\x00\x17DROP TABLE victims\x00"...)
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, withTLS(t))
		nc := h.dialFrom("127.0.0.1", port)
		utter(t, nc, string(wire.AppendSSLRequest(nil))+string(injected))
		got, err := io.ReadAll(nc)
		if err != nil || len(got) == 0 || got[0] != 'S' || strings.Contains(string(got), "Z\x00\x00\x00\x05I") {
			t.Errorf("got %q, %v", got, err)
		}
		noBackends(t, h)

		nc = h.dialFrom("127.0.0.1", port) // behind the client's first flight
		utter(t, nc, string(wire.AppendSSLRequest(nil)))
		if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		tc := tls.Client(&inject{Conn: nc, text: injected}, clientTLS())
		if err := tc.Handshake(); err == nil {
			if _, err := tc.Read(make([]byte, 1)); err == nil {
				t.Error("the connection goes on")
			}
		}
		noBackends(t, h)
	})
}

// inject puts text behind the first write.
type inject struct {
	*memnet.Conn
	text []byte
}

func (c *inject) Write(p []byte) (int, error) {
	if _, err := c.Conn.Write(append(append([]byte(nil), p...), c.text...)); err != nil {
		return 0, err
	}
	c.text = nil
	return len(p), nil
}

// CVE-2026-6664: lengths in SCRAM messages, and of them, that do not fit.
func TestAttackMalformedSCRAMLengths(t *testing.T) {
	initial := func(n uint32, data string) string {
		return "SCRAM-SHA-256\x00" + string(binary.BigEndian.AppendUint32(nil, n)) + data
	}
	message := func(n uint32, body string) string { return "p" + string(binary.BigEndian.AppendUint32(nil, n)) + body }
	whole := func(body string) string { return message(uint32(len(body)+4), body) }
	first := whole(initial(9, "n,,n=,r=x"))
	for name, said := range map[string]string{
		"length of the response too long":    whole(initial(10, "n,,n=,r=x")),
		"length of the response too short":   whole(initial(8, "n,,n=,r=x")),
		"length of the response huge":        whole(initial(0x7fffffff, "n,,n=,r=x")),
		"length of the response negative":    whole(initial(0x80000000, "n,,n=,r=x")),
		"length of the response near 2^32":   whole(initial(0xfffffffc, "n,,n=,r=x")),
		"no response, but there is one":      whole(initial(0xffffffff, "n,,n=,r=x")),
		"no length":                          whole("SCRAM-SHA-256\x00\x00\x00"),
		"no mechanism":                       whole("SCRAM-SHA-256"),
		"nothing":                            whole(""),
		"length of the message too small":    message(3, ""),
		"length of the message zero":         message(0, ""),
		"length of the message huge":         message(0x7fffffff, "x"),
		"length of the message negative":     message(0xffffffff, "x"),
		"length of the proof's message huge": first + message(0x7ffffff0, "x"),
		"an empty proof":                     first + whole(""),
		"a proof of nothing but zeroes":      first + whole(strings.Repeat("\x00", 200)),
		"attributes without values":          first + whole("c,r,p"),
		"a proof of the wrong length":        first + whole("c=biws,r=x,p=AAAA"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{Passwords: map[string]string{"alice": "secret"}}, guarded(t, nil))
				c := h.connect(transactionPort)
				if err := c.Startup("user", "alice", "database", "app"); err != nil {
					t.Fatal(err)
				}
				c.Run(t, "B: AuthenticationSASL")
				if _, err := c.NetConn().Write([]byte(said)); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(c.NetConn())
				if err != nil || !strings.Contains(string(got), "C08P01\x00") && !strings.Contains(string(got), "C54000\x00") {
					t.Errorf("got %q, %v, want a protocol violation", got, err)
				}
				noBackends(t, h)
				query(t, h.login(transactionPort, "alice"), "SELECT 'alive'", "alive")
			})
		})
	}
}

// bareBackend is a Postgres that answers with errors that lack what every error has.
type bareBackend struct {
	body  string
	login atomic.Bool // errors at login
	query atomic.Bool // errors to statements
}

func (b *bareBackend) error() string {
	return "E" + string(binary.BigEndian.AppendUint32(nil, uint32(len(b.body)+4))) + b.body
}

func (b *bareBackend) serve(nc net.Conn) {
	defer nc.Close()
	if _, err := wire.ReadRequest(nc); err != nil {
		return
	}
	if b.login.Load() {
		_, _ = io.WriteString(nc, b.error())
		return
	}
	const ready = "Z\x00\x00\x00\x05I"
	_, _ = io.WriteString(nc, "R\x00\x00\x00\x08\x00\x00\x00\x00K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02"+ready)
	c := wire.NewConn(nc, wire.Client)
	for {
		typ, _, err := c.ReadMessage(1 << 20)
		switch {
		case err != nil || typ == wire.Terminate:
			return
		case typ == wire.Query && !b.query.Load():
			_, _ = io.WriteString(nc, "C\x00\x00\x00\x0dSELECT 0\x00"+ready)
		case typ == wire.Query || typ == wire.Sync: // Sync: what Sluice asks on its own account
			_, _ = io.WriteString(nc, b.error()+ready)
		}
	}
}

// CVE-2026-6666: an error from Postgres without SQLSTATE, at login, to a statement, and to what Sluice itself asks.
func TestAttackErrorWithoutSQLSTATE(t *testing.T) {
	const address = "127.0.0.1:7777"
	for name, body := range map[string]string{
		"no fields": "\x00", "no SQLSTATE": "SFATAL\x00Mno code\x00\x00", "an empty SQLSTATE": "SFATAL\x00C\x00Mx\x00\x00",
		"a short SQLSTATE": "SFATAL\x00C0\x00\x00", "only a SQLSTATE": "CXX000\x00\x00", "no end": "SFATAL", "no body": "",
	} {
		t.Run(name, func(t *testing.T) {
			bothPorts(t, func(t *testing.T, port string) {
				b := &bareBackend{body: body}
				h := newHarnessOn(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) { tenant.StateCheck = config.StateCheckStrict },
					func(n *memnet.Network) dialFunc {
						ln := n.Listen(address)
						t.Cleanup(func() { _ = ln.Close() })
						go func() {
							for {
								nc, err := ln.Accept()
								if err != nil {
									return
								}
								go b.serve(nc)
							}
						}()
						return func(ctx context.Context, network, _ string) (net.Conn, error) { return n.Dial(ctx, network, address) }
					})
				b.login.Store(true)
				if err := h.connect(port).Login("alice", "app", "x"); err == nil {
					t.Error("let in by an error")
				}
				b.login.Store(false)
				c := h.login(port, "alice")
				b.query.Store(true)
				utterTo(t, c, "Q\x00\x00\x00\x0dSELECT 1\x00")
				answer := make([]byte, 1)
				if _, err := io.ReadFull(c.NetConn(), answer); err != nil || answer[0] != 'E' {
					t.Errorf("a statement was answered with %q, %v", answer, err)
				}
				_ = c.NetConn().Close()
				b.query.Store(false)
				next := h.login(port, "bob")
				next.Run(t, "C: Query SELECT 1", "B: CommandComplete", "B: ReadyForQuery I")
			})
		})
	}
}

func utterTo(t *testing.T, c *pgscript.Client, text string) {
	t.Helper()
	if _, err := io.WriteString(c.NetConn(), text); err != nil {
		t.Fatal(err)
	}
}
