package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// listeners is a configuration with a service login, so that clients that listen share a connection.
func listeners(more change) change {
	return func(c *config.Config, tenant *config.Tenant) {
		tenant.Service.Role, tenant.Service.Database = "service", "app"
		tenant.MaxBackends.Auto, tenant.MaxBackends.N = false, 0
		tenant.PoolSize = 2
		if more != nil {
			more(c, tenant)
		}
	}
}

func answering() pgscript.Options { return pgscript.Options{Answers: true} }

// ears returns the open connections that listen for many.
func (h *harness) ears() (ears []*pgscript.ServerConn) {
	for _, c := range h.postgres.Conns() {
		if c.Startup["application_name"] == "sluice listen" && c.Open() {
			ears = append(ears, c)
		}
	}
	return ears
}

// wantHeard reads what the client is sent next and checks that it is notifications with these payloads.
func wantHeard(t *testing.T, c *pgscript.Client, channel string, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		c.Run(t, `B: NotificationResponse * "`+channel+`" "`+p+`"`)
	}
}

func TestListenWaitsForTheSharedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		h.postgres.Adjust(func(k *pgscript.Knobs) { k.LoginDelay = 3 * time.Second })
		start := time.Now()
		query(t, a, "LISTEN news")
		wantElapsed(t, start, 3*time.Second)
		if n := len(h.ears()); n != 1 {
			t.Fatalf("%d connections listen, want 1", n)
		}
		query(t, b, "LISTEN news")
		query(t, b, "NOTIFY news, 'x'")
		wantElapsed(t, start, 3*time.Second)
		wantHeard(t, a, "news", "x")
		if n := h.postgres.Open(); n != 2 {
			t.Errorf("%d backends, want one of the pool and one that listens", n)
		}
	})
}

func TestNotificationWaitsForTheEndOfTheTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		query(t, a, "BEGIN")
		query(t, b, "NOTIFY news, 'x'")
		synctest.Wait()
		a.Run(t, "C: Query SELECT 'still'", "B: RowDescription", `B: DataRow "still"`, "B: CommandComplete", "B: ReadyForQuery T",
			"C: Query COMMIT", "B: CommandComplete COMMIT", `B: NotificationResponse * "news" "x"`, "B: ReadyForQuery I")
		query(t, b, "NOTIFY news, 'y'")
		wantHeard(t, a, "news", "y")
	})
}

// TestWhatWasCommittedBeforeIsHeardBeforeReadyForQuery holds what clients count on that look for notifications behind a query.
func TestWhatWasCommittedBeforeIsHeardBeforeReadyForQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		h.postgres.Adjust(func(k *pgscript.Knobs) { k.LateNews = true })
		query(t, b, "NOTIFY news, 'x'")
		a.Run(t, "C: Query SELECT 'a'", "B: RowDescription", `B: DataRow "a"`, "B: CommandComplete", `B: NotificationResponse * "news" "x"`,
			"B: ReadyForQuery I")
		query(t, a, "BEGIN")
		query(t, b, "NOTIFY news, 'y'")
		query(t, a, "SELECT 'quiet'", "quiet") // nothing is heard in a transaction
		a.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", `B: NotificationResponse * "news" "y"`, "B: ReadyForQuery I")
	})
}

func TestTransactionEndsBeforeItsListenerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a := h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		h.postgres.Adjust(func(k *pgscript.Knobs) { k.QueryDelay = 10 * time.Second })
		a.Run(t, "C: Query SELECT 'a'", "B: RowDescription", `B: DataRow "a"`, "B: CommandComplete")
		time.Sleep(5 * time.Second) // the shared connection is being asked what else there is
		h.postgres.KillConn(h.ears()[0].PID, true)
		a.Run(t, "B: ReadyForQuery I", "B: ErrorResponse FATAL 08006", "B: EOF")
	})
}

func TestOwnNotificationHasTheOwnPID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		query(t, b, "NOTIFY news, 'from b'")
		wantHeard(t, a, "news", "from b")
		a.Run(t, "C: Query \"NOTIFY news, 'mine'\"", "B: CommandComplete NOTIFY", fmt.Sprintf(`B: NotificationResponse %d news mine`, a.PID),
			"B: ReadyForQuery I")
		if strings.Contains(a.Transcript(), fmt.Sprintf(`NotificationResponse %d "news" "from b"`, a.PID)) {
			t.Errorf("what another client has sent looks like the listener's own:\n%s", a.Transcript())
		}
	})
}

func TestListenersAreToldThatTheSharedConnectionIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		idle, busy, other := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, idle, "LISTEN news")
		query(t, busy, "LISTEN news")
		query(t, busy, "BEGIN")
		h.postgres.KillConn(h.ears()[0].PID, true)
		idle.Run(t, "B: ErrorResponse FATAL 08006", "B: EOF")
		busy.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", "B: ReadyForQuery I", "B: ErrorResponse FATAL 08006", "B: EOF")
		if got := strings.Count(h.log.String(), "reason=listener_lost"); got != 2 {
			t.Errorf("%d sessions ended because of it, want 2", got)
		}
		query(t, other, "LISTEN news") // is pinned: it is not tried again so soon
		if n := len(h.ears()); n != 0 {
			t.Errorf("%d connections listen at once after one was lost, want none", n)
		}
		query(t, h.login(transactionPort, "alice"), "NOTIFY news, 'x'")
		wantHeard(t, other, "news", "x")
		time.Sleep(time.Second)
		query(t, other, "LISTEN more")
		if n := len(h.ears()); n != 1 {
			t.Errorf("%d connections listen a second later, want 1", n)
		}
		query(t, h.login(transactionPort, "alice"), "NOTIFY news, 'y'")
		wantHeard(t, other, "news", "y")
	})
}

// A session that was in a transaction when the shared connection was lost does not wait for the next one, of which it hears nothing.
func TestListenerThatMissedTheLossIsToldBehindItsTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		busy, other := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, busy, "LISTEN news")
		query(t, busy, "BEGIN")
		h.postgres.KillConn(h.ears()[0].PID, true)
		time.Sleep(2 * time.Second)
		query(t, other, "LISTEN news")
		if n := len(h.ears()); n != 1 {
			t.Fatalf("%d connections listen, want another one", n)
		}
		busy.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", "B: ReadyForQuery I", "B: ErrorResponse FATAL 08006", "B: EOF")
	})
}

func TestSharedConnectionThatDoesNotAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a := h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		query(t, a, "BEGIN")
		h.postgres.Adjust(func(k *pgscript.Knobs) { k.QueryDelay = time.Minute })
		start := time.Now()
		a.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", "B: ReadyForQuery I", "B: ErrorResponse FATAL 08006", "B: EOF")
		wantElapsed(t, start, 90*time.Second) // a minute for the COMMIT itself, and what the shared connection gets
	})
}

func TestListenPinsWhereNothingElseCanListen(t *testing.T) {
	for name, more := range map[string]change{
		"no service login": func(_ *config.Config, tenant *config.Tenant) { tenant.Service.Role = "" },
		"refused":          nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, answering(), listeners(more))
				a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
				query(t, a, "BEGIN")
				query(t, b, "SELECT 'opens the second backend'", "opens the second backend")
				query(t, a, "COMMIT")
				h.postgres.RefuseConnections("28P01", "no")
				start := time.Now()
				query(t, a, "LISTEN news")
				query(t, b, "NOTIFY news, 'x'")
				wantHeard(t, a, "news", "x")
				wantElapsed(t, start, 0)
				synctest.Wait() // Postgres may still be answering what the session holds
				if !strings.Contains(h.log.String(), "pin=listen") {
					t.Error("the listener is not pinned")
				}
				query(t, a, "UNLISTEN news")
				query(t, a, "BEGIN")
				query(t, b, "SELECT 1", "1")
			})
		})
	}
}

func TestListenDoesNotWaitForTheBudgetForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(func(_ *config.Config, tenant *config.Tenant) { tenant.MaxBackends.N, tenant.MaxPinned = 1, 1 }))
		a := h.login(transactionPort, "alice")
		start := time.Now()
		query(t, a, "LISTEN news; NOTIFY news, 'x'")
		wantElapsed(t, start, 5*time.Second)
		if !strings.Contains(a.Transcript(), fmt.Sprintf(`NotificationResponse %d "news" "x"`, a.PID)) {
			t.Errorf("nothing was heard:\n%s", a.Transcript())
		}
		if n := h.postgres.Open(); n != 1 {
			t.Errorf("%d backends are open, want max_backends: 1", n)
		}
	})
}

func TestSharedConnectionIsClosedWhenNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		query(t, b, "LISTEN news")
		query(t, a, "UNLISTEN *")
		_ = b.Close()
		time.Sleep(5*time.Second - time.Nanosecond)
		synctest.Wait()
		if n := len(h.ears()); n != 1 {
			t.Errorf("%d connections listen, want 1 for 5 s", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := len(h.ears()); n != 0 {
			t.Errorf("%d connections listen for nobody", n)
		}
		query(t, a, "LISTEN news")
		query(t, a, "NOTIFY news, 'x'")
		if n := len(h.ears()); n != 1 {
			t.Errorf("%d connections listen, want 1 again", n)
		}
	})
}

func TestReloadOfTheServiceLoginTellsListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		if err := h.srv.Reload(settings(listeners(func(_ *config.Config, tenant *config.Tenant) { tenant.PoolSize = 3 }))); err != nil {
			t.Fatal(err)
		}
		query(t, b, "NOTIFY news, 'x'")
		wantHeard(t, a, "news", "x")
		if err := h.srv.Reload(settings(listeners(func(_ *config.Config, tenant *config.Tenant) { tenant.Service.Role = "another" }))); err != nil {
			t.Fatal(err)
		}
		a.Run(t, "B: ErrorResponse FATAL 08006", "B: EOF")
		query(t, b, "LISTEN news")
		synctest.Wait() // the old connection is closed on a loop of its own
		ears := h.ears()
		if len(ears) != 1 || ears[0].User != "another" {
			t.Errorf("%d connections listen, want one of the new role", len(ears))
		}
	})
}

func TestListenerThatDoesNotReadIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		idle, busy, speaker := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, idle, "LISTEN news")
		query(t, busy, "LISTEN news")
		query(t, busy, "BEGIN")
		payload := strings.Repeat("x", 7999)
		for range 170 { // over 1 MiB beside what the network holds
			query(t, speaker, "NOTIFY news, '"+payload+"'")
		}
		synctest.Wait()
		if got := strings.Count(h.log.String(), "reason=listener_lost"); got != 1 {
			t.Errorf("%d sessions have ended, want that of the client that does not read", got)
		}
		query(t, busy, "COMMIT")
		busy.Run(t, "B: ErrorResponse FATAL 08006", "B: EOF")
		query(t, speaker, "SELECT 'fine'", "fine")
	})
}

func TestDrainEndsTheSharedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(nil))
		a := h.login(transactionPort, "alice")
		query(t, a, "LISTEN news")
		start := time.Now()
		done := h.shutdown(time.Minute)
		a.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		_ = a.NetConn().Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if n := h.postgres.Open(); n != 0 {
			t.Errorf("%d backends are left", n)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the drain took %s", took)
		}
	})
}

func TestListenerMovesToAnotherLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, answering(), listeners(spread(2, 2)))
		a, b, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, c, "LISTEN news")
		for range 4 { // to and fro
			moves := h.srv.Moves()
			query(t, a, "BEGIN")
			query(t, b, "BEGIN")
			served := background(t, func() { query(t, c, "SELECT 1", "1") })
			synctest.Wait()
			query(t, b, "COMMIT")
			time.Sleep(time.Second)
			query(t, a, "COMMIT")
			<-served
			query(t, b, "NOTIFY news, 'x'")
			wantHeard(t, c, "news", "x")
			c.Run(t, "C: Query \"NOTIFY news, 'mine'\"", "B: CommandComplete NOTIFY", fmt.Sprintf("B: NotificationResponse %d news mine", c.PID),
				"B: ReadyForQuery I")
			a, b = b, a
			t.Log(h.srv.Moves()-moves, "moves")
		}
		if h.srv.Moves() == 0 {
			t.Error("nobody moved")
		}
		query(t, c, "UNLISTEN news")
		query(t, c, "LISTEN other")
		query(t, b, "NOTIFY news, 'not heard'")
		query(t, b, "NOTIFY other, 'heard'")
		wantHeard(t, c, "other", "heard")
		query(t, c, "LISTEN news")
		h.postgres.KillConn(h.ears()[0].PID, true)
		c.Run(t, "B: ErrorResponse FATAL 08006", "B: EOF")
	})
}
