package proxy_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// spread is a pool of n backends in as many parts as given; 0: auto.
func spread(n, parts int) change {
	return func(_ *config.Config, tenant *config.Tenant) {
		tenant.PoolSize, tenant.SessionPoolSize, tenant.PoolWaitTimeout = n, n, 15*time.Second
		tenant.Spread = config.AutoInt{N: parts, Auto: parts == 0}
	}
}

func TestWaiterGoesWhereABackendIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, spread(2, 2))
		a, b, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		query(t, b, "BEGIN")
		began := time.Now()
		served := background(t, func() { query(t, c, "SELECT 1", "1") })
		time.Sleep(3 * time.Second)
		query(t, b, "COMMIT") // in the part in which c is not
		<-served
		wantElapsed(t, began, 3*time.Second)
		if got := len(h.postgres.Conns()); got != 2 {
			t.Errorf("%d backends, want 2", got)
		}
		if h.srv.Moves() == 0 || h.srv.Parts() != 2 {
			t.Errorf("%d sessions moved between %d parts, want some and 2", h.srv.Moves(), h.srv.Parts())
		}
	})
}

func TestLoginGoesWhereABackendIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, spread(2, 2))
		h.login(sessionPort, "alice")
		b := h.login(sessionPort, "alice")
		began := time.Now()
		c := h.connect(sessionPort)
		in := background(t, func() {
			if err := c.Login("alice", "app", "secret"); err != nil {
				t.Errorf("login: %v", err)
			}
		})
		time.Sleep(3 * time.Second)
		_ = b.Close()
		<-in
		wantElapsed(t, began, 3*time.Second)
		query(t, c, "SELECT 1", "1")
	})
}

// TestWaiterGoesWhereABackendCanBeOpened has all clients in one part, which may have one backend of two.
func TestWaiterGoesWhereABackendCanBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, spread(2, 2))
		a, b, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		_ = b.Close()
		synctest.Wait()
		query(t, a, "BEGIN")
		began := time.Now()
		query(t, c, "SELECT 1", "1")
		wantElapsed(t, began, 0)
	})
}

func TestSplitPoolSharesOutSessionsAndBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, spread(4, 0))
		clients := make([]*pgscript.Client, 8)
		for i := range clients {
			clients[i] = h.login(transactionPort, "alice")
			if i < 4 {
				query(t, clients[i], "BEGIN")
			}
		}
		check := func(what string) {
			t.Helper()
			for i, c := range clients[4:] {
				query(t, c, fmt.Sprint("SELECT ", i), fmt.Sprint(i))
			}
			if n := h.srv.Totals().Backends; n > 4 {
				t.Errorf("%s: %d backends, want at most 4", what, n)
			}
		}
		synctest.Wait() // nothing is unsent: such a client stays
		h.srv.Widen()
		synctest.Wait()
		if h.srv.Moves() != 4 || h.srv.Parts() != 2 {
			t.Errorf("%d sessions moved between %d parts, want 4 and 2", h.srv.Moves(), h.srv.Parts())
		}
		for _, c := range clients[:4] { // which had all backends
			query(t, c, "COMMIT")
		}
		check("split")
		time.Sleep(5 * time.Second)
		check("settled")
		h.srv.Narrow()
		time.Sleep(5 * time.Second)
		check("joined")
		time.Sleep(time.Hour) // the backends of the part that is given up are closed
		if h.srv.Parts() != 1 {
			t.Errorf("%d parts, want 1", h.srv.Parts())
		}
		check("in the end")
	})
}

func TestTimeoutsGoWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			spread(4, 0)(c, tenant)
			tenant.Timeouts.ClientLifetime, tenant.Timeouts.ClientIdle = 64*time.Second, 640*time.Second
		})
		clients := make([]*pgscript.Client, 4)
		for i := range clients {
			clients[i] = h.login(transactionPort, "alice")
			query(t, clients[i], "SELECT 1", "1")
		}
		time.Sleep(30 * time.Second)
		h.srv.Widen()
		synctest.Wait()
		if h.srv.Moves() != 2 {
			t.Fatalf("%d sessions moved, want 2", h.srv.Moves())
		}
		time.Sleep(33 * time.Second)
		if n := h.srv.Totals().Clients; n != 4 {
			t.Errorf("%d clients before their time is over, want 4", n)
		}
		time.Sleep(4 * time.Second) // what moved counts by sixty-fourths, and may have moved again
		if n := h.srv.Totals().Clients; n != 0 {
			t.Errorf("%d clients after it, want 0", n)
		}
	})
}
