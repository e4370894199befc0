package proxy_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
	"sluice/internal/wire"
)

const (
	balancer  = "10.0.0.9"
	headerV1  = "PROXY TCP4 203.0.113.7 10.0.0.9 40000 5432\r\n"
	unknownV1 = "PROXY UNKNOWN\r\n"
	localV2   = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// headerV2 is what a balancer says of a client from an IPv4 address, with an extension behind it.
func headerV2(from string) string {
	ap := netip.MustParseAddrPort(from)
	a := ap.Addr().As4()
	head := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x10"), a[:]...)
	head = append(head, 10, 0, 0, 9)
	head = binary.BigEndian.AppendUint16(head, ap.Port())
	head = binary.BigEndian.AppendUint16(head, 5432)
	return string(append(head, 4, 0, 1, 'x'))
}

// behind has the balancer tell where clients come from, on both ports.
func behind(from string, ch change) change {
	return func(c *config.Config, t *config.Tenant) {
		for i := range c.Listeners {
			c.Listeners[i].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix(from)}
		}
		if ch != nil {
			ch(c, t)
		}
	}
}

func only(cidrs ...string) config.Network {
	var n config.Network
	for _, c := range cidrs {
		n.AllowedCIDRs = append(n.AllowedCIDRs, config.Entry{Prefix: netip.MustParsePrefix(c)})
	}
	return n
}

// utter writes what a client says first.
func utter(t *testing.T, nc *memnet.Conn, text string) {
	t.Helper()
	if _, err := nc.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// The rules see the client's address, whatever the header's version, and however TLS begins behind it.
func TestClientBehindABalancerIsKnownByItsOwnAddress(t *testing.T) {
	start := map[string]func(h *harness, nc *memnet.Conn) *pgscript.Client{
		"plain": func(_ *harness, nc *memnet.Conn) *pgscript.Client { return pgscript.NewClient(nc) },
		"SSLRequest": func(h *harness, nc *memnet.Conn) *pgscript.Client {
			c := pgscript.NewClient(nc)
			if err := c.StartTLS(clientTLS()); err != nil {
				h.t.Fatal(err)
			}
			return c
		},
		"direct TLS": func(h *harness, nc *memnet.Conn) *pgscript.Client {
			tc := tls.Client(nc, clientTLS("postgresql"))
			if err := tc.Handshake(); err != nil {
				h.t.Fatal(err)
			}
			return pgscript.NewClient(tc)
		},
	}
	for version, header := range map[string]string{"v1": headerV1, "v2": headerV2("203.0.113.7:40000")} {
		for how, connect := range start {
			t.Run(version+" "+how, func(t *testing.T) {
				bothPorts(t, func(t *testing.T, port string) {
					offer := withTLS(t)
					h := newHarness(t, pgscript.Options{}, behind(balancer+"/32", func(c *config.Config, tenant *config.Tenant) {
						offer(c, tenant)
						c.Network, tenant.Network.Network = only("203.0.113.0/24"), only("203.0.113.7/32")
					}))
					nc := h.dialFrom(balancer, port)
					utter(t, nc, header)
					c := connect(h, nc)
					if err := c.Login("alice", "app", "x"); err != nil {
						t.Fatal(err)
					}
					query(t, c, "SELECT 'x'", "x")
					c.Run(t, "C: Terminate", "B: EOF")
					synctest.Wait()
					if !strings.Contains(h.log.String(), "client_addr=203.0.113.7:40000") || !strings.Contains(h.log.String(), "balancer_addr="+balancer) {
						t.Errorf("the log does not name both addresses:\n%s", h.log)
					}
					nc = h.dialFrom(balancer, port)
					utter(t, nc, strings.Replace(headerV1, "203.0.113.7", "203.0.113.8", 1))
					got := refusal(t, pgscript.NewClient(nc), "alice", "app", "x")
					if !strings.Contains(got, "FATAL 28000") || !strings.Contains(got, "connection from address 203.0.113.8 to the") {
						t.Errorf("another client's refusal: %s", got)
					}
				})
			})
		}
	}
}

// What comes in the same packet as the header, or in pieces, is all there.
func TestNothingBehindTheHeaderIsLost(t *testing.T) {
	for version, header := range map[string]string{"v1": headerV1, "v2": headerV2("203.0.113.7:40000"), "unknown": unknownV1, "local": localV2} {
		t.Run(version, func(t *testing.T) {
			bothPorts(t, func(t *testing.T, port string) {
				h := newHarness(t, pgscript.Options{}, behind("10.0.0.0/8", nil))
				startup := wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "alice"}, {Name: "database", Value: "app"}})
				all := header + string(startup) + "Q\x00\x00\x00\x0fSELECT 'x'\x00" + "X\x00\x00\x00\x04"
				for _, pieces := range []int{1, len(all)} {
					nc := h.dialFrom(balancer, port)
					for i := range pieces {
						utter(t, nc, all[i*len(all)/pieces:(i+1)*len(all)/pieces])
						synctest.Wait()
					}
					got, err := io.ReadAll(nc)
					if err != nil || !strings.Contains(string(got), "SELECT 1\x00Z\x00\x00\x00\x05I") {
						t.Errorf("in %d pieces: got %q, %v, want the statement's answer at its end", pieces, got, err)
					}
				}
			})
		})
	}
}

func TestBalancerWithoutAHeaderIsAProtocolViolationAtOnce(t *testing.T) {
	for name, first := range map[string]string{
		"start-up":   string(wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "alice"}})),
		"SSLRequest": string(wire.AppendSSLRequest(nil)), // behind which a client waits for an answer
		"TLS":        "\x16\x03\x01\x02\x00\x01",
		"malformed":  "PROXY TCP4 203.0.113.7 10.0.0.9 40000\r\n",
		"UDP":        strings.Replace(headerV2("203.0.113.7:1"), "\x21\x11", "\x21\x12", 1),
	} {
		t.Run(name, func(t *testing.T) {
			bothPorts(t, func(t *testing.T, port string) {
				h := newHarness(t, pgscript.Options{}, behind("10.0.0.0/8", nil))
				start := time.Now()
				nc := h.dialFrom(balancer, port)
				utter(t, nc, first)
				got, err := io.ReadAll(nc)
				if err != nil || !strings.Contains(string(got), "C08P01\x00") || !strings.Contains(string(got), "PROXY protocol header") {
					t.Errorf("got %q, %v", got, err)
				}
				wantElapsed(t, start, 0)
				noBackends(t, h)
			})
		})
	}
}

func TestHeaderFromAnyoneElseIsAProtocolViolation(t *testing.T) {
	for version, header := range map[string]string{"v1": headerV1, "v2": headerV2("203.0.113.7:40000"), "unknown": unknownV1, "local": localV2} {
		for name, ch := range map[string]change{"nobody is trusted": nil, "others are": behind("10.0.0.9/32", nil)} {
			t.Run(version+" "+name, func(t *testing.T) {
				bothPorts(t, func(t *testing.T, port string) {
					h := newHarness(t, pgscript.Options{}, ch)
					for _, from := range []string{"10.0.0.8", "127.0.0.1"} {
						nc := h.dialFrom(from, port)
						utter(t, nc, header)
						got, err := io.ReadAll(nc)
						if err != nil || !strings.Contains(string(got), "C08P01\x00") {
							t.Errorf("got %q, %v", got, err)
						}
					}
					noBackends(t, h)
				})
			})
		}
	}
}

func TestHeaderHasTheTimeOfTheLogin(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, behind("10.0.0.0/8", func(c *config.Config, _ *config.Tenant) { c.Limits.LoginTimeout = 7 * time.Second }))
		start := time.Now()
		nc := h.dialFrom(balancer, port)
		time.Sleep(6 * time.Second)
		utter(t, nc, headerV1[:20])
		got, err := io.ReadAll(nc)
		if err != nil || !strings.Contains(string(got), "C57014\x00") {
			t.Errorf("got %q, %v", got, err)
		}
		wantElapsed(t, start, 7*time.Second)
		silent := h.dialFrom(balancer, port)
		if got, err := io.ReadAll(silent); len(got) > 0 || err != nil {
			t.Errorf("a balancer that looks whether the port is open got %q, %v", got, err)
		}
		wantElapsed(t, start, 14*time.Second)
	})
}

// A balancer on this machine that does not tell where a client comes from lends it none of what loopback may do.
func TestUnknownClientOfALocalBalancerIsNotLocal(t *testing.T) {
	for version, header := range map[string]string{"v1": unknownV1, "v2": localV2, "claimed": strings.ReplaceAll(headerV1, "203.0.113.7", "127.0.0.1")} {
		t.Run(version, func(t *testing.T) {
			bothPorts(t, func(t *testing.T, port string) {
				h := newHarness(t, pgscript.Options{}, behind("127.0.0.1/32", func(_ *config.Config, tenant *config.Tenant) {
					tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthPassword, usersFile(t, `"alice" "secret"`)
				}))
				nc := h.dialFrom("127.0.0.1", port)
				utter(t, nc, header)
				if got := refusal(t, pgscript.NewClient(nc), "alice", "app", "secret"); !strings.Contains(got, "connection requires TLS") {
					t.Errorf("refused with %s, want that TLS is missing", got)
				}
				noBackends(t, h)
			})
		})
	}
	for _, header := range []string{unknownV1, localV2} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, pgscript.Options{}, behind("127.0.0.1/32", func(_ *config.Config, tenant *config.Tenant) {
				tenant.Roles = []config.Role{{Name: "alice", Network: only("127.0.0.0/8", "::1/128")}}
			}))
			connect := func() *pgscript.Client {
				nc := h.dialFrom("127.0.0.1", transactionPort)
				utter(t, nc, header)
				return pgscript.NewClient(nc)
			}
			if got := refusal(t, connect(), "alice", "app", "x"); !strings.Contains(got, "connection from address unknown to the transaction port 6543 is not allowed") {
				t.Errorf("refused with %s", got)
			}
			noBackends(t, h)
			if err := connect().Login("bob", "app", "x"); err != nil { // who may come from everywhere
				t.Error(err)
			}
		})
	}
}

func TestCancelRequestsAndLimitsGoByTheClientsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, behind("10.0.0.0/8", func(c *config.Config, _ *config.Tenant) {
			c.Limits.MaxClientsPerAddress = 1
			c.Network = only("203.0.113.0/24")
		}))
		from := func(client string) *memnet.Conn {
			nc := h.dialFrom(balancer, transactionPort)
			utter(t, nc, headerV2(client))
			return nc
		}
		c := pgscript.NewClient(from("203.0.113.7:1"))
		if err := c.Login("alice", "app", "x"); err != nil {
			t.Fatal(err)
		}
		if got := refusal(t, pgscript.NewClient(from("203.0.113.7:2")), "alice", "app", "x"); !strings.Contains(got, "53300") {
			t.Errorf("a second client of the address: %s", got)
		}
		if err := pgscript.NewClient(from("203.0.113.8:1")).Login("alice", "app", "x"); err != nil {
			t.Errorf("a client of another address: %v", err)
		}
		done := background(t, func() {
			c.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I")
		})
		synctest.Wait()
		err := pgscript.Cancel(from("198.51.100.1:1"), c.PID, c.Key)
		if err != nil && !errors.Is(err, syscall.EPIPE) { // it may be refused before it has asked
			t.Error(err)
		}
		if n := h.postgres.Cancels(); n != 0 {
			t.Errorf("%d cancel requests of an address that is denied", n)
		}
		if err := pgscript.Cancel(from("203.0.113.9:1"), c.PID, c.Key); err != nil {
			t.Error(err)
		}
		<-done
	})
}
