package proxy_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
	"sluice/internal/wire"
)

// Connections that say nothing, or hardly anything, make room for others: of the many from one address, not of others' few.
func TestConnectionsHeldOpenKeepNobodyElseOut(t *testing.T) {
	offer := withTLS(t)
	hello := string(clientHello(t))
	startup := string(wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "alice"}}))
	for name, said := range map[string]string{
		"silent": "", "half a start-up": startup[:9], "half a handshake": hello[:100], "no password": startup,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, guarded(t, func(c *config.Config, tenant *config.Tenant) {
					offer(c, tenant)
					c.Limits.MaxClients = 2 // and 1,000 that log in
				}))
				slow := h.connectFrom("203.0.113.7", transactionPort) // has begun, and is in no hurry
				if err := slow.Startup("user", "bob", "database", "app"); err != nil {
					t.Fatal(err)
				}
				slow.Run(t, "B: AuthenticationSASL")
				held := make([]*memnet.Conn, 1100)
				for i := range held {
					held[i] = h.dialFrom(attacker, []string{sessionPort, transactionPort}[i%2])
					utter(t, held[i], said)
				}
				synctest.Wait()
				start := time.Now()
				c := h.connectFrom("203.0.113.8", transactionPort)
				if err := c.Login("alice", "app", "secret"); err != nil {
					t.Fatal(err)
				}
				query(t, c, "SELECT 'x'", "x")
				wantElapsed(t, start, 0)
				synctest.Wait()
				if n := strings.Count(h.log.String(), "reason=crowded_out"); n < 99 || n > 110 { // both ports may take the last place
					t.Errorf("%d made room, want the hundred that are too many", n)
				}
				slow.Run(t, "C: Terminate", "B: ErrorResponse FATAL 08P01") // it is still there
			})
		})
	}
}

// Who has only said who it is uses up no limit.
func TestClientsWithoutAProofAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, guarded(t, func(c *config.Config, tenant *config.Tenant) {
			c.Limits.MaxClients, tenant.MaxClients = 3, 2
			tenant.Roles = []config.Role{{Name: "alice", MaxClients: 1, Network: everywhere()}}
		}))
		for range 20 {
			c := h.connectFrom(attacker, transactionPort)
			if err := c.Startup("user", "alice", "database", "app"); err != nil {
				t.Fatal(err)
			}
			c.Run(t, "B: AuthenticationSASL")
		}
		c := h.connectFrom("203.0.113.8", transactionPort)
		if err := c.Login("alice", "app", "secret"); err != nil {
			t.Error(err)
		}
		if got := h.guess("203.0.113.8", transactionPort, "alice", "secret"); !strings.Contains(got, "53300") {
			t.Errorf("a second of one: %s", got)
		}
	})
}

func TestConnectionRateOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, _ *config.Tenant) { c.Limits.MaxConnectionRatePerAddress = 2 })
		connect := func(from string) error {
			return h.connectFrom(from, transactionPort).Login("alice", "app", "x")
		}
		for i := range 20 { // ten seconds' worth
			if err := connect(fmt.Sprintf("2001:db8::%d", i+1)); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		c := h.connectFrom("2001:db8::ffff", sessionPort)
		got := refusal(t, c, "alice", "app", "x")
		want := `B: ErrorResponse FATAL 53300 "too many connections" "Keep connections open instead of opening new ones, or ask the operator to raise limits.max_connection_rate_per_address."`
		if got != want {
			t.Errorf("refused with %s, want %s", got, want)
		}
		if err := connect("2001:db8:0:1::1"); err != nil {
			t.Errorf("another network: %v", err)
		}
		time.Sleep(time.Second)
		for i, want := range []bool{true, true, false} {
			if err := connect("2001:db8::1"); (err == nil) != want {
				t.Errorf("connection %d a second later: %v", i, err)
			}
		}
	})
}

func TestAddressMayHaveOnlySoManyLoginsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, _ *config.Tenant) { c.Limits.MaxClientsPerAddress = 3 })
		for range 3 {
			h.dialFrom(attacker, transactionPort)
		}
		synctest.Wait()
		got, err := io.ReadAll(h.dialFrom(attacker, sessionPort))
		if err != nil || !strings.Contains(string(got), "C53300\x00") {
			t.Errorf("the fourth: got %q, %v", got, err)
		}
		if err := h.connectFrom("203.0.113.8", transactionPort).Login("alice", "app", "x"); err != nil {
			t.Errorf("another address: %v", err)
		}
		time.Sleep(16 * time.Second) // they have timed out
		if err := h.connectFrom(attacker, transactionPort).Login("alice", "app", "x"); err != nil {
			t.Errorf("when they are gone: %v", err)
		}
	})
}
