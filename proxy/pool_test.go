package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

// refused sends a query, unless it is empty, and returns the error that answers it.
func refused(t *testing.T, c *pgscript.Client, sql string) *pgproto3.ErrorResponse {
	t.Helper()
	fe := pgproto3.NewFrontend(c.NetConn(), c.NetConn())
	if sql != "" {
		fe.SendQuery(&pgproto3.Query{String: sql})
		if err := fe.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for {
		msg, err := fe.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := msg.(*pgproto3.ErrorResponse); ok {
			return e
		}
	}
}

// wantRefusal compares what a client is told.
func wantRefusal(t *testing.T, got *pgproto3.ErrorResponse, message, detail, hint string) {
	t.Helper()
	want := []string{"53300", message, detail, hint}
	if diff := cmp.Diff(want, []string{got.Code, got.Message, got.Detail, got.Hint}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// small is a pool of n backends with a wait of 15 s.
func small(n int) change {
	return func(_ *config.Config, tenant *config.Tenant) {
		tenant.PoolSize, tenant.PoolWaitTimeout = n, 15*time.Second
	}
}

const waited = "no backend of the pool was free within 15s (pool_wait_timeout)"

// run has the client send a query whose answer nobody waits for.
func run(t *testing.T, c *pgscript.Client, sql string) {
	t.Helper()
	if err := c.Script("C: Query " + sql); err != nil {
		t.Fatal(err)
	}
}

func TestPoolWaitTimeoutSaysWhatHoldsTheBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(4))
		query(t, h.login(transactionPort, "alice"), "BEGIN")
		time.Sleep(20 * time.Second)
		pinned := h.login(transactionPort, "alice")
		query(t, pinned, "CREATE TEMP TABLE x (i int)")
		time.Sleep(5 * time.Second)
		query(t, h.login(transactionPort, "alice"), "BEGIN")
		run(t, h.login(transactionPort, "alice"), "SELECT pg_sleep(600)")
		synctest.Wait()
		c := h.login(transactionPort, "alice")
		background(t, func() { run(t, c, "SELECT 'also waits'") })
		synctest.Wait()
		last := h.login(transactionPort, "alice")
		start := time.Now()
		wantRefusal(t, refused(t, last, "SELECT 1"), waited,
			"Pool app/alice (transaction): 4 of 4 backends in use: 2 idle in transaction (longest 40.0 s),"+
				" 1 pinned by a temporary object [temp] (longest 20.0 s), 1 active (longest 15.0 s); 2 clients wait, the first for 15.0 s.",
			"Commit or roll back as soon as the work is done, or ask the operator to set timeouts.idle_in_transaction.")
		wantElapsed(t, start, 15*time.Second)
		log := h.log.String()
		for _, want := range []string{
			`msg="pool exhausted" pool="alice@default/app (transaction)" reason=pool_wait_timeout detail="Pool app/alice (transaction): 4 of 4`,
			`holders="[session 1 of \"alice\" (\"\" from 127.0.0.1:`, `, backend 1001) idle_in_transaction for 40.0 s`,
			`backend 1002) pinned for 20.0 s because of temp`, `backend 1004) active for 15.0 s]`,
		} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not have %q:\n%s", want, log)
			}
		}
	})
}

func TestPoolWaitTimeoutHintsAtWhatMostBackendsDo(t *testing.T) {
	for name, c := range map[string]struct {
		port, sql, hint string
	}{
		"active": {transactionPort, "SELECT pg_sleep(600)",
			"Look for slow statements and for locks that they wait for, or ask the operator to raise pool_size (now 2)."},
		"pinned": {transactionPort, "LISTEN news",
			"Connect clients that keep state in their session to the session port, or ask the operator to raise pool_size (now 2)."},
		"idle sessions": {sessionPort, "SELECT 1",
			"Close connections that are not used, connect to the transaction port, or ask the operator to raise session_pool_size (now 2)."},
		"active sessions": {sessionPort, "SELECT pg_sleep(600)",
			"Look for slow statements and for locks that they wait for, or ask the operator to raise session_pool_size (now 2)."},
		"in a block": {transactionPort, "BEGIN",
			"Commit or roll back as soon as the work is done, or ask the operator to set timeouts.idle_in_transaction."},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
					tenant.PoolSize, tenant.PoolWaitTimeout, tenant.MaxPinned = 2, 15*time.Second, 2
				})
				for range 2 {
					run(t, h.login(c.port, "alice"), c.sql)
					synctest.Wait()
				}
				got := h.waitInVain(c.port)
				if got.Hint != c.hint {
					t.Errorf("got hint %q (%s), want %q", got.Hint, got.Detail, c.hint)
				}
			})
		})
	}
}

// waitInVain returns the refusal of one client more.
func (h *harness) waitInVain(port string) *pgproto3.ErrorResponse {
	h.t.Helper()
	if port == transactionPort {
		return refused(h.t, h.login(port, "alice"), "SELECT 1")
	}
	c := h.connect(port)
	if err := c.Startup("user", "alice", "database", "app"); err != nil {
		h.t.Fatal(err)
	}
	return refused(h.t, c, "")
}

func TestUsedUpMaxBackendsIsNamedInsteadOfThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) {
			tenant.PoolSize, tenant.PoolWaitTimeout, tenant.MaxBackends = 4, 15*time.Second, config.AutoInt{N: 3}
		})
		query(t, h.login(transactionPort, "bob"), "BEGIN")
		query(t, h.login(transactionPort, "carol"), "BEGIN")
		query(t, h.login(transactionPort, "alice"), "BEGIN")
		wantRefusal(t, refused(t, h.login(transactionPort, "alice"), "SELECT 1"), waited,
			"Pool app/alice (transaction): 1 of 4 backends in use: 1 idle in transaction (longest 15.0 s); 1 client waits, the first for 15.0 s."+
				" All backends of the tenant are taken (max_backends is 3): 1 by this pool, 2 by 2 other pools.",
			"Ask the operator to raise max_backends (now 3), or to lower the pool_size of other roles.")
		if want := `shares="[{Key:alice@default/app (transaction) Backends:1} {Key:bob@default/app (transaction) Backends:1}`; !strings.Contains(h.log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, h.log)
		}
	})
}

func TestManyRefusalsAreExplainedAndReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(1))
		query(t, h.login(transactionPort, "alice"), "BEGIN")
		answers := make(chan *pgproto3.ErrorResponse, 20)
		for range cap(answers) {
			c := h.login(transactionPort, "alice")
			background(t, func() { answers <- refused(t, c, "SELECT 1") })
		}
		for range cap(answers) {
			if got, want := (<-answers).Detail, "; 20 clients wait, the first for 15.0 s."; !strings.HasSuffix(got, want) {
				t.Errorf("got %q, want the end %q", got, want)
			}
		}
		if n := strings.Count(h.log.String(), "pool exhausted"); n != 1 {
			t.Errorf("it was logged %d times who holds the backends, want once", n)
		}
	})
}

func TestTooManyPinnedSaysByWhatTheOthersAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(_ *config.Config, tenant *config.Tenant) { tenant.PoolSize, tenant.MaxPinned = 4, 2 })
		query(t, h.login(transactionPort, "alice"), "CREATE TEMP TABLE x (i int)")
		time.Sleep(time.Second)
		query(t, h.login(transactionPort, "alice"), "LISTEN news")
		synctest.Wait() // until it is pinned
		wantRefusal(t, refused(t, h.login(transactionPort, "alice"), "CREATE TEMP TABLE x (i int)"),
			"too many sessions of this pool are tied to their backend: at most 2 may be",
			"This session would be, because of: temp. Pool app/alice (transaction): 1 pinned by a temporary object [temp] (longest 1.0 s),"+
				" 1 pinned by LISTEN [listen] (longest 0.0 s).",
			"Use the session port for clients that keep state in their session.")
	})
}

func TestStatusShowsWhoHoldsBackendsLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(10))
		for i := range 7 {
			query(t, h.login(sessionPort, "alice", "application_name", fmt.Sprint("app", i)), "BEGIN")
			time.Sleep(time.Second)
		}
		pool := h.srv.Status().Tenants[0].Pools[0]
		var got []string
		for _, holder := range pool.Holders {
			got = append(got, fmt.Sprintf("%d %s %s %s %.0f", holder.Session, holder.Role, holder.Application, holder.State, holder.Seconds))
		}
		want := []string{
			"1 alice app0 idle_in_transaction 7", "2 alice app1 idle_in_transaction 6", "3 alice app2 idle_in_transaction 5",
			"4 alice app3 idle_in_transaction 4", "5 alice app4 idle_in_transaction 3",
		}
		if diff := cmp.Diff(want, got); diff != "" || pool.Backends.IdleInTransaction != 7 {
			t.Errorf("%+v (-want +got):\n%s", pool.Backends, diff)
		}
	})
}
