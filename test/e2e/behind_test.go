package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// databases numbers those of the tests.
var databases atomic.Int64

// codeRig is a rig whose clients use a database of their own, with code in it.
type codeRig struct {
	*rig
	database string
	more     string // of the clients' connection strings
}

// startCode starts Sluice in front of a database of its own in the shared cluster, in which alice has run setup. extra goes
// into the tenant.
func startCode(t *testing.T, extra string, setup ...string) *codeRig {
	t.Helper()
	name := fmt.Sprint("behind", databases.Add(1))
	must(t, cluster.Exec(t.Context(), "CREATE DATABASE "+name+" OWNER alice TEMPLATE template0"))
	c, err := pgx.Connect(t.Context(), cluster.URL("alice", "alice-secret", name))
	must(t, err)
	for _, sql := range setup {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	must(t, c.Close(t.Context()))
	return &codeRig{rig: start(t, cluster, base(cluster, extra)), database: name, more: simple}
}

func (r *codeRig) client() *pgx.Conn { return r.on("transaction") }

func (r *codeRig) on(mode string) *pgx.Conn {
	r.t.Helper()
	url := strings.Replace(r.url(mode, "alice", r.more), "/app?", "/"+r.database+"?", 1)
	c, err := pgx.Connect(r.ctx(), url)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (r *codeRig) want(c *pgx.Conn, who, expression, want string) {
	r.t.Helper()
	if err := sees(r.rig, c, expression, want); err != nil {
		r.t.Errorf("%s: %v", who, err)
	}
}

// What many of the tests use.
const (
	setsUser = `CREATE FUNCTION login(n text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.who', n, false); RETURN n; END $$`
	who      = "current_setting('app.who', true)"
)

func TestClientsOfADatabaseWithCodeShareItsBackends(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{simple, "default_query_exec_mode=cache_statement", "default_query_exec_mode=exec"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := startCode(t, "pool_size: 2", setsUser, "CREATE TABLE t (a text)")
			r.more = protocol
			var wg sync.WaitGroup
			for i := range 10 {
				c, name := r.client(), fmt.Sprint("client", i)
				wg.Go(func() {
					for round := range 20 {
						if round%7 == 0 {
							if _, err := c.Exec(r.ctx(), "SELECT login($1)", name); err != nil {
								t.Error(err)
							}
						}
						if _, err := c.Exec(r.ctx(), "INSERT INTO t VALUES ($1)", name); err != nil {
							t.Error(err)
						}
						if err := sees(r.rig, c, who, name); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if n := r.counter("sluice_pins_total"); n != 0 {
				t.Errorf("%v pins, want none", n)
			}
			if n := r.counter("sluice_state_leaks_prevented_total"); n != 10 {
				t.Errorf("%v leaks prevented, want one a client", n)
			}
			t.Logf("transactions %v, questions %v, carried %v", r.counter("sluice_transactions_total"),
				r.counter("sluice_state_questions_total"), r.counter("sluice_settings_carried_total"))
		})
	}
}

func TestBeginAndCommitAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend, setsUser)
	c := r.client()
	for range 5 {
		r.exec(c, "BEGIN")
		r.exec(c, "SAVEPOINT a")
		r.exec(c, "ROLLBACK")
		r.exec(c, "SHOW work_mem")
	}
	if n := r.counter("sluice_state_questions_total"); n != 0 {
		t.Errorf("%v questions, want none", n)
	}
	r.exec(c, "BEGIN; SELECT login('a'); COMMIT")
	if n := r.counter("sluice_state_questions_total"); n != 1 {
		t.Errorf("%v questions, want 1", n)
	}
}

// TestCodeNeverLeaks has one client change its session by code, and another look, on the same backend.
func TestCodeNeverLeaks(t *testing.T) {
	t.Parallel()
	const table = "CREATE TABLE t (a text)"
	for name, tc := range map[string]struct {
		setup                 []string
		do, expression, after string
	}{
		"a function":           {[]string{setsUser}, "SELECT login('a')", who, "a"},
		"a function in SQL":    {[]string{"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.who', 'a', false) $$"}, "SELECT f()", who, "a"},
		"SET":                  {[]string{"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET App.Who = 'a'; RETURN 1; END $$"}, "SELECT f()", who, "a"},
		"a setting":            {[]string{"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '77MB'; RETURN 1; END $$"}, "SELECT f()", "current_setting('work_mem')", "77MB"},
		"a reported one":       {[]string{"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET DateStyle = 'German'; RETURN 1; END $$"}, "SELECT f()", "current_setting('DateStyle')", "German, DMY"},
		"set_config of one":    {[]string{"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('work_mem', '77MB', false) $$"}, "SELECT f()", "current_setting('work_mem')", "77MB"},
		"a function of one":    {[]string{setsUser, "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT login('a') $$"}, "SELECT f()", who, "a"},
		"a procedure":          {[]string{"CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.who', 'a', false); END $$"}, "CALL p()", who, "a"},
		"a failed transaction": {[]string{setsUser}, "BEGIN; SELECT login('a'); ROLLBACK", who, ""},
		"a trigger": {[]string{table, "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.who', NEW.a, false); RETURN NEW; END $$",
			"CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"}, "INSERT INTO t VALUES ('a')", who, "a"},
		"a trigger at COMMIT": {[]string{table, "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.who', NEW.a, false); RETURN NULL; END $$",
			"CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f()"}, "INSERT INTO t VALUES ('a')", who, "a"},
		"a default":         {[]string{setsUser, "CREATE TABLE d (a text DEFAULT login('a'), b int)"}, "INSERT INTO d (b) VALUES (1)", who, "a"},
		"a view":            {[]string{setsUser, "CREATE VIEW v AS SELECT login('a') AS a"}, "SELECT a FROM v", who, "a"},
		"a view of its own": {[]string{"CREATE VIEW v AS SELECT set_config('app.who', 'a', false) AS a"}, "SELECT a FROM v", who, "a"},
		"a constraint":      {[]string{"CREATE TABLE k (a text CHECK (set_config('app.who', a, false) = a))"}, "INSERT INTO k VALUES ('a')", who, "a"},
		"a policy": {[]string{setsUser, table, "INSERT INTO t VALUES ('a')", "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TABLE t FORCE ROW LEVEL SECURITY",
			"CREATE POLICY p ON t USING (login(a) = a)"}, "SELECT a FROM t", who, "a"},
		"an operator": {[]string{"CREATE FUNCTION f(text, text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.who', $1, false) $$",
			"CREATE OPERATOR <<<<< (FUNCTION = f, LEFTARG = text, RIGHTARG = text)"}, "SELECT 'a'::text <<<<< 'b'::text", who, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startCode(t, oneBackend, tc.setup...)
			a, b := r.client(), r.client()
			var usual string
			must(t, b.QueryRow(r.ctx(), "SELECT COALESCE("+tc.expression+", '')").Scan(&usual))
			for range 3 {
				r.exec(a, tc.do)
				r.want(b, "the other", tc.expression, usual)
				r.want(a, "the client", tc.expression, tc.after)
			}
			_ = a.Close(context.Background())
			r.want(r.client(), "a later one", tc.expression, usual)
			if n := r.counter("sluice_pins_total"); n != 0 {
				t.Errorf("%v pins, want none", n)
			}
		})
	}
}

func TestIdentityThatIsSetOnlySometimesNeverLeaks(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend, `CREATE FUNCTION perhaps(n text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
		IF random() < 0.5 THEN PERFORM set_config('app.who', n, false); RETURN true; END IF; RETURN false; END $$`)
	clients := []*pgx.Conn{r.client(), r.client()}
	model := []string{"", ""}
	for round := range 60 {
		i := round % 2
		name := fmt.Sprint("who", round)
		if r.value(clients[i], "SELECT perhaps('"+name+"')::text") == "true" {
			model[i] = name
		}
		for j, c := range clients {
			r.want(c, fmt.Sprint("client ", j), who, model[j])
		}
	}
	if r.counter("sluice_state_leaks_prevented_total") == 0 {
		t.Error("no leak was prevented")
	}
	if logged := r.logs.String(); !strings.Contains(logged, "without a word of it") || !strings.Contains(logged, "names=[app.who]") || strings.Contains(logged, "who1") {
		t.Error("the log does not name the change, or has its value")
	}
}

func TestCodeThatHoldsSomethingPinsUntilItIsGone(t *testing.T) {
	t.Parallel()
	for name, f := range map[string][2]string{
		"temp":          {"CREATE TEMP TABLE mine (a int)", "DROP TABLE mine"},
		"advisory_lock": {"PERFORM pg_advisory_lock(42)", "PERFORM pg_advisory_unlock(42)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startCode(t, twoBackends, "CREATE FUNCTION take() RETURNS int LANGUAGE plpgsql AS $$ BEGIN "+f[0]+"; RETURN 1; END $$",
				"CREATE FUNCTION give() RETURNS int LANGUAGE plpgsql AS $$ BEGIN "+f[1]+"; RETURN 1; END $$")
			c := r.client()
			r.exec(c, "SELECT take()")
			pinned := func() float64 { return r.counter("sluice_clients", `state="pinned"`) }
			r.eventually("the session is pinned", func() bool { return pinned() == 1 })
			r.exec(c, "SELECT 1")
			r.exec(c, "SELECT give()")
			r.eventually("the pin has ended", func() bool { return pinned() == 0 })
			if n := r.counter("sluice_pins_total", `reason="`+name+`"`); n != 1 {
				t.Errorf("%v pins because of %s, want 1", n, name)
			}
			if n := r.counter("sluice_state_leaks_prevented_total"); n != 1 {
				t.Errorf("%v leaks prevented, want 1", n)
			}
		})
	}
}

// TestATypeOfRangesIsNoCode: Postgres makes such a type's constructors itself, outside of pg_catalog and in no language with a source.
func TestATypeOfRangesIsNoCode(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend, "CREATE TYPE span AS RANGE (subtype = float8)")
	c := r.client()
	r.exec(c, "SELECT span(1, 2), span(1, 2, '[]'), span_multirange(), span_multirange(span(1, 2)), span_multirange(span(1, 2), span(3, 4))")
	if pins, n := r.counter("sluice_pins_total"), r.counter("sluice_state_questions_total"); pins != 0 || n != 0 {
		t.Errorf("%v pins and %v questions, want none", pins, n)
	}
}

func TestCodeThatCannotBeAskedAboutPinsToTheEnd(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]string{
		"dynamic SQL":                `CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 's' || 'et app.who = ''a'''; RETURN 1; END $$`,
		"a name that is a parameter": `CREATE FUNCTION f(n text DEFAULT 'app.who') RETURNS text LANGUAGE sql AS $$ SELECT set_config(n, 'a', false) $$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startCode(t, twoBackends, setup)
			a := r.client()
			r.exec(a, "BEGIN; COMMIT")
			if n := r.counter("sluice_pins_total"); n != 0 {
				t.Errorf("%v pins behind BEGIN, want none", n)
			}
			r.exec(a, "SELECT f()")
			r.eventually("the session is pinned", func() bool { return r.counter("sluice_clients", `state="pinned"`) == 1 })
			r.want(a, "the client", who, "a")
			_ = a.Close(context.Background())
			for range 3 {
				r.want(r.client(), "a later one", who, "")
			}
		})
	}
}

func TestCodeDoesNotFoolTheQuestion(t *testing.T) {
	t.Parallel()
	r := startCode(t, twoBackends, setsUser, "CREATE SCHEMA liar", "CREATE FUNCTION liar.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'",
		"CREATE OPERATOR liar.= (FUNCTION = liar.no, LEFTARG = text, RIGHTARG = text)",
		`CREATE FUNCTION lie() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET search_path = liar, pg_catalog; SET work_mem = '77MB'; RETURN 1; END $$`,
		`CREATE FUNCTION hurry() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET statement_timeout = 1; SET work_mem = '66MB'; RETURN 1; END $$`)
	a, b, c := r.client(), r.client(), r.client()
	r.exec(a, "SELECT public.lie()")
	for range 3 {
		r.want(b, "the other", "current_setting('work_mem')", "4MB")
		r.want(a, "the client", "current_setting('work_mem')", "77MB")
	}
	r.exec(c, "SELECT hurry()") // the timeout counts from the next statement on: the question
	for range 3 {
		r.want(b, "the other", "current_setting('work_mem')", "4MB")
		r.want(b, "the other", "current_setting('statement_timeout')", "0")
	}
}

func TestRevokedRoleOfCodeNeverReachesAnother(t *testing.T) {
	t.Parallel()
	must(t, cluster.Exec(t.Context(), "CREATE ROLE behind_reader", "GRANT behind_reader TO alice"))
	r := startCode(t, oneBackend, `CREATE FUNCTION become(n text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('role', n, false) $$`)
	a, b := r.client(), r.client()
	r.exec(a, "SELECT become('behind_reader')")
	r.want(b, "the other", "current_user", "alice")
	r.want(a, "the client", "current_user", "behind_reader")
	must(t, cluster.Exec(t.Context(), "REVOKE behind_reader FROM alice"))
	r.want(b, "the other", "current_user", "alice")
	if _, err := a.Exec(r.ctx(), "SELECT 1"); sqlstate(err) != "08006" {
		t.Errorf("got %v, want 08006", err)
	}
	r.want(b, "the other", "current_user", "alice")
}

func TestCodeThatIsReplacedInBetweenDoesNotLeak(t *testing.T) {
	t.Parallel()
	const harmless = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"
	for name, change := range map[string][]string{
		"replaced": {"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET app.who = 'a'; RETURN 1; END $$"},
		"renamed":  {"BEGIN; ALTER FUNCTION f() RENAME TO old; ALTER FUNCTION g() RENAME TO f; COMMIT"},
	} {
		for _, mode := range modes {
			t.Run(name+" in "+mode+" mode", func(t *testing.T) {
				t.Parallel()
				setup := []string{harmless, "CREATE TABLE t AS SELECT 1 AS a"}
				if name == "renamed" {
					setup = append(setup, "CREATE FUNCTION g() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET app.who = 'a'; RETURN 1; END $$")
				}
				r := startCode(t, "pool_size: 2", setup...)
				a, b, other := r.client(), r.client(), r.on(mode)
				r.exec(a, "BEGIN")
				r.exec(a, "SELECT f() FROM t") // of a table, for whose lock Postgres looks at what others have changed
				for _, sql := range change {
					r.exec(other, sql)
				}
				r.exec(a, "SELECT f() FROM t")
				r.exec(a, "COMMIT")
				for range 4 {
					r.want(b, "the other", who, "")
					r.want(a, "the client", who, "a")
				}
				if n := r.counter("sluice_pins_total"); n != 0 {
					t.Errorf("%v pins, want none", n)
				}
			})
		}
	}
}

func TestBackendsFromBeforeTheCodeAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	a, admin := r.client(), r.on("session")
	const pid = "SELECT pg_backend_pid()::text"
	before := r.value(a, pid)
	r.exec(admin, "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'")
	if now := r.value(a, pid); now != before {
		t.Error("the backend was closed for code that changes no session")
	}
	r.exec(admin, "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET app.who = 'a'; RETURN 1; END $$")
	r.eventually("the backend is replaced", func() bool { return r.value(a, pid) != before })
}

func TestCodeThatATransactionMakesForItselfDoesNotLeak(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend, "CREATE TABLE t (a int)")
	a, b := r.client(), r.client()
	r.exec(a, `BEGIN; CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN SET app.who = ''a''; RETURN 1; END'; SELECT f(); COMMIT`)
	for range 3 {
		r.want(b, "the other", who, "")
		r.want(a, "the client", who, "a")
	}
}

func TestClientThatVanishesBehindCodeTakesItsStateWithIt(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend, setsUser)
	for range 5 {
		a := r.client()
		a.PgConn().Frontend().SendQuery(&pgproto3.Query{String: "SELECT login('a')"})
		must(t, a.PgConn().Frontend().Flush())
		_ = a.PgConn().Conn().Close()
		r.want(r.client(), "a later one", who, "")
	}
}

func TestTablesUnderADefaultSearchPathOfPgTempAreNobodyElses(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"database": "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = pg_temp, public', current_database()); END $$",
		"role":     "DO $$ BEGIN EXECUTE format('ALTER ROLE alice IN DATABASE %I SET search_path = pg_temp, public', current_database()); END $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startCode(t, "pool_size: 2\nmax_pinned: 1", sql)
			a, b := r.client(), r.client()
			r.exec(a, "CREATE TABLE secret AS SELECT 1 AS x")
			for range 3 {
				r.want(b, "b", "to_regclass('secret') IS NULL", "true")
				r.want(a, "a", "(SELECT count(*) FROM secret)", "1")
			}
			r.exec(a, "DROP TABLE secret")
			r.want(b, "b", "to_regclass('secret') IS NULL", "true")
		})
	}
}
