package proxy_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
)

// headStart is what Postgres gets to begin with a statement for which a cancel request has waited.
const headStart = 10 * time.Millisecond

// slow returns a harness of one backend that answers questions, and to which cancel requests take as long as they are told to.
func slow(t *testing.T, cancels time.Duration) *harness {
	return newHarnessOn(t, answering(), onePooled, func(n *memnet.Network) dialFunc {
		return (&slowCancels{n, cancels}).dial
	})
}

// queries has each Query and Execute take that long from now on.
func (h *harness) queries(delay time.Duration) {
	synctest.Wait()
	h.postgres.Adjust(func(k *pgscript.Knobs) { k.QueryDelay = delay })
}

func (h *harness) wantCancels(want int) {
	h.t.Helper()
	if got := h.postgres.Cancels(); got != want {
		h.t.Errorf("%d cancel requests reached Postgres, want %d", got, want)
	}
}

// carrying returns two clients of one backend with settings of their own, each of which has carried them there before: the
// backend has those of the second.
func carrying(t *testing.T, h *harness) (a, b *pgscript.Client) {
	a, b = h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
	query(t, a, "SET app.a = 1")
	query(t, b, "SET app.b = 2")
	for range 2 {
		query(t, a, "SELECT current_setting('app.a')", "1")
		query(t, b, "SELECT current_setting('app.b')", "2")
	}
	return a, b
}

func TestCancelWaitsForSettingsThatShareTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, time.Millisecond)
		a, _ := carrying(t, h)
		h.queries(time.Second)
		start := time.Now()
		done := background(t, func() {
			a.Run(t, "C: Query SELECT pg_sleep(60)", `B: ErrorResponse ERROR 57014 "canceling statement due to user request"`, "B: ReadyForQuery I")
		})
		time.Sleep(1500 * time.Millisecond) // BEGIN is over, settings are on their way
		h.cancel(transactionPort, a)
		<-done
		wantElapsed(t, start, 4*time.Second+headStart+time.Millisecond) // BEGIN, two settings, COMMIT
		h.queries(0)
		query(t, a, "SELECT current_setting('app.a')", "1")
		h.wantCancels(1)
	})
}

func TestCancelWaitsForSettingsThatAreSetFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, time.Millisecond)
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, a, "SET app.a = 1")
		query(t, b, "SET app.b = 2")
		h.queries(time.Second)
		start := time.Now()
		done := background(t, func() { a.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I") })
		time.Sleep(500 * time.Millisecond)
		h.cancel(transactionPort, a)
		<-done
		wantElapsed(t, start, 2*time.Second+headStart+time.Millisecond)
		h.wantCancels(1)
	})
}

func TestCancelWaitsForTheQuestionBehindTheStatementBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, time.Millisecond)
		a := h.login(transactionPort, "alice")
		h.queries(time.Second)
		start := time.Now()
		query(t, a, "SET app.a = 1") // then it is asked, for a second
		done := background(t, func() { a.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I") })
		synctest.Wait()
		h.cancel(transactionPort, a)
		<-done
		wantElapsed(t, start, 2*time.Second+headStart+time.Millisecond)
		h.wantCancels(1)
	})
}

func TestCancelBehindTheStatementDoesNotHitTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, time.Millisecond)
		a := h.login(transactionPort, "alice")
		h.queries(time.Second)
		query(t, a, "SET app.a = 1")
		start := time.Now()
		h.cancel(transactionPort, a)
		wantElapsed(t, start, 0) // there is nothing to wait for
		query(t, a, "SELECT current_setting('app.a')", "1")
		h.wantCancels(0)
	})
}

func TestLateCancelNeverHitsTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, 3*time.Second)
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		start := time.Now()
		ran := background(t, func() { query(t, a, "SET app.a = 1; SELECT pg_sleep(2)", "") })
		time.Sleep(time.Second)
		cancelled := background(t, func() { h.cancel(transactionPort, a) })
		<-ran
		wantElapsed(t, start, 2*time.Second)
		h.queries(time.Second)
		query(t, b, "SELECT 'b'", "b")
		wantElapsed(t, start, (4+1+3+1)*time.Second) // it was asked when the request had been dealt with, then app.a was taken off
		<-cancelled
		query(t, a, "SELECT current_setting('app.a')", "1")
		if n := count(h.received(), `Bind "" "sluice_ask"`); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		h.wantCancels(1)
	})
}

func TestLateCancelNeverHitsTheNextStatementOfTheTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, 3*time.Second)
		a := h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		start := time.Now()
		ran := background(t, func() {
			query(t, a, "SELECT pg_sleep(2)", "")
			query(t, a, "SELECT pg_sleep(5)", "")
		})
		time.Sleep(time.Second)
		h.cancel(transactionPort, a)
		wantElapsed(t, start, 4*time.Second)
		<-ran
		wantElapsed(t, start, (4+5)*time.Second)
		query(t, a, "COMMIT")
		h.wantCancels(1)
	})
}

func TestOneCancelIsOnItsWayAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, 3*time.Second)
		a := h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		start := time.Now()
		done := background(t, func() {
			a.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery E")
			query(t, a, "ROLLBACK")
			query(t, a, "SELECT pg_sleep(5)", "")
		})
		time.Sleep(time.Second)
		first := background(t, func() { h.cancel(transactionPort, a) })
		time.Sleep(time.Second)
		h.cancel(transactionPort, a) // of the same statement
		wantElapsed(t, start, 4*time.Second)
		<-first
		<-done
		wantElapsed(t, start, (4+5)*time.Second)
		h.wantCancels(1)
	})
}

func TestCancelOfTheNextStatementIsSentBehindTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slow(t, 3*time.Second)
		a := h.login(transactionPort, "alice")
		query(t, a, "BEGIN")
		start := time.Now()
		done := background(t, func() {
			query(t, a, "SELECT pg_sleep(2)", "")
			a.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery E")
		})
		time.Sleep(time.Second)
		first := background(t, func() { h.cancel(transactionPort, a) })
		time.Sleep(2 * time.Second)
		h.cancel(transactionPort, a)
		wantElapsed(t, start, (4+3)*time.Second+headStart)
		<-first
		<-done
		h.wantCancels(2)
	})
}

func TestCancelWhileABackendIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, t *config.Tenant) { t.PoolSize = 2 })
		holder, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, holder, "BEGIN")
		h.postgres.Adjust(func(k *pgscript.Knobs) { k.LoginDelay = 5 * time.Second })
		start := time.Now()
		done := background(t, func() { c.Run(t, "C: Query SELECT 'never'", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I") })
		time.Sleep(time.Second)
		h.cancel(transactionPort, c)
		<-done
		wantElapsed(t, start, time.Second)
		query(t, holder, "COMMIT")
		query(t, c, "SELECT 'alive'", "alive")
		if slices.ContainsFunc(h.received(), func(line string) bool { return strings.Contains(line, "never") }) {
			t.Error("the cancelled statement ran")
		}
		h.wantCancels(0)
	})
}

// stubborn makes Postgres deaf to Terminate.
type stubborn struct{ *memnet.Network }

func (n stubborn) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := n.Network.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return stubbornConn{nc}, nil
}

type stubbornConn struct{ net.Conn }

func (c stubbornConn) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0] == 'X' {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func TestCancelWhileOthersAreTakenOffTheDatabase(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarnessOn(t, pgscript.Options{}, nil, func(n *memnet.Network) dialFunc { return stubborn{n}.dial })
		other := h.connect(transactionPort)
		if err := other.Login("alice", "other", "secret"); err != nil {
			t.Fatal(err)
		}
		query(t, other, "SELECT 'x'", "x") // its backend stays open
		c := h.login(port, "alice")
		start := time.Now()
		done := background(t, func() { c.Run(t, "C: Query DROP DATABASE other", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I") })
		time.Sleep(time.Second)
		h.cancel(port, c)
		<-done
		wantElapsed(t, start, time.Second)
		query(t, c, "SELECT 'alive'", "alive")
		time.Sleep(time.Minute)
		if slices.Contains(h.received(), `Query "DROP DATABASE other"`) {
			t.Error("the database was dropped")
		}
		query(t, other, "SELECT 'alive'", "alive") // backends may be opened there again
	})
}
