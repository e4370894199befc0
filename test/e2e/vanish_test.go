package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/proxy"
)

// vanish ends a client without a word, as a machine that loses its power does.
func vanish(t *testing.T, c *pgx.Conn) {
	t.Helper()
	tcp := c.PgConn().Conn().(*net.TCPConn)
	must(t, tcp.SetLinger(0))
	must(t, tcp.Close())
}

func TestWhatAPinnedClientHeldIsGoneWhenItVanishes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		key int // of its lock, and the number of its table
		sql []string
	}{
		"between transactions":   {7101, []string{"SELECT pg_advisory_lock(7101)", "CREATE TEMP TABLE vanish_7101 (a int)"}},
		"in a transaction":       {7102, []string{"SELECT pg_advisory_lock(7102)", "BEGIN", "CREATE TEMP TABLE vanish_7102 (a int)"}},
		"in the one that locks":  {7103, []string{"BEGIN", "SELECT pg_advisory_lock(7103)"}},
		"in one that has failed": {7104, []string{"SELECT pg_advisory_lock(7104); CREATE TEMP TABLE vanish_7104 (a int)", "BEGIN", "!SELECT 1/0"}},
		"while a statement runs": {7105, []string{"SELECT pg_advisory_lock(7105)", "CREATE TEMP TABLE vanish_7105 (a int)",
			"&SELECT pg_sleep(600) /* 7105 */"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, twoBackends))
			c := r.connect("transaction", "alice", simple)
			direct, err := pgx.Connect(r.ctx(), cluster.SuperuserURL("app"))
			must(t, err)
			defer func() { _ = direct.Close(context.Background()) }()
			for _, sql := range tc.sql {
				r.suffer(c, direct, sql)
			}
			if got := r.value(direct, fmt.Sprintf("SELECT pg_try_advisory_lock(%d)::text", tc.key)); got != "false" {
				t.Fatalf("the lock is not held: %s", got)
			}
			vanish(t, c)
			r.exec(direct, "SET lock_timeout = '25s'")
			r.exec(direct, fmt.Sprintf("SELECT pg_advisory_lock(%d)", tc.key))
			r.eventually("the table is gone", func() bool {
				return r.value(direct, fmt.Sprintf("SELECT count(*)::text FROM pg_class WHERE relname = 'vanish_%d'", tc.key)) == "0"
			})
		})
	}
}

// suffer has the client run a statement: one with a ! in front fails, one with an & is left running.
func (r *rig) suffer(c, direct *pgx.Conn, sql string) {
	r.t.Helper()
	what, sql := sql[0], strings.TrimLeft(sql, "!&")
	switch what {
	case '!':
		if _, err := c.Exec(r.ctx(), sql); err == nil {
			r.t.Fatalf("%s: no error", sql)
		}
	case '&':
		c.PgConn().Frontend().Send(&pgproto3.Query{String: sql})
		must(r.t, c.PgConn().Frontend().Flush())
		r.eventually("it runs", func() bool {
			return r.value(direct, "SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND query = $1", sql) == "1"
		})
	default:
		r.exec(c, sql)
	}
}

// A timeout would act on the backend while it waits for its next client, and on that.
func TestBackendOfAVanishedClientIsLeftNoTimeout(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	direct, err := pgx.Connect(r.ctx(), cluster.SuperuserURL("app"))
	must(t, err)
	defer func() { _ = direct.Close(context.Background()) }()
	c := r.connect("transaction", "alice", simple)
	r.exec(c, "SET lock_timeout = '7107s'")
	pid := r.value(c, "SELECT pg_backend_pid()::text")
	r.suffer(c, direct, "&SELECT pg_sleep(600) /* 7107 */")
	vanish(t, c)
	r.eventually("the timeout is undone", func() bool {
		return r.value(direct, "SELECT count(*)::text FROM pg_stat_activity WHERE pid::text = $1 AND state = 'idle' AND query LIKE '%set_config%'", pid) == "1"
	})
}

func TestPinsAndQuestionsAreShown(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	c := r.connect("transaction", "alice", "application_name=nightly&"+simple)
	r.exec(c, "SET work_mem = '5MB'; SELECT 'hush', pg_advisory_lock(7106)")
	r.eventually("it is pinned", func() bool { return r.counter("sluice_pinned_clients", `reason="advisory_lock"`) == 1 })
	var shown []proxy.Pinned
	for _, p := range r.srv.Status().Tenants[0].Pools {
		shown = append(shown, p.Pinned...)
	}
	if len(shown) != 1 || shown[0].Role != "alice" || shown[0].Application != "nightly" || shown[0].Reason != "advisory_lock" ||
		shown[0].Statement != "SET work_mem = ?; SELECT ?, pg_advisory_lock(?)" || shown[0].Seconds < 0 {
		t.Errorf("/status shows %+v", shown)
	}
	r.exec(c, "SELECT pg_advisory_unlock(7106)")
	r.eventually("the pin has ended", func() bool { return r.counter("sluice_pinned_clients") == 0 })
	if n, s, pinned := r.counter("sluice_state_questions_total"), r.counter("sluice_state_question_seconds_total"),
		r.counter("sluice_pinned_seconds_total", `reason="advisory_lock"`); n != 2 || s <= 0 || pinned <= 0 {
		t.Errorf("%v questions in %v s, pinned for %v s; want 2, and more than nothing", n, s, pinned)
	}
	if log := r.logs.String(); !strings.Contains(log, "take it with pg_advisory_xact_lock") || strings.Contains(log, "hush") {
		t.Errorf("no suggestion in the log, or a literal:\n%s", log)
	}
}
