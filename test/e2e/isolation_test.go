package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// oneBackend is a tenant whose transactions all run on the same backend.
const oneBackend = "pool_size: 1"

func TestUnnamedStatementsOfTwoClientsOnOneBackend(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.raw("transaction", "alice"), r.raw("transaction", "alice")
	a.send(parseMsg("", "SELECT 'a'"), syncMsg)
	a.until('Z')
	b.send(parseMsg("", "SELECT 'b'"), syncMsg)
	b.until('Z')
	a.send(bindMsg(""), executeMsg, syncMsg)
	if got := a.until('Z'); !strings.Contains(got, "2 D(a) C Z") {
		t.Errorf("a's statement gave %q", got)
	}
	b.send(bindMsg(""), executeMsg, syncMsg)
	if got := b.until('Z'); !strings.Contains(got, "2 D(b) C Z") {
		t.Errorf("b's statement gave %q", got)
	}
}

func TestNamedStatementsOfManyClientsOnFewBackends(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 3"))
	var wg sync.WaitGroup
	for i := range 12 {
		c := r.connect("transaction", "alice", "")
		wg.Go(func() {
			for n := range 50 {
				name := fmt.Sprint("s", n%5) // the same names mean other things to every client
				sql := fmt.Sprintf("SELECT %d * 100 + $1::int", i*10+n%5)
				if n < 5 {
					if _, err := c.Prepare(context.Background(), name, sql); err != nil {
						t.Errorf("client %d: prepare: %v", i, err)
						return
					}
				}
				var got int
				if err := c.QueryRow(context.Background(), name, n).Scan(&got); err != nil || got != (i*10+n%5)*100+n {
					t.Errorf("client %d, statement %s: got %d, %v", i, name, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSettingsStayWithTheirClient(t *testing.T) {
	t.Parallel()
	for _, set := range []string{
		"SET work_mem = '7MB'",
		"SET SESSION work_mem TO '7MB'",
		"SELECT set_config('work_mem', '7MB', false)",
		"DO $$ BEGIN PERFORM set_config('work_mem', '7MB', false); END $$",
		"/* hidden */ set work_mem = '7MB'",
		"SELECT 1; SET work_mem = '7MB'",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, "pool_size: 2"))
			a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
			r.exec(a, set)
			for range 5 {
				if got := r.value(b, "SHOW work_mem"); got == "7MB" {
					t.Fatal("the setting leaked to another client")
				}
				if got := r.value(a, "SHOW work_mem"); got != "7MB" {
					t.Fatalf("the client lost its setting: %s", got)
				}
			}
			_ = a.Close(context.Background())
			c := r.connect("transaction", "alice", simple)
			for range 5 {
				if got := r.value(c, "SHOW work_mem"); got == "7MB" {
					t.Fatal("the setting leaked to a later client")
				}
			}
		})
	}
}

// simple makes pgx use simple queries.
const simple = "default_query_exec_mode=simple_protocol"

func TestSetLocalDoesNotPin(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	for range 3 {
		tx, err := a.Begin(r.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(r.ctx(), "SET LOCAL TimeZone = 'Asia/Tokyo'"); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(r.ctx(), "SELECT set_config('request.jwt.claims', $1, true)", "{}"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(r.ctx()); err != nil {
			t.Fatal(err)
		}
		if got := r.value(b, "SHOW TimeZone"); strings.Contains(got, "Tokyo") { // would wait for ever behind a pin
			t.Errorf("TimeZone of another client: %s", got)
		}
	}
}

// Postgres folds literals when it parses: what one client prepared under its TimeZone must not serve another's.
func TestPreparedLiteralsFollowTheClientsTimeZone(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 4"))
	const sql = "SELECT to_char(timestamptz '2026-01-01 00:00:00' AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"
	utc := r.connect("transaction", "alice", "timezone=UTC")
	tokyo := r.connect("transaction", "alice", "timezone=Asia/Tokyo")
	for range 3 {
		if got := r.value(utc, sql); got != "2026-01-01 00" {
			t.Errorf("in UTC: %s", got)
		}
		if got := r.value(tokyo, sql); got != "2025-12-31 15" {
			t.Errorf("in Tokyo: %s", got)
		}
	}
}

func TestTemporaryTablesLocksAndListenStayWithTheirClient(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 4"))
	a, b := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	r.exec(a, "CREATE TEMP TABLE secret AS SELECT 42 AS x")
	r.exec(a, "SELECT pg_advisory_lock(4711)")
	if _, err := b.Exec(r.ctx(), "SELECT x FROM secret"); err == nil {
		t.Error("another client sees the temporary table")
	}
	if got := r.value(b, "SELECT pg_try_advisory_lock(4711)::text"); got != "false" {
		t.Error("another client takes the same lock: it runs on the same backend")
	}
	if got := r.value(a, "SELECT x::text FROM secret"); got != "42" {
		t.Errorf("the client lost its table: %s", got)
	}
	_ = a.Close(context.Background())
	c := r.connect("transaction", "bob", "") // has no lock of its own
	r.eventually("the lock is free after its client has left", func() bool {
		return r.value(c, "SELECT pg_try_advisory_xact_lock(4711)::text") == "true"
	})

	l := r.connect("transaction", "alice", "")
	r.exec(l, "LISTEN news")
	r.exec(b, "NOTIFY news, 'hello'")
	n, err := l.WaitForNotification(r.ctx())
	if err != nil || n.Payload != "hello" {
		t.Errorf("notification: %v, %v", n, err)
	}
}

func TestSQLPreparedStatementsBelongToTheirClient(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 4"))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(a, "PREPARE p AS SELECT 'a'::text")
	r.exec(b, "PREPARE p AS SELECT 'b'::text")
	if got := r.value(a, "EXECUTE p"); got != "a" {
		t.Errorf("a's p is %q", got)
	}
	if got := r.value(b, "EXECUTE p"); got != "b" {
		t.Errorf("b's p is %q", got)
	}
	r.exec(a, "DEALLOCATE ALL")
	if got := r.value(b, "EXECUTE p"); got != "b" {
		t.Errorf("b's p is %q after a's DEALLOCATE ALL", got)
	}
}

func TestProtocolStatementsAreSeenBySQL(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	other := r.connect("transaction", "alice", "")
	if _, err := other.Prepare(r.ctx(), "others", "SELECT 'other'"); err != nil {
		t.Fatal(err)
	}
	c := r.connect("transaction", "alice", "")
	if _, err := c.Prepare(r.ctx(), "mine", "SELECT 'mine'"); err != nil {
		t.Fatal(err)
	}
	rows, err := c.Query(r.ctx(), "SELECT name FROM pg_prepared_statements WHERE name <> '' ORDER BY 1", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || fmt.Sprint(names) != "[mine]" {
		t.Errorf("pg_prepared_statements shows %v, %v; want the client's own", names, err)
	}
	r.exec(c, "DEALLOCATE mine")
	if _, err := c.Exec(r.ctx(), "mine"); sqlstate(err) != "26000" {
		t.Errorf("after DEALLOCATE: %v, want 26000", err)
	}
}

func TestSequenceValuesAreNeverSomebodyElses(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 2\nmax_pinned: 1"))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(a, "CREATE TABLE serial_test (id serial, v text)")
	r.exec(a, "INSERT INTO serial_test (v) VALUES ('a')")
	if _, err := b.Exec(r.ctx(), "SELECT lastval()"); sqlstate(err) != "55000" {
		t.Errorf("lastval without a value of its own: %v, want 55000", err)
	}
	r.exec(b, "INSERT INTO serial_test (v) VALUES ('b')")
	if got := r.value(b, "SELECT lastval()::text"); got != "2" {
		t.Errorf("lastval after an own insert: %s", got)
	}
}

// Who asks for a number gets the backend that has it, if nobody has used that since, and is told it the first time.
func TestNumberIsAskedForWhereItWasDrawn(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"simple": simple, "prepared": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, "pool_size: 2\nmax_pinned: 1"))
			table := "numbers_drawn_" + name
			a, b := r.connect("transaction", "alice", mode), r.connect("transaction", "alice", mode)
			r.exec(a, "CREATE TABLE "+table+" (id serial, v text)")
			defer r.exec(a, "DROP TABLE "+table)
			r.exec(a, "BEGIN")
			r.exec(b, "BEGIN")
			r.exec(a, "INSERT INTO "+table+" (v) VALUES ('a')")
			r.exec(a, "COMMIT")
			r.exec(b, "COMMIT") // its backend was used last
			if got := r.value(a, "SELECT lastval()::text"); got != "1" {
				t.Errorf("lastval: %s", got)
			}
		})
	}
}

// From the second time on a number that was drawn in one transaction is there in the next, whoever uses the backends meanwhile,
// and nobody is pinned in between.
func TestNumberOfAnEarlierTransactionIsThereFromTheSecondTimeOn(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"simple": simple, "prepared": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, "pool_size: 4\nmax_pinned: 3"))
			table := "numbers_" + name
			a := r.connect("transaction", "alice", mode)
			r.exec(a, "CREATE TABLE "+table+" (id serial, v text)")
			defer r.exec(a, "DROP TABLE "+table)
			var wg sync.WaitGroup
			for i := range 3 {
				c := r.connect("transaction", "alice", mode)
				wg.Go(func() { r.draw(c, table, fmt.Sprint("client ", i)) })
			}
			wg.Wait()
			r.eventually("nobody is pinned", func() bool { return r.counter("sluice_clients", `state="pinned"`) == 0 })
		})
	}
}

// draw inserts and asks for the number, each in a transaction of its own, while others do so.
func (r *rig) draw(c *pgx.Conn, table, who string) {
	ctx := r.ctx()
	for round := range 10 {
		if _, err := c.Exec(ctx, "INSERT INTO "+table+" (v) VALUES ($1)", who); err != nil {
			r.t.Errorf("%s, round %d: insert: %v", who, round, err)
			return
		}
		ask := "SELECT lastval()::text"
		if round%2 == 1 {
			ask = "SELECT currval('" + table + "_id_seq')::text"
		}
		var id, of string
		err := c.QueryRow(ctx, ask).Scan(&id)
		if round == 0 && sqlstate(err) == "55000" {
			continue
		}
		if err == nil {
			err = c.QueryRow(ctx, "SELECT v FROM "+table+" WHERE id = $1::int", id).Scan(&of)
		}
		if err != nil || of != who {
			r.t.Errorf("%s, round %d: %s is %s, of %q: %v", who, round, ask, id, of, err)
			return
		}
	}
}

// A function that changes the session is not seen in the statement that calls it, or fires it by a trigger.
func TestCodeBehindStatementsDoesNotLeak(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, "pool_size: 3\nmax_pinned: 2"))
	admin, err := pgx.Connect(r.ctx(), pg.SuperuserURL("app"))
	must(t, err)
	_, err = admin.Exec(r.ctx(), `CREATE FUNCTION public.login_as(n text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN PERFORM set_config('app.user', n, false); RETURN n; END $$`)
	must(t, err)
	_ = admin.Close(context.Background())
	a := r.connect("transaction", "alice", simple)
	if got := r.value(a, "SELECT login_as('a')"); got != "a" {
		t.Fatal(got)
	}
	b := r.connect("transaction", "alice", simple)
	for range 4 {
		if got := r.value(b, "SELECT coalesce(current_setting('app.user', true), '')"); got != "" {
			t.Fatalf("another client is %q", got)
		}
	}
	if got := r.value(a, "SELECT current_setting('app.user', true)"); got != "a" {
		t.Errorf("the client is %q", got)
	}
}

func TestStartupParametersTakeEffectInBothModes(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 4"))
	for _, mode := range modes {
		c := r.connect(mode, "alice", "application_name=my%20app&search_path=pg_catalog&statement_timeout=12345&options=-c%20work_mem%3D9MB")
		other := r.connect(mode, "alice", "")
		for sql, want := range map[string]string{
			"SHOW application_name": "my app", "SHOW search_path": "pg_catalog",
			"SHOW statement_timeout": "12345ms", "SHOW work_mem": "9MB",
		} {
			if got := r.value(c, sql); got != want {
				t.Errorf("%s: %s is %q, want %q", mode, sql, got, want)
			}
			if got := r.value(other, sql); got == want {
				t.Errorf("%s: %s leaked to another client", mode, sql)
			}
		}
		if got := c.PgConn().ParameterStatus("application_name"); got != "my app" {
			t.Errorf("%s: application_name reported as %q", mode, got)
		}
		if got := c.PgConn().ParameterStatus("client_encoding"); got != "UTF8" {
			t.Errorf("%s: client_encoding reported as %q", mode, got)
		}
		_, err := pgx.Connect(r.ctx(), r.url(mode, "alice", "work_mem=nonsense"))
		if got := sqlstate(err); got != "22023" {
			t.Errorf("%s: a bad parameter: %v, want 22023", mode, err)
		}
	}
}

func sqlstate(err error) string {
	var e *pgconn.PgError
	if asPgError(err, &e) {
		return e.Code
	}
	return ""
}

// Postgres's own functions can stand in views and defaults, where no statement shows them.
func TestCodeInViewsDoesNotLeak(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, "pool_size: 4\nmax_pinned: 3"))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(b, "SELECT 1")
	admin, err := pgx.Connect(r.ctx(), r.url("session", "alice", ""))
	must(t, err)
	r.exec(admin, "CREATE VIEW login AS SELECT set_config('app.user', 'a', false) AS name")
	_ = admin.Close(context.Background())
	r.eventually("the view is known", func() bool { return strings.Contains(r.logs.String(), "code in this database") })
	if got := r.value(a, "SELECT name FROM login"); got != "a" {
		t.Fatal(got)
	}
	for range 4 {
		if got := r.value(b, "SELECT coalesce(current_setting('app.user', true), '')"); got != "" {
			t.Fatalf("another client is %q", got)
		}
	}
}

// While new code is being read no transaction begins, so not even the next statement can use it unseen.
func TestNewCodeIsKnownBeforeTheNextTransaction(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, "pool_size: 4\nmax_pinned: 3"))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(b, "SELECT 1")
	for i := range 3 {
		r.exec(a, fmt.Sprintf(`CREATE OR REPLACE FUNCTION login(n text) RETURNS text LANGUAGE plpgsql AS $$
			BEGIN EXECUTE format('%%s app.who = %%L', 's' || 'et', n); RETURN n || %d; END $$`, i))
		if got := r.value(a, "SELECT login('a')"); got != fmt.Sprint("a", i) {
			t.Fatal(got)
		}
		for range 3 {
			if got := r.value(b, "SELECT coalesce(current_setting('app.who', true), '')"); got != "" {
				t.Fatalf("another client is %q", got)
			}
		}
	}
}
