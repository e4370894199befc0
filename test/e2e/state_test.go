package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// twoBackends is a tenant whose transactions land on one of two backends.
const twoBackends = "pool_size: 2\nmax_pinned: 1"

// crowd has n clients of the transaction port do something at a time, each several times, so that they change backends.
func (r *rig) crowd(n int, f func(i, round int, c *pgx.Conn) error) {
	r.t.Helper()
	conns := make([]*pgx.Conn, n)
	for i := range conns {
		conns[i] = r.connect("transaction", "alice", simple)
	}
	for round := range 6 {
		var wg sync.WaitGroup
		for i, c := range conns {
			wg.Go(func() {
				if err := f(i, round, c); err != nil {
					r.t.Errorf("client %d, round %d: %v", i, round, err)
				}
			})
		}
		wg.Wait()
	}
}

// sees checks the value of an expression.
func sees(r *rig, c *pgx.Conn, expression, want string) error {
	var got string
	if err := c.QueryRow(r.ctx(), "SELECT COALESCE(("+expression+")::text, '')").Scan(&got); err != nil {
		return fmt.Errorf("%s: %w", expression, err)
	}
	if got != want {
		return fmt.Errorf("%s is %q, want %q", expression, got, want)
	}
	return nil
}

func TestSettingsAreCarriedWithoutAPin(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ set, expression, want string }{
		"SET":                  {"SET work_mem = '%dMB'", "current_setting('work_mem')", "%dMB"},
		"set_config":           {"SELECT set_config('work_mem', '%dMB', false)", "current_setting('work_mem')", "%dMB"},
		"a custom setting":     {"SET app.user_id = 'u%d'", "current_setting('app.user_id', true)", "u%d"},
		"quotes":               {"SELECT set_config('app.q', 'it''s \"%d\"', false)", "current_setting('app.q', true)", `it's "%d"`},
		"search_path":          {"SET search_path = 's%d', public", "current_setting('search_path')", "s%d, public"},
		"a setting in a block": {"BEGIN; SET LOCAL work_mem = '99MB'; SET work_mem = '%dMB'; COMMIT", "current_setting('work_mem')", "%dMB"},
		"a savepoint": {"BEGIN; SET work_mem = '%dMB'; SAVEPOINT s; SET work_mem = '99MB'; ROLLBACK TO s; COMMIT",
			"current_setting('work_mem')", "%dMB"},
		"statement_timeout": {"SET statement_timeout = '10%d s'", "current_setting('statement_timeout')", "10%ds"},
		"reported":          {"SET IntervalStyle = iso_8601; SET app.n = '%d'", "current_setting('IntervalStyle') || current_setting('app.n')", "iso_8601%d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, twoBackends))
			fill := func(format string, i int) string { return strings.ReplaceAll(format, "%d", fmt.Sprint(i+1)) }
			r.crowd(6, func(i, round int, c *pgx.Conn) error {
				if i%2 == 0 {
					if round == 0 {
						_, err := c.Exec(r.ctx(), fill(tc.set, i))
						return err
					}
					return sees(r, c, tc.expression, fill(tc.want, i))
				}
				var got *string // of one that sets nothing
				if err := c.QueryRow(r.ctx(), "SELECT "+tc.expression).Scan(&got); err != nil && sqlstate(err) != "42704" {
					return err
				}
				for other := 0; got != nil && other < 6; other += 2 {
					if *got == fill(tc.want, other) {
						return fmt.Errorf("it sees %q", *got)
					}
				}
				return nil
			})
			if n := r.counter("sluice_pins_total"); n != 0 {
				t.Errorf("%v pins, want none", n)
			}
		})
	}
}

func TestSettingsWhoseNamesAreBoundAreCarried(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "exec"} {
		r := start(t, cluster, base(cluster, oneBackend))
		conns := []*pgx.Conn{r.connect("transaction", "alice", "default_query_exec_mode="+mode), r.connect("transaction", "alice", simple)}
		for i, name := range []string{"app.first", "app.second", "work_mem"} {
			r.exec(conns[0], "SELECT set_config($1, $2, false)", name, fmt.Sprintf("%dMB", 10+i))
			for round := range 4 {
				want := []string{fmt.Sprintf("%dMB", 10+i), ""}[round%2]
				if name == "work_mem" && want == "" {
					want = "4MB"
				}
				if err := sees(r, conns[round%2], "current_setting('"+name+"', true)", want); err != nil {
					t.Errorf("%s, client %d: %v", mode, round%2, err)
				}
			}
		}
		if n := r.counter("sluice_pins_total"); n != 0 {
			t.Errorf("%s: %v pins, want none", mode, n)
		}
	}
}

func TestResetGoesBackToTheClientsOwnStart(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	c := r.connect("transaction", "alice", "work_mem=5MB&"+simple)
	for _, step := range []struct{ sql, want string }{
		{"SELECT 1", "5MB"}, {"SET work_mem = '7MB'", "7MB"}, {"RESET work_mem", "5MB"}, {"SET work_mem = '8MB'", "8MB"},
		{"RESET ALL", "5MB"}, {"BEGIN; SET work_mem = '9MB'; ROLLBACK", "5MB"}, {"SET work_mem TO DEFAULT", "5MB"},
	} {
		r.exec(c, step.sql)
		if got := r.value(c, "SHOW work_mem"); got != step.want {
			t.Errorf("behind %q work_mem is %s, want %s", step.sql, got, step.want)
		}
	}
}

func TestResetGoesBackToTheClientsOwnApplicationName(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	a, b := r.connect("transaction", "alice", "application_name=mine&"+simple), r.connect("transaction", "alice", simple)
	for _, step := range []struct{ sql, want string }{
		{"SET application_name = 'other'", "other"}, {"RESET application_name", "mine"}, {"SET application_name = 'other'", "other"},
		{"SET application_name TO DEFAULT", "mine"}, {"SET application_name = 'other'", "other"},
		{"RESET ALL", "mine"}, {"SET application_name = 'another'", "another"}, {"BEGIN; RESET ALL; COMMIT", "mine"},
		{"BEGIN; SET application_name = 'other'; ROLLBACK", "mine"}, {"SET application_name = 'other'", "other"},
		{"SELECT pg_advisory_lock(7201); RESET ALL", "mine"},
	} {
		r.exec(a, step.sql)
		for range 2 {
			if got := r.value(a, "SHOW application_name"); got != step.want || a.PgConn().ParameterStatus("application_name") != step.want {
				t.Errorf("behind %q: %q, reported %q, want %q", step.sql, got, a.PgConn().ParameterStatus("application_name"), step.want)
			}
			if got := r.value(b, "SHOW application_name"); got != "" {
				t.Errorf("the other client's is %q", got)
			}
		}
	}
}

func TestSeedIsNotSharedWithOthers(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"SET seed = 0.25", "BEGIN; SET LOCAL seed = 0.25; COMMIT", "SELECT set_config('seed', '0.25', true)"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, twoBackends))
			a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
			r.exec(a, set)
			first := r.value(a, "SELECT pg_backend_pid()::text")
			if got := r.value(b, "SELECT pg_backend_pid()::text"); got == first {
				t.Error("another client has the backend on which the seed was set")
			}
			if got := r.value(a, "SELECT pg_backend_pid()::text"); got != first {
				t.Errorf("the client is on backend %s, the seed on %s", got, first)
			}
		})
	}
}

func TestParameterStatusStaysTrueForEachClient(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	usual := b.PgConn().ParameterStatus("TimeZone")
	r.exec(a, "SET TimeZone = 'Asia/Tokyo'")
	for range 3 {
		for c, want := range map[*pgx.Conn]string{a: "Asia/Tokyo", b: usual} {
			if got := r.value(c, "SHOW TimeZone"); got != want || c.PgConn().ParameterStatus("TimeZone") != want {
				t.Errorf("TimeZone is %s, reported %s, want %s", got, c.PgConn().ParameterStatus("TimeZone"), want)
			}
		}
	}
	r.exec(a, "SET application_name = 'mine'")
	if got := r.value(b, "SHOW application_name"); got == "mine" {
		t.Error("another client's application_name")
	}
	if got := r.value(a, "SHOW application_name"); got != "mine" {
		t.Errorf("application_name is %q, want mine", got)
	}
}

func TestRolesAreCarried(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(t.Context(), "CREATE ROLE reader", "CREATE ROLE writer", "GRANT reader, writer TO alice"))
	r := start(t, pg, base(pg, twoBackends))
	r.crowd(4, func(i, round int, c *pgx.Conn) error {
		role := []string{"reader", "writer", "alice", "alice"}[i]
		if round == 0 && role != "alice" {
			_, err := c.Exec(r.ctx(), "SET ROLE "+role)
			return err
		}
		return sees(r, c, "current_user", role)
	})
	if n := r.counter("sluice_pins_total"); n != 0 {
		t.Errorf("%v pins, want none", n)
	}
}

func TestRevokedRoleEndsTheSessionInsteadOfRunningAsSomebodyElse(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(t.Context(), "CREATE ROLE reader", "GRANT reader TO alice", "CREATE TABLE ran (as_role text)", "GRANT ALL ON ran TO public"))
	r := start(t, pg, base(pg, oneBackend))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(a, "SET ROLE reader")
	r.value(b, "SELECT 1::text")
	must(t, pg.Exec(t.Context(), "REVOKE reader FROM alice"))
	if _, err := a.Exec(r.ctx(), "SELECT current_user"); sqlstate(err) != "08006" {
		t.Errorf("got %v, want 08006", err)
	}
	if got := r.value(b, "SELECT current_user::text"); got != "alice" {
		t.Errorf("the other client is %s", got)
	}
}

func TestPinsEndWhenNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ take, give string }{
		"temporary table":       {"CREATE TEMP TABLE t (a int)", "DROP TABLE t"},
		"ON COMMIT DROP":        {"BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP", "COMMIT"},
		"advisory lock":         {"SELECT pg_advisory_lock(4711)", "SELECT pg_advisory_unlock(4711)"},
		"cursor":                {"BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "CLOSE c"},
		"what asyncpg does":     {"SELECT pg_advisory_lock(4712)", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"},
		"a function of pg_temp": {"CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION pg_temp.f()"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, twoBackends))
			a := r.connect("transaction", "alice", simple)
			r.exec(a, tc.take)
			pinned := func() float64 { return r.counter("sluice_clients", `state="pinned"`) }
			if name != "ON COMMIT DROP" {
				r.eventually("the session is pinned", func() bool { return pinned() == 1 })
			}
			r.exec(a, tc.give)
			r.eventually("the pin has ended", func() bool { return pinned() == 0 })
			pid := r.value(a, "SELECT pg_backend_pid()::text")
			b := r.connect("transaction", "alice", simple)
			if got := r.value(b, "SELECT pg_backend_pid()::text"); got != pid {
				t.Errorf("the backend %s is not lent to others, who get %s", pid, got)
			}
		})
	}
}

func TestQuestionIsNotFooled(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	defer r.exec(b, "DROP SCHEMA liar CASCADE")
	r.exec(b, "CREATE SCHEMA liar")
	r.exec(b, "CREATE FUNCTION liar.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'")
	r.exec(b, "CREATE OPERATOR liar.= (FUNCTION = liar.no, LEFTARG = text, RIGHTARG = text)")
	r.exec(a, "SET search_path = liar, pg_catalog")
	r.exec(a, "SET work_mem = '77MB'")
	for range 4 {
		if got := r.value(b, "SHOW work_mem"); got == "77MB" {
			t.Fatal("the setting leaked")
		}
		if got := r.value(a, "SHOW work_mem"); got != "77MB" {
			t.Fatalf("the setting is lost: %s", got)
		}
	}
}

// TestQuestionIsImmuneToStatementTimeout has clients set the shortest timeout that there is, which strikes most questions:
// their sessions are not pinned, and lose nothing.
func TestQuestionIsImmuneToStatementTimeout(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	b := r.connect("transaction", "alice", simple)
	for i := range 4 {
		c := r.connect("transaction", "alice", simple)
		r.exec(c, fmt.Sprintf("SET work_mem = '%dMB'; SET statement_timeout = 1", 60+i))
		r.eventually("nobody is pinned", func() bool { return r.counter("sluice_clients", `state="pinned"`) == 0 })
		for range 4 {
			for sql, want := range map[string]string{"SHOW work_mem": "4MB", "SHOW statement_timeout": "0"} {
				if got := r.value(b, sql); got != want {
					t.Fatalf("another's %s: got %s, want %s", sql, got, want)
				}
			}
		}
		for { // its own timeout may strike the client
			var got string
			err := c.QueryRow(r.ctx(), "SELECT current_setting('work_mem') || current_setting('statement_timeout')").Scan(&got)
			if sqlstate(err) == "57014" {
				continue
			}
			if want := fmt.Sprintf("%dMB1ms", 60+i); err != nil || got != want {
				t.Fatalf("the client's: got %s, %v, want %s", got, err, want)
			}
			break
		}
	}
	t.Logf("%v questions failed", r.counter("sluice_state_questions_failed_total"))
}

// TestRandomStateNeverCrosses has clients set, reset and look at random from a printed seed, and compares what each sees
// with a model of its own.
func TestRandomStateNeverCrosses(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 4"))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for i := range 12 {
		c := r.connect("transaction", "alice", simple)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { r.wander(c, rng, i) })
	}
	wg.Wait()
	t.Logf("transactions %v, pins %v", r.counter("sluice_transactions_total"), r.counter("sluice_pins_total"))
}

// wander runs random transactions that set something and checks after each what the client sees.
func (r *rig) wander(c *pgx.Conn, rng *rand.Rand, client int) {
	names := []string{"work_mem", "search_path", "app.who", "TimeZone", "statement_timeout"}
	usual := map[string]string{}
	look := func() map[string]string {
		seen := map[string]string{}
		var values []*string
		err := c.QueryRow(r.ctx(), `SELECT ARRAY[current_setting('work_mem'), current_setting('search_path'),
			NULLIF(current_setting('app.who', true), ''), current_setting('TimeZone'), current_setting('statement_timeout')]`).Scan(&values)
		if err != nil {
			r.t.Errorf("client %d: %v", client, err)
			return nil
		}
		for i, v := range values {
			if v != nil {
				seen[names[i]] = *v
			} else {
				seen[names[i]] = ""
			}
		}
		return seen
	}
	for k, v := range look() {
		usual[k] = v
	}
	model := map[string]string{}
	for k, v := range usual {
		model[k] = v
	}
	for step := range 60 {
		name := names[rng.IntN(len(names))]
		value := map[string]string{
			"work_mem": fmt.Sprintf("%dMB", 10+client), "search_path": fmt.Sprintf("s%d, public", client), "app.who": fmt.Sprintf("who%d", client),
			"TimeZone": []string{"Asia/Tokyo", "America/Lima", "Africa/Cairo"}[rng.IntN(3)], "statement_timeout": fmt.Sprintf("%ds", 100+client),
		}[name]
		set := fmt.Sprintf("SELECT set_config('%s', '%s', false)", name, value)
		sql, after := set, value
		switch rng.IntN(7) {
		case 0:
			sql, after = "RESET "+name, usual[name]
		case 1:
			sql, after = "BEGIN; "+set+"; ROLLBACK", model[name]
		case 2:
			sql = "BEGIN; " + set + "; COMMIT"
		case 3:
			sql, after = "BEGIN; SAVEPOINT a; "+set+"; ROLLBACK TO a; COMMIT", model[name]
		case 4:
			sql, after = "BEGIN; "+strings.Replace(set, "false", "true", 1)+"; COMMIT", model[name]
		case 5:
			sql, after = "SELECT 1", model[name]
		}
		if _, err := c.Exec(r.ctx(), sql); err != nil {
			r.t.Errorf("client %d, step %d, %s: %v", client, step, sql, err)
			return
		}
		model[name] = after
		for k, got := range look() {
			if got != model[k] {
				r.t.Errorf("client %d, step %d, behind %q: %s is %q, want %q", client, step, sql, k, got, model[k])
				return
			}
		}
	}
}
