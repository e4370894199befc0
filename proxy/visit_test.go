package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// twoTenants is small(n) with a second tenant, other: users say which they mean, as in alice.other.
func twoTenants(n int) change {
	return func(c *config.Config, tenant *config.Tenant) {
		small(n)(c, tenant)
		other := *tenant
		other.Name = "other"
		c.Tenants = append(c.Tenants, other)
	}
}

func terminate(pid uint32) string { return fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid) }
func cancelOf(pid uint32) string  { return fmt.Sprintf("SELECT pg_cancel_backend(%d)", pid) }

// wantTerminated checks that the client is told by Postgres that it was ended, and for what reason the session is in the log.
func (h *harness) wantTerminated(c *pgscript.Client) {
	h.t.Helper()
	c.Run(h.t, `B: ErrorResponse FATAL 57P01 "terminating connection due to administrator command"`, "B: EOF")
	synctest.Wait()
	if !strings.Contains(h.log.String(), "reason=backend_terminated") {
		h.t.Errorf("the log does not say that a backend was terminated:\n%s", h.log)
	}
}

// wantBackends checks that n backends serve clients at once, and no more than the pool may have are open.
func (h *harness) wantBackends(n int) {
	h.t.Helper()
	start := time.Now()
	for range n {
		query(h.t, h.login(transactionPort, "alice"), "BEGIN")
	}
	wantElapsed(h.t, start, 0)
}

func TestIdleClientIsTerminatedByItsPID(t *testing.T) {
	for name, lines := range map[string][]string{
		"simple":           {"C: Query SELECT pg_terminate_backend(PID)", "B: RowDescription", `B: DataRow "t"`},
		"bound":            {`C: Parse "" "SELECT pg_terminate_backend($1)"`, `C: Bind "" "" "PID"`, `C: Execute ""`, "C: Sync", "B: ParseComplete", "B: BindComplete", `B: DataRow "t"`},
		"in the statement": {`C: Parse "s" "SELECT pg_terminate_backend(PID)"`, `C: Bind "" "s"`, `C: Execute ""`, "C: Sync", "B: ParseComplete", "B: BindComplete", `B: DataRow "t"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, small(2))
				a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
				start := time.Now()
				for i := range lines {
					lines[i] = strings.ReplaceAll(lines[i], "PID", fmt.Sprint(b.PID))
				}
				a.Run(t, append(lines, "B: CommandComplete", "B: ReadyForQuery I")...)
				h.wantTerminated(b)
				wantElapsed(t, start, 0)
				query(t, a, "SELECT 'alive'", "alive")
				h.wantBackends(2)
			})
		})
	}
}

func TestBusyClientIsTerminatedByItsPID(t *testing.T) {
	for _, parts := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, pgscript.Options{}, spread(2, parts))
			a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
			run(t, b, "SELECT pg_sleep(60)")
			synctest.Wait()
			query(t, a, terminate(b.PID), "t")
			h.wantTerminated(b)
			c := h.login(transactionPort, "alice")
			query(t, c, "BEGIN")
			query(t, a, terminate(c.PID), "t") // idle in its transaction
			h.wantTerminated(c)
			query(t, a, "SELECT 'alive'", "alive")
		})
	}
}

func TestClientOnAnotherLoopIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, spread(4, 2))
		var clients []*pgscript.Client
		for range 4 {
			clients = append(clients, h.login(transactionPort, "alice"))
		}
		for _, c := range clients[1:] {
			query(t, clients[0], terminate(c.PID), "t")
			h.wantTerminated(c)
		}
		if h.srv.Parts() != 2 {
			t.Errorf("the pool is in %d parts, want 2", h.srv.Parts())
		}
	})
}

func TestStatementIsCancelledByItsClientsPID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(2))
		a, b, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		start := time.Now()
		done := background(t, func() {
			b.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I")
		})
		synctest.Wait()
		query(t, a, cancelOf(b.PID), "t")
		<-done
		query(t, a, cancelOf(b.PID), "t") // there is nothing to cancel
		query(t, b, "SELECT 'alive'", "alive")
		query(t, c, "SELECT 'alive'", "alive")
		wantElapsed(t, start, 0)
		h.wantBackends(2)
	})
}

func TestClientIsItsOwnTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(1))
		a := h.login(transactionPort, "alice")
		start := time.Now()
		run(t, a, terminate(a.PID))
		a.Run(t, "B: RowDescription", `B: DataRow "t"`, "B: CommandComplete", "B: ReadyForQuery I")
		h.wantTerminated(a)
		wantElapsed(t, start, 0)
		h.wantBackends(1)
	})
}

func TestClientsOfOtherTenantsAreNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, twoTenants(2))
		a, b := h.login(transactionPort, "alice.default"), h.login(transactionPort, "alice.other")
		query(t, b, "BEGIN")
		start := time.Now()
		for _, pid := range []uint32{b.PID, b.PID ^ 1} {
			query(t, a, terminate(pid), "f")
			if sql := `Query "` + terminate(pid) + `"`; !slices.Contains(h.received(), sql) {
				t.Errorf("Postgres got %q, not %s", h.received(), sql)
			}
		}
		wantElapsed(t, start, 0)
		query(t, b, "COMMIT")
	})
}

func TestClientThatCanHaveNoBackendIsNotWaitedForLong(t *testing.T) {
	for _, begin := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, pgscript.Options{}, small(1))
			a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
			if begin {
				query(t, a, "BEGIN")
			}
			start := time.Now()
			query(t, a, terminate(b.PID), "f")
			wantElapsed(t, start, time.Second)
			if begin {
				query(t, a, "COMMIT")
			}
			query(t, b, "SELECT 'alive'", "alive")
			query(t, a, "SELECT 'alive'", "alive")
			wantElapsed(t, start, time.Second)
		})
	}
}

// TestTargetKeepsItsBackend has a statement speak of an idle client in a transaction: the backend that it has got for that is its own up
// to the end of the transaction, and then serves others, as Postgres says that it lives.
func TestTargetKeepsItsBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(2))
		a, b, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		query(t, a, cancelOf(b.PID), "t")
		start := time.Now()
		served := background(t, func() { query(t, c, "SELECT 'at last'", "at last") })
		synctest.Wait()
		for range 2 {
			query(t, b, "SELECT pg_backend_pid()", "1002")
		}
		time.Sleep(3 * time.Second)
		query(t, a, "COMMIT")
		<-served
		wantElapsed(t, start, 3*time.Second)
		if got := len(h.postgres.Conns()); got != 2 {
			t.Errorf("%d backends were opened, want 2", got)
		}
		if got := h.postgres.Conns()[1].Log(); count(got, "Sync") == 0 {
			t.Errorf("the backend was lent on without a question whether it lives: %q", got)
		}
	})
}

func TestTargetGivesBackWhatItGotForAStatementThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(2))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, cancelOf(b.PID), "t")
		h.wantBackends(2)
	})
}

func TestSeveralTargetsInOneMessageAndInAPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(6))
		a := h.login(transactionPort, "alice")
		var targets []*pgscript.Client
		for range 4 {
			targets = append(targets, h.login(transactionPort, "alice"))
		}
		pid := func(i int) uint32 { return targets[i].PID }
		a.Run(t, fmt.Sprintf("C: Query SELECT pg_terminate_backend(%d), pg_terminate_backend(%d)", pid(0), pid(1)),
			`C: Parse "" "SELECT pg_terminate_backend($1)"`, fmt.Sprintf(`C: Bind "" "" "%d"`, pid(2)), `C: Execute ""`,
			fmt.Sprintf(`C: Bind "" "" "%d"`, pid(3)), `C: Execute ""`, "C: Sync",
			"B: RowDescription", `B: DataRow "t" "t"`, "B: CommandComplete", "B: ReadyForQuery I",
			"B: ParseComplete", "B: BindComplete", `B: DataRow "t"`, "B: CommandComplete", "B: BindComplete", `B: DataRow "t"`, "B: CommandComplete", "B: ReadyForQuery I")
		for _, c := range targets {
			h.wantTerminated(c)
		}
		query(t, a, "COMMIT")
		h.wantBackends(6)
	})
}

func TestLookUpFindsWhoHasABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(3))
		a, idle, busy := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, busy, "BEGIN")
		query(t, busy, "SELECT pg_backend_pid()", "1001")
		sql := fmt.Sprintf("SELECT %d, %d AS pg_blocking_pids", idle.PID, busy.PID)
		want := fmt.Sprintf("SELECT %d, %-*d AS pg_blocking_pids", idle.PID, len(fmt.Sprint(busy.PID)), 1001)
		query(t, a, sql, fmt.Sprint(idle.PID))
		if got := h.received(); !slices.Contains(got, `Query "`+want+`"`) {
			t.Errorf("Postgres got %q, want %s", got, want)
		}
		if got := len(h.postgres.Conns()); got != 2 {
			t.Errorf("%d backends, want 2: who is only looked up needs none", got)
		}
	})
}

func TestTargetThatLeavesTakesItsBackendAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(2))
		a, b, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		query(t, a, cancelOf(b.PID), "t")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		served := background(t, func() { query(t, c, "SELECT pg_backend_pid()", "1001") })
		time.Sleep(2 * time.Second)
		query(t, a, terminate(b.PID), "f") // nobody any more
		query(t, a, "COMMIT")
		<-served
		wantElapsed(t, start, 2*time.Second)
		h.wantBackends(2)
		if got := h.postgres.Conns()[1].Log(); len(got) == 0 || got[len(got)-1] != "Terminate" {
			t.Errorf("its backend got %q, want to be closed in the end", got)
		}
	})
}

func TestWhoSpeaksOfOthersMayVanish(t *testing.T) {
	for name, size := range map[string]int{"while it waits": 1, "while they are kept": 2, "while its statement runs": 2, "with its backend": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, small(size))
				a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
				switch name {
				case "while it waits":
					run(t, a, terminate(b.PID))
					time.Sleep(time.Second / 2)
				case "while they are kept":
					query(t, a, "BEGIN")
					query(t, a, cancelOf(b.PID), "t")
				case "with its backend":
					query(t, a, "BEGIN")
					query(t, a, cancelOf(b.PID), "t")
					h.postgres.KillConn(1001, false)
				default:
					run(t, a, fmt.Sprintf("SELECT pg_sleep(60), pg_terminate_backend(%d)", b.PID))
				}
				synctest.Wait()
				_ = a.NetConn().Close()
				synctest.Wait()
				query(t, b, "SELECT 'alive'", "alive")
				h.wantBackends(size)
			})
		})
	}
}

func TestTargetThatWaitsForABackendIsReachedWhenItHasOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(2))
		holder, a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, holder, "BEGIN")
		query(t, a, "BEGIN")
		run(t, b, "SELECT pg_sleep(60)")
		start := time.Now()
		answered := background(t, func() { query(t, a, terminate(b.PID), "t") })
		time.Sleep(time.Second / 2)
		query(t, holder, "COMMIT")
		<-answered
		wantElapsed(t, start, time.Second/2)
		h.wantTerminated(b)
	})
}

func TestTargetsOwnTransactionComesWhileABackendIsSoughtForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(2))
		holder, a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, holder, "BEGIN")
		query(t, a, "BEGIN")
		start := time.Now()
		answered := background(t, func() { query(t, a, cancelOf(b.PID), "t") })
		synctest.Wait()
		served := background(t, func() { query(t, b, "SELECT pg_backend_pid()", "1001") })
		time.Sleep(time.Second / 2)
		query(t, holder, "COMMIT")
		<-answered
		<-served
		wantElapsed(t, start, time.Second/2)
		query(t, a, "COMMIT")
		h.wantBackends(2)
	})
}

// TestTargetGoesWhereItCanHaveABackend has sessions in both parts of a pool, of which one part's only backend is in use.
func TestTargetGoesWhereItCanHaveABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, spread(2, 2))
		a, b, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		start := time.Now()
		for _, target := range []*pgscript.Client{b, c} {
			query(t, a, terminate(target.PID), "t")
			h.wantTerminated(target)
		}
		wantElapsed(t, start, 0)
		if h.srv.Moves() == 0 || h.srv.Parts() != 2 {
			t.Errorf("%d sessions moved between %d parts, want some and 2", h.srv.Moves(), h.srv.Parts())
		}
		query(t, a, "COMMIT")
		h.wantBackends(2)
	})
}

func TestGoodbyeBehindAStatementThatSpeaksOfOthersLetsItRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(1))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		if err := a.Script("C: Query "+terminate(b.PID), "C: Terminate"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_ = a.NetConn().Close()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := h.received(); !slices.Contains(got, `Query "`+terminate(b.PID)+`"`) {
			t.Errorf("Postgres got %q, not the statement", got)
		}
		query(t, b, "SELECT 'alive'", "alive")
	})
}
