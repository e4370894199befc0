package proxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/pgscript"
)

// script runs lines on a goroutine of its own.
func script(t *testing.T, c *pgscript.Client, lines ...string) <-chan struct{} {
	return background(t, func() {
		if err := c.Script(lines...); err != nil {
			t.Errorf("%v\ntranscript:\n%s", err, c.Transcript())
		}
	})
}

func TestTerminatedBackendSaysSoItself(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		query(t, c, "BEGIN")
		h.postgres.KillConn(1001, true)
		c.Run(t, `B: ErrorResponse FATAL 57P01 "terminating connection due to administrator command"`, "B: EOF")
	})
}

func TestBackendLostInAutocommitIs08007(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		done := script(t, c, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse FATAL 08007", "B: EOF")
		synctest.Wait()
		h.postgres.KillConn(1001, false)
		<-done
	})
}

func TestBackendLostInABlockIs08006(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		for _, running := range []string{"", "SELECT pg_sleep(60)"} {
			h := newHarness(t, pgscript.Options{}, nil)
			c := h.login(port, "alice")
			query(t, c, "BEGIN")
			if running != "" {
				if err := c.Script("C: Query " + running); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			h.postgres.KillConn(1001, false)
			c.Run(t, "B: ErrorResponse FATAL 08006", "B: EOF")
		}
	})
}

func TestBackendLostAtCommitIs08007(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		for name, commit := range map[string][]string{
			"simple":   {"C: Query COMMIT"},
			"extended": {`C: Parse "" "COMMIT"`, `C: Bind "" ""`, `C: Execute ""`, "C: Sync"},
		} {
			h := newHarness(t, pgscript.Options{}, nil)
			c := h.login(port, "alice")
			query(t, c, "BEGIN")
			h.postgres.Adjust(func(k *pgscript.Knobs) { k.QueryDelay = time.Minute })
			if err := c.Script(commit...); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			h.postgres.KillConn(1001, false)
			lines, err := c.Collect()
			if err == nil || len(lines) == 0 || !matches(t, "ErrorResponse FATAL 08007", lines[len(lines)-1]) {
				t.Errorf("%s: %q, %v, want FATAL 08007 and the end", name, lines, err)
			}
		}
	})
}

func matches(t *testing.T, want, line string) bool {
	t.Helper()
	ok, err := pgscript.Matches(want, line)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestIdleClientsOfTransactionModeNoticeNoLostBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "SELECT 1", "1")
		h.postgres.KillConn(1001, true)
		synctest.Wait()
		query(t, b, "SELECT pg_backend_pid()", "1002")
		h.postgres.KillConn(1002, false)
		synctest.Wait()
		query(t, a, "SELECT pg_backend_pid()", "1003")
	})
}

func TestIdleClientOfSessionModeIsToldOfItsLostBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(sessionPort, "alice")
		h.postgres.KillConn(1001, false)
		c.Run(t, `B: ErrorResponse FATAL 08006 "connection to PostgreSQL was lost"`, "B: EOF")
	})
}

func TestAllBackendsOfARestartedPostgresAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil)
		var clients []*pgscript.Client
		for range 5 {
			c := h.login(transactionPort, "alice")
			query(t, c, "BEGIN")
			clients = append(clients, c)
		}
		for _, c := range clients {
			query(t, c, "COMMIT")
		}
		for _, c := range h.postgres.Conns() {
			h.postgres.KillConn(c.PID, true)
		}
		synctest.Wait()
		for _, c := range clients {
			query(t, c, "SELECT 'x'", "x")
		}
	})
}
