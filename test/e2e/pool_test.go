package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestWaitForABackendEndsWithWhatHoldsThem(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 3\npool_wait_timeout: 1s"))
	block, pinned, busy := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	last := r.connect("transaction", "alice", simple)
	r.exec(block, "BEGIN")
	r.exec(pinned, "CREATE TEMP TABLE held (i int)")
	done := make(chan error, 1)
	go func() {
		_, err := busy.Exec(r.ctx(), "SELECT pg_sleep(1000) /* waits_for_its_end */")
		done <- err
	}()
	r.eventually("it runs", func() bool { return r.activity(running, "waits_for_its_end") == "1" })
	_, err := last.Exec(r.ctx(), "SELECT 1")
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || refused.Code != "53300" {
		t.Fatalf("got %v, want 53300", err)
	}
	for _, want := range []string{
		`^Pool app/alice \(transaction\): 3 of 3 backends in use: 1 [^,]* \(longest [0-9.]+ s\), 1 [^,]* \(longest [0-9.]+ s\), 1 [^,]* \(longest [0-9.]+ s\); 1 client waits, the first for [0-9.]+ s\.$`,
		`1 idle in transaction \(`, `1 pinned by a temporary object \[temp\] \(`, `1 active \(`,
	} {
		if !regexp.MustCompile(want).MatchString(refused.Detail) {
			t.Errorf("got detail %q, want %s", refused.Detail, want)
		}
	}
	if refused.Hint == "" || strings.Contains(refused.Detail+refused.Hint, "127.0.0.1") {
		t.Errorf("got hint %q, detail %q", refused.Hint, refused.Detail)
	}
	if got := r.activity("SELECT pg_cancel_backend(pid)::text FROM pg_stat_activity WHERE query LIKE '%waits_for_its_end%' AND pid <> pg_backend_pid()"); got != "true" {
		t.Fatal(got)
	}
	if err := <-done; sqlstate(err) != "57014" {
		t.Errorf("got %v, want the cancelled statement", err)
	}
}

func TestBackendOfAClientIdleInTransactionIsDiscarded(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 1\ntimeouts: {idle_in_transaction: 1s}"))
	c := r.connect("transaction", "alice", simple)
	r.exec(c, "BEGIN")
	r.exec(c, "CREATE TABLE never_there (i int)")
	pid := r.value(c, "SELECT pg_backend_pid()::text")
	r.eventually("the backend is gone", func() bool {
		return r.activity("SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1::text::int", pid) == "0"
	})
	if _, err := c.Exec(r.ctx(), "SELECT 1"); sqlstate(err) != "25P03" {
		t.Errorf("got %v, want 25P03", err)
	}
	next := r.connect("transaction", "alice", simple)
	if got := r.value(next, "SELECT (to_regclass('never_there') IS NULL)::text || pg_backend_pid()::text"); !strings.HasPrefix(got, "true") || got == "true"+pid {
		t.Errorf("got %s, want another backend and no table", got)
	}
}

// TestAutoFollowsTheConnectionsOfOthers has other connections on Postgres come and go. Reloads have it asked at once.
func TestAutoFollowsTheConnectionsOfOthers(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := &rig{t: t}
	must(t, pg.Exec(r.ctx(), "ALTER SYSTEM SET max_connections = 80", "ALTER SYSTEM SET superuser_reserved_connections = 7"))
	must(t, pg.Restart(r.ctx()))
	const few, many = 54, 59 // 80 % of 73 less the connection that asks and some that are ending
	r = start(t, pg, base(pg, "max_backends: auto"))
	yaml := base(pg, "max_backends: auto")
	reach := func(what string, lowest, highest int) {
		t.Helper()
		r.eventually(fmt.Sprintf("max_backends between %d and %d: %s", lowest, highest, what), func() bool {
			must(t, r.srv.Reload(r.load(yaml)))
			got := r.srv.Status().Tenants[0].MaxBackends
			return got >= lowest && got <= highest
		})
	}
	reach("nobody else is there", few, many)
	var others []*pgx.Conn
	for range 40 {
		c, err := pgx.Connect(r.ctx(), pg.SuperuserURL("postgres"))
		must(t, err)
		others = append(others, c)
	}
	before := strings.Count(r.logs.String(), "max_backends changed")
	reach("forty are there", 21, 27)
	if n := strings.Count(r.logs.String(), "max_backends changed") - before; n < 2 {
		t.Errorf("it changed %d times, want steps", n)
	}
	for _, c := range others {
		must(t, c.Close(r.ctx()))
	}
	reach("they are gone", few, many)
	for range 10 {
		r.exec(r.connect("session", "alice", simple), "SELECT 1")
	}
	reach("our own do not count", few, many)
	if tenant := r.srv.Status().Tenants[0]; tenant.Backends < 10 {
		t.Errorf("%d backends, want 10 at least", tenant.Backends)
	}
}
