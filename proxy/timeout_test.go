package proxy_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

func TestSilentClientIsLeftAtTheLoginTimeout(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, _ *config.Tenant) { c.Limits.LoginTimeout = 7 * time.Second })
		start := time.Now()
		if got, err := io.ReadAll(h.dialFrom("127.0.0.1", port)); len(got) > 0 || err != nil {
			t.Errorf("read %q, %v, want nothing and the end", got, err)
		}
		wantElapsed(t, start, 7*time.Second)
	})
}

func TestSilenceDuringThePasswordEndsInATimeout(t *testing.T) {
	asked := map[config.AuthMethod]string{
		config.AuthMD5: "B: AuthenticationMD5Password", config.AuthSCRAM: "B: AuthenticationSASL",
	}
	for method := range asked {
		t.Run(string(method), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
					c.Limits.LoginTimeout = 7 * time.Second
					tenant.Auth.Method, tenant.Auth.UsersFile = method, usersFile(t, `"alice" "secret"`)
				})
				start := time.Now()
				c := h.connect(transactionPort)
				if err := c.Startup("user", "alice", "database", "app"); err != nil {
					t.Fatal(err)
				}
				c.Run(t, asked[method], "B: ErrorResponse FATAL 57014", "B: EOF")
				wantElapsed(t, start, 7*time.Second)
				if n := len(h.postgres.Conns()); n != 0 {
					t.Errorf("Postgres saw %d connections", n)
				}
			})
		})
	}
}

func TestPoolWaitTimeoutNamesThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.PoolSize, tenant.PoolWaitTimeout = 1, 3*time.Second
		})
		holder, waiting := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, holder, "BEGIN")
		start := time.Now()
		waiting.Run(t, "C: Query SELECT 1",
			`B: ErrorResponse FATAL 53300 "no backend of the pool was free within 3s (pool_wait_timeout)"`, "B: EOF")
		wantElapsed(t, start, 3*time.Second)
		want := "Pool app/alice (transaction): 1 of 1 backends in use: 1 idle in transaction (longest 3.0 s); 1 client waits, the first for 3.0 s."
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, h.log)
		}
		query(t, holder, "COMMIT")
	})
}

func TestLoginOnTheSessionPortWaitsForABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.PoolSize, tenant.PoolWaitTimeout = 1, 3*time.Second
		})
		first := h.login(sessionPort, "alice")
		start := time.Now()
		c := h.connect(sessionPort)
		if err := c.Startup("user", "alice", "database", "app"); err != nil {
			t.Fatal(err)
		}
		c.Run(t, "B: ErrorResponse FATAL 53300", "B: EOF")
		wantElapsed(t, start, 3*time.Second)
		_ = first.Close()
		query(t, h.login(sessionPort, "alice"), "SELECT 'next'", "next")
		if n := len(h.postgres.Conns()); n != 1 {
			t.Errorf("%d backends, want 1", n)
		}
	})
}

func TestPostgresThatRefusesIs57P03AfterConnectTimeout(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Backend.ConnectTimeout = 5 * time.Second
		})
		h.postgres.RefuseConnections("57P03", "the database system is starting up")
		start := time.Now()
		c := h.connect(port)
		if err := c.Startup("user", "alice", "database", "app"); err != nil {
			t.Fatal(err)
		}
		c.Run(t, "B: ErrorResponse FATAL 57P03", "B: EOF")
		wantElapsed(t, start, 5*time.Second)
	})
}

func TestPostgresThatComesBackInTimeIsNotNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		h.postgres.RefuseConnections("57P03", "the database system is starting up")
		start := time.Now()
		time.AfterFunc(1100*time.Millisecond, func() { h.postgres.RefuseConnections("", "") })
		query(t, h.login(transactionPort, "alice"), "SELECT 'x'", "x")
		wantElapsed(t, start, 1550*time.Millisecond) // tried at 0, 50, 150, 350, 750, 1550 ms
	})
}

func TestSilentPostgresIs57P03AfterConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.Backend.ConnectTimeout = 4 * time.Second
		})
		h.network.SetSilent(postgresAddress, true)
		start := time.Now()
		c := h.connect(transactionPort)
		if err := c.Startup("user", "alice", "database", "app"); err != nil {
			t.Fatal(err)
		}
		c.Run(t, "B: ErrorResponse FATAL 57P03", "B: EOF")
		wantElapsed(t, start, 4*time.Second)
	})
}

func TestIdleClientEndsWith57P05(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) { tenant.Timeouts.ClientIdle = time.Minute })
		c := h.login(port, "alice")
		time.Sleep(59 * time.Second)
		query(t, c, "SELECT 'awake'", "awake")
		start := time.Now()
		c.Run(t, "B: ErrorResponse FATAL 57P05", "B: EOF")
		wantElapsed(t, start, time.Minute)
	})
}

func TestIdleInTransactionEndsWith25P03AndItsBackendIsDiscarded(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.PoolSize, tenant.Timeouts.IdleInTransaction = 1, 10*time.Second
		})
		c := h.login(port, "alice")
		query(t, c, "BEGIN")
		time.Sleep(9 * time.Second)
		query(t, c, "INSERT INTO x VALUES (1)")
		start := time.Now()
		c.Run(t, "B: ErrorResponse FATAL 25P03", "B: EOF")
		wantElapsed(t, start, 10*time.Second)
		next := h.login(port, "alice")
		next.Run(t, "C: Query SELECT pg_backend_pid()", "B: RowDescription", `B: DataRow "1002"`, "B: CommandComplete", "B: ReadyForQuery I")
		if got := h.postgres.Conns()[0].Log(); got[len(got)-1] != "Terminate" || count(got, `Query "ROLLBACK"`) > 0 {
			t.Errorf("the backend got %q, want Terminate behind the INSERT", got)
		}
		if n := h.postgres.Cancels(); n != 0 {
			t.Errorf("%d cancel requests, want none: nothing runs", n)
		}
	})
}

func TestQueryTimeoutCancelsAndTheSessionLives(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) { tenant.Timeouts.Query = 2 * time.Second })
		c := h.login(port, "alice")
		start := time.Now()
		c.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I")
		wantElapsed(t, start, 2*time.Second)
		query(t, c, "SELECT 'alive'", "alive")
		if n := h.postgres.Cancels(); n != 1 {
			t.Errorf("%d cancel requests, want 1", n)
		}
	})
}

func TestQueryTimeoutBeginsAnewWithEachStatement(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) { tenant.Timeouts.Query = 2 * time.Second })
		c := h.login(port, "alice")
		query(t, c, "BEGIN")
		for range 3 {
			query(t, c, "SELECT pg_sleep(1.5)", "")
		}
		query(t, c, "COMMIT")
		if n := h.postgres.Cancels(); n != 0 {
			t.Errorf("%d cancel requests, want none", n)
		}
	})
}

func TestClientLifetimeEndsAtAFreeMoment(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) { tenant.Timeouts.ClientLifetime = 8 * time.Minute })
		start := time.Now()
		idle, busy := h.login(port, "alice"), h.login(port, "alice")
		query(t, busy, "BEGIN")
		idle.Run(t, "B: ErrorResponse FATAL 57P05", "B: EOF")
		wantElapsed(t, start, 8*time.Minute)
		time.Sleep(time.Minute)
		query(t, busy, "SELECT 'still here'", "still here")
		busy.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", "B: ReadyForQuery I", "B: ErrorResponse FATAL 57P05", "B: EOF")
		wantElapsed(t, start, 9*time.Minute)
	})
}
