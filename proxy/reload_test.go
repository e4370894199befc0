package proxy_test

import (
	"errors"

	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

func (h *harness) reload(ch change) {
	h.t.Helper()
	if err := h.srv.Reload(settings(ch)); err != nil {
		h.t.Fatalf("Reload: %v", err)
	}
	synctest.Wait()
}

func onlyTens(_ *config.Config, tenant *config.Tenant) {
	tenant.Network.AllowedCIDRs = []config.Entry{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
}

func TestReloadEndsDeniedSessionsAtTheirNextFreeMoment(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		idle, busy := h.login(port, "alice"), h.login(port, "alice")
		allowed := h.connectFrom("10.0.0.1", port)
		if err := allowed.Login("alice", "app", "x"); err != nil {
			t.Fatal(err)
		}
		query(t, busy, "BEGIN")
		start := time.Now()
		h.reload(onlyTens)
		idle.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		wantElapsed(t, start, 0)
		query(t, busy, "INSERT INTO x VALUES (1)")
		busy.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", "B: ReadyForQuery I", "B: ErrorResponse FATAL 57P01", "B: EOF")
		query(t, allowed, "SELECT 'x'", "x")
		refusal(t, h.connect(port), "alice", "app", "x")
	})
}

func TestReloadThatDeniesDuringALoginEndsIt(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{Knobs: pgscript.Knobs{LoginDelay: time.Second}}, nil)
		c := h.connect(port)
		if err := c.Startup("user", "alice", "database", "app"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.reload(onlyTens)
		if _, err := c.Collect(); err != nil {
			return
		}
		c.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
	})
}

func TestBadReloadChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(transactionPort, "alice")
		err := h.srv.Reload(settings(func(c *config.Config, tenant *config.Tenant) {
			onlyTens(c, tenant)
			c.Listeners[0].Address = "127.0.0.1:7777"
			tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthSCRAM, "/nowhere/users.txt"
		}))
		if err == nil || !strings.Contains(err.Error(), "tenants[0].auth") {
			t.Errorf("Reload = %v, want the key path", err)
		}
		synctest.Wait()
		query(t, c, "SELECT 'x'", "x")
		query(t, h.login(sessionPort, "bob"), "SELECT 'x'", "x")
		if _, err := h.network.Dial(t.Context(), "tcp", "127.0.0.1:7777"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the new listener: %v", err)
		}
	})
}

func TestReloadMovesAListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(sessionPort, "alice")
		h.reload(func(c *config.Config, _ *config.Tenant) { c.Listeners[0].Address = "127.0.0.1:7777" })
		query(t, c, "SELECT 'x'", "x")
		query(t, h.login("127.0.0.1:7777", "alice"), "SELECT 'x'", "x")
		if _, err := h.network.Dial(t.Context(), "tcp", sessionPort); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the old listener: %v", err)
		}
	})
}

func TestReloadChangesPoolLimitsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		ran := script(t, b, "C: Query BEGIN", "B: CommandComplete BEGIN", "B: ReadyForQuery T")
		synctest.Wait()
		start := time.Now()
		h.reload(func(_ *config.Config, tenant *config.Tenant) { tenant.PoolSize = 2 })
		<-ran
		wantElapsed(t, start, 0)
		h.reload(onePooled)
		query(t, a, "COMMIT")
		query(t, b, "COMMIT")
		synctest.Wait()
		if n := h.postgres.Open(); n != 1 {
			t.Errorf("%d backends are open, want 1", n)
		}
	})
}

func TestReloadBoundsAllPoolsOfATenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) { tenant.MaxBackends = config.AutoInt{N: 1} })
		a, b := h.login(transactionPort, "alice"), h.connect(transactionPort)
		query(t, a, "BEGIN")
		admitted := background(t, func() {
			if err := b.Login("bob", "app", "x"); err != nil {
				t.Errorf("login: %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		h.reload(func(_ *config.Config, tenant *config.Tenant) { tenant.MaxBackends = config.AutoInt{N: 2} })
		<-admitted
		wantElapsed(t, start, 0)
	})
}

func TestReloadDuringALoginIsNotLostOnItsNewPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scram := func(_ *config.Config, tenant *config.Tenant) {
			tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthMD5, usersFile(t, `"alice" "secret"`)
		}
		h := newHarness(t, pgscript.Options{}, scram)
		slow := h.connect(transactionPort)
		if err := slow.Startup("user", "alice", "database", "app"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.reload(func(c *config.Config, tenant *config.Tenant) {
			tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthTrust, ""
			tenant.PoolSize, tenant.PoolWaitTimeout = 1, time.Second
		})
		answerMD5(t, slow, "alice", "secret")
		query(t, slow, "BEGIN")
		other := h.login(transactionPort, "alice")
		start := time.Now()
		other.Run(t, "C: Query SELECT 1", "B: ErrorResponse FATAL 53300", "B: EOF")
		wantElapsed(t, start, time.Second)
	})
}

func TestReloadThatRemovesATenantEndsItsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(transactionPort, "alice")
		query(t, c, "SELECT 'x'", "x")
		h.reload(func(c *config.Config, tenant *config.Tenant) { tenant.Name = "other" })
		c.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		synctest.Wait()
		if n := h.postgres.Open(); n != 0 {
			t.Errorf("%d backends of the removed tenant are open", n)
		}
		query(t, h.login(transactionPort, "alice"), "SELECT 'x'", "x")
	})
}

func TestReloadToAnotherPostgresReplacesBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		second := pgscript.Serve(h.network.Listen("127.0.0.1:5555"), pgscript.Options{Settings: map[string]string{"server_version": "18.0"}})
		t.Cleanup(second.Close)
		c := h.login(transactionPort, "alice")
		query(t, c, "BEGIN")
		h.reload(func(_ *config.Config, tenant *config.Tenant) { tenant.Backend.Hosts[0].Port = 5555 })
		query(t, c, "COMMIT")
		query(t, c, "SELECT current_setting('server_version')", "18.0")
		synctest.Wait()
		if n := h.postgres.Open(); n != 0 {
			t.Errorf("%d backends of the old Postgres are open", n)
		}
	})
}
