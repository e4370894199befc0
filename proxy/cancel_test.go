package proxy_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/config"
	"sluice/internal/memnet"
	"sluice/internal/pgscript"
)

func TestCancelWhileWaitingTakesTheClientOutOfTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		holder, waiting := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, holder, "BEGIN")
		done := background(t, func() {
			waiting.Run(t, "C: Query SELECT 'never'", `B: ErrorResponse ERROR 57014 "canceling statement due to user request"`, "B: ReadyForQuery I")
		})
		synctest.Wait()
		h.cancel(transactionPort, waiting)
		<-done
		query(t, holder, "COMMIT")
		query(t, waiting, "SELECT 'alive'", "alive")
		if n := h.postgres.Cancels(); n != 0 {
			t.Errorf("%d cancel requests reached Postgres", n)
		}
		if slices.Contains(h.received(), `Query "SELECT 'never'"`) {
			t.Error("the cancelled statement ran")
		}
	})
}

func TestCancelWhileWaitingAnswersAPipelineUpToItsSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		holder, waiting := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, holder, "BEGIN")
		done := background(t, func() {
			waiting.Run(t, `C: Parse "s" "SELECT 'never'"`, `C: Bind "" "s"`, `C: Execute ""`, "C: Sync", "C: Query SELECT 'second'",
				"B: ErrorResponse ERROR 57014", "B: ReadyForQuery I",
				"B: RowDescription", `B: DataRow "second"`, "B: CommandComplete", "B: ReadyForQuery I")
		})
		synctest.Wait()
		h.cancel(transactionPort, waiting)
		synctest.Wait()
		query(t, holder, "COMMIT")
		<-done
	})
}

func TestCancelOfARunningQueryReachesPostgresOnce(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		start := time.Now()
		done := background(t, func() {
			c.Run(t, "C: Query SELECT pg_sleep(60)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I")
		})
		time.Sleep(time.Second)
		h.cancel(port, c)
		<-done
		wantElapsed(t, start, time.Second)
		if n := h.postgres.Cancels(); n != 1 {
			t.Errorf("%d cancel requests, want 1", n)
		}
		query(t, c, "SELECT 'alive'", "alive")
	})
}

func TestCancelOfAnIdleClientGoesNoFurther(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		query(t, c, "BEGIN")
		h.cancel(port, c)
		query(t, c, "COMMIT")
		h.cancel(port, c)
		query(t, c, "SELECT 'x'", "x")
		if n := h.postgres.Cancels(); n != 0 {
			t.Errorf("%d cancel requests reached Postgres, want none", n)
		}
	})
}

func TestCancelWithAWrongKeyIsSilentlyIgnored(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, nil)
		c := h.login(port, "alice")
		done := background(t, func() { query(t, c, "SELECT pg_sleep(5)", "") })
		synctest.Wait()
		key := slices.Clone(c.Key)
		key[0] ^= 1
		for _, request := range []struct {
			pid uint32
			key []byte
		}{{c.PID, key}, {c.PID + 1, c.Key}, {c.PID, append(slices.Clone(c.Key), 0)}, {1001, h.postgres.Conns()[0].Key}} {
			if err := pgscript.Cancel(h.dialFrom("127.0.0.1", port), request.pid, request.key); err != nil {
				t.Errorf("cancel: %v", err)
			}
		}
		<-done
		if n := h.postgres.Cancels(); n != 0 {
			t.Errorf("%d cancel requests reached Postgres, want none", n)
		}
	})
}

// slowCancels makes every connection to Postgres that carries a cancel request arrive late.
type slowCancels struct {
	*memnet.Network
	delay time.Duration
}

func (n *slowCancels) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := n.Network.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &slowCancel{Conn: nc, delay: n.delay}, nil
}

type slowCancel struct {
	net.Conn
	delay time.Duration
}

func (c *slowCancel) Write(p []byte) (int, error) {
	if len(p) == 16 && (&pgproto3.CancelRequest{}).Decode(p[4:]) == nil {
		time.Sleep(c.delay)
	}
	return c.Conn.Write(p)
}

func TestLateCancelNeverHitsTheNextClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarnessOn(t, pgscript.Options{}, onePooled, func(n *memnet.Network) dialFunc {
			return (&slowCancels{n, 3 * time.Second}).dial
		})
		a, b := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		start := time.Now()
		ran := background(t, func() { query(t, a, "SELECT pg_sleep(2)", "") })
		time.Sleep(time.Second)
		cancelled := background(t, func() { h.cancel(transactionPort, a) })
		<-ran // before the cancel request arrives
		wantElapsed(t, start, 2*time.Second)
		query(t, b, "SELECT pg_sleep(5)", "")
		wantElapsed(t, start, (4+5)*time.Second) // the backend was lent when the request had been dealt with
		<-cancelled
		if n := h.postgres.Cancels(); n != 1 {
			t.Errorf("%d cancel requests, want 1", n)
		}
		query(t, a, "SELECT 'alive'", "alive")
	})
}

func TestClientThatVanishesIsCancelledAndItsBackendServesTheNext(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		a := h.login(port, "alice")
		query(t, a, "BEGIN")
		if err := a.Script("C: Query SELECT pg_sleep(600)"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		_ = a.NetConn().Close()
		synctest.Wait()
		b := h.login(port, "alice")
		query(t, b, "SELECT pg_backend_pid()", "1001")
		wantElapsed(t, start, 0)
		want := []string{`Query "BEGIN"`, `Query "SELECT pg_sleep(600)"`, `Query "ROLLBACK"`}
		if port == sessionPort {
			want = append(want, `Query "DISCARD ALL"`)
		}
		want = append(want, `Query "SELECT pg_backend_pid()"`)
		if got := h.received(); !slices.Equal(got, want) {
			t.Errorf("Postgres got %q, want %q", got, want)
		}
		if n := h.postgres.Cancels(); n != 1 {
			t.Errorf("%d cancel requests, want 1", n)
		}
	})
}

func TestClientThatVanishesInAPipelineIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		a := h.login(transactionPort, "alice")
		if err := a.Script(`C: Parse "" "INSERT INTO x VALUES (1)"`, `C: Bind "" ""`, `C: Execute ""`, "C: Flush"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_ = a.NetConn().Close()
		synctest.Wait()
		got := h.received()
		if last := got[len(got)-1]; last != "Sync" && last != "Terminate" {
			t.Errorf("Postgres got %q: the statement's transaction was left open", got)
		}
		query(t, h.login(transactionPort, "alice"), "SELECT 'x'", "x")
	})
}

func TestTerminateBehindAStatementLetsItFinish(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		h := newHarness(t, pgscript.Options{Knobs: pgscript.Knobs{QueryDelay: time.Second}}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.PoolSize = 1
		})
		c := h.login(port, "alice")
		start := time.Now()
		c.Run(t, "C: Query INSERT INTO x VALUES (1)", "C: Terminate", `B: CommandComplete "INSERT 0 1"`, "B: ReadyForQuery I", "B: EOF")
		wantElapsed(t, start, time.Second)
		if n := h.postgres.Cancels(); n != 0 {
			t.Errorf("%d cancel requests, want none", n)
		}
	})
}

func TestTerminateBehindAStatementThatWaitsForABackendLetsItRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, onePooled)
		holder, c := h.login(transactionPort, "alice"), h.login(transactionPort, "alice")
		query(t, holder, "BEGIN")
		if err := c.Script("C: Query INSERT INTO x VALUES (1)", "C: Terminate"); err != nil {
			t.Fatal(err)
		}
		_ = c.NetConn().Close()
		time.Sleep(time.Second)
		query(t, holder, "COMMIT")
		synctest.Wait()
		if got := h.received(); !slices.Contains(got, `Query "INSERT INTO x VALUES (1)"`) {
			t.Errorf("Postgres got %q, not the INSERT", got)
		}
	})
}
