package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// newYear shows in which time zone its literal was read.
const newYear = "SELECT to_char(timestamptz '2026-01-01 00:00:00' AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"

// sets runs sql outside of pgx's cache of statements.
func (r *rig) sets(c *pgx.Conn, sql string) {
	r.t.Helper()
	if _, err := c.PgConn().Exec(r.ctx(), sql).ReadAll(); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func (r *rig) prepare(c *pgx.Conn, sql string) {
	r.t.Helper()
	if _, err := c.Prepare(r.ctx(), "q", sql); err != nil {
		r.t.Fatalf("prepare %s: %v", sql, err)
	}
}

func TestStatementsAreNotSharedBetweenTimeZones(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	a, b := r.connect("transaction", "alice", "timezone=UTC"), r.connect("transaction", "alice", "timezone=UTC")
	holder := r.connect("transaction", "alice", "timezone=UTC&"+simple)
	r.prepare(a, newYear)
	r.sets(a, "SET TimeZone = 'Asia/Tokyo'")
	r.exec(holder, "BEGIN") // on the backend that has the statement
	r.value(a, "q")
	r.prepare(b, newYear)
	if got := r.value(b, "q"); got != "2026-01-01 00" {
		t.Errorf("a client in UTC got %s", got)
	}
}

func TestAFunctionsLocalSettingDoesNotReachOthersStatements(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	a, b := r.connect("transaction", "alice", "timezone=UTC"), r.connect("transaction", "alice", "timezone=UTC")
	r.sets(a, "CREATE FUNCTION public.crossing_tz(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('TimeZone', $1, true); END $$")
	defer r.sets(a, "DROP FUNCTION public.crossing_tz(text)")
	r.sets(a, "BEGIN")
	r.sets(a, "SELECT public.crossing_tz('Asia/Tokyo')")
	r.prepare(a, newYear)
	r.sets(a, "COMMIT")
	r.prepare(b, newYear)
	if got := r.value(b, "q"); got != "2026-01-01 00" {
		t.Errorf("a client in UTC got %s", got)
	}
}

func TestWhatOneClientSetsDoesNotFoldIntoAnothersPlan(t *testing.T) {
	t.Parallel()
	for set, sql := range map[string]string{
		"SET bytea_output = 'escape'":             "SELECT 'abc'::bytea::text",
		"SET extra_float_digits = -10":            "SELECT (0.1::float8/3)::text",
		"SET timezone_abbreviations = 'India'":    "SELECT ('2024-01-01 12:00 IST'::timestamptz AT TIME ZONE 'UTC')::text",
		"SET search_path = crossing_none, public": "SELECT current_schemas(false)::text",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, oneBackend))
			a, b := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
			var want string
			must(t, b.QueryRow(r.ctx(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&want))
			r.sets(a, set)
			r.prepare(a, sql)
			r.value(a, "q")
			r.prepare(b, sql)
			if got := r.value(b, "q"); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestTablesMadeInATemporarySearchPathStayWithTheirClient(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	for name, a := range map[string]*pgx.Conn{
		"set":      r.connect("transaction", "alice", simple),
		"start-up": r.connect("transaction", "alice", "search_path=pg_temp,public&"+simple),
	} {
		t.Run(name, func(t *testing.T) {
			r.exec(a, "SET search_path = pg_temp, public")
			r.exec(a, "CREATE TABLE crossing_secret AS SELECT 'mine' AS x")
			b := r.connect("transaction", "alice", simple)
			var got string
			if err := b.QueryRow(r.ctx(), "SELECT x FROM crossing_secret").Scan(&got); sqlstate(err) != "42P01" {
				t.Errorf("another client got %q, %v", got, err)
			}
			_ = a.Close(context.Background())
		})
	}
}

func TestRoleThatIsTheDefaultIsCarried(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(t.Context(), "CREATE ROLE owner", "GRANT owner TO alice", "ALTER ROLE alice SET role = 'owner'"))
	r := start(t, pg, base(pg, oneBackend))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(a, "SET ROLE none")
	for range 2 {
		if got := r.value(b, "SELECT current_user::text"); got != "owner" {
			t.Errorf("the other client is %s, want owner", got)
		}
		if got := r.value(a, "SELECT current_user::text"); got != "alice" {
			t.Errorf("the client is %s, want alice", got)
		}
	}
}

func TestLongNameOfACustomSettingDoesNotLeak(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	long := strings.Repeat("x", 70)
	r.exec(a, "SET app."+long+" = 'secret'")
	var got *string
	must(t, b.QueryRow(r.ctx(), "SELECT current_setting('app."+long[:63]+"', true)").Scan(&got))
	if got != nil && *got != "" {
		t.Errorf("another client sees %q", *got)
	}
}

func TestGoodbyeBehindACarriedRoleLetsTheStatementRun(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(t.Context(), "CREATE ROLE reader", "GRANT reader TO alice"))
	r := start(t, pg, base(pg, oneBackend))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(b, "CREATE TABLE ran (x text)")
	r.exec(b, "GRANT ALL ON ran TO public")
	r.exec(a, "SET ROLE reader")
	r.value(b, "SELECT 1::text")
	h, err := a.PgConn().Hijack()
	must(t, err)
	sql := "INSERT INTO ran VALUES ('x')\x00"
	msg := append([]byte{'Q', 0, 0, 0, byte(4 + len(sql))}, sql...)
	_, err = h.Conn.Write(append(msg, 'X', 0, 0, 0, 4))
	must(t, err)
	_ = h.Conn.Close()
	r.eventually("the row is there", func() bool { return r.value(b, "SELECT count(*)::text FROM ran") == "1" })
}
