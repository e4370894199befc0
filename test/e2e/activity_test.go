package e2e

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shown returns the application_name with which Postgres shows what c runs.
func (r *rig) shown(c *pgx.Conn) string {
	r.t.Helper()
	return r.value(c, "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
}

func TestApplicationNameShowsInPgStatActivity(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction"} {
		r := start(t, cluster, base(cluster, "pool_size: 1\nsession_pool_size: 3"))
		web, worker := r.connect(mode, "alice", "application_name=web"), r.connect(mode, "alice", "application_name=worker")
		for range 2 {
			if got := r.shown(web); got != "web" {
				t.Errorf("%s port: what web runs is shown as %q", mode, got)
			}
			if got := r.shown(worker); got != "worker" {
				t.Errorf("%s port: what worker runs is shown as %q", mode, got)
			}
		}
		r.exec(worker, "SET application_name = 'another'")
		if got := r.shown(web) + " " + r.shown(worker); got != "web another" {
			t.Errorf("%s port: behind SET they are shown as %q", mode, got)
		}
	}
}

func TestAddressShowsInPgStatActivity(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction"} {
		r := start(t, cluster, base(cluster, "pool_size: 1\nsession_pool_size: 3\napplication_name_add_address: true"))
		named, long, nameless := r.connect(mode, "alice", "application_name=web"),
			r.connect(mode, "alice", "application_name="+fmt.Sprintf("%063d", 0)), r.connect(mode, "alice", "")
		for range 2 {
			for c, name := range map[*pgx.Conn]string{named: "web - ", long: fmt.Sprintf("%063d", 0), nameless: ""} {
				addr := c.PgConn().Conn().LocalAddr().String()
				want := name + addr
				if c == long {
					want = name[:63-len(" - "+addr)] + " - " + addr
				}
				if got := r.shown(c); got != want {
					t.Errorf("%s port: shown as %q, want %q", mode, got, want)
				}
				if got := c.PgConn().ParameterStatus("application_name"); len(got) > 0 && got != name && got+" - " != name {
					t.Errorf("%s port: the client knows the name %q", mode, got)
				}
			}
		}
		r.exec(named, "SET application_name = 'mine'")
		if got := r.shown(named); got != "mine" {
			t.Errorf("%s port: shown as %q behind SET, want what the client has set", mode, got)
		}
		r.exec(named, "RESET application_name")
		want := "web" // as Postgres has it from the login
		if mode == "transaction" {
			want += " - " + named.PgConn().Conn().LocalAddr().String()
		}
		if got := r.shown(named); got != want {
			t.Errorf("%s port: shown as %q behind RESET, want %q", mode, got, want)
		}
	}
}

func TestBackendEndsItself(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction"} {
		r := start(t, cluster, base(cluster, "pool_size: 2"))
		c := r.connect(mode, "alice", "")
		_, err := c.Exec(r.ctx(), "SELECT pg_terminate_backend(pg_backend_pid())")
		if code := sqlstate(err); code != "57P01" {
			t.Errorf("%s port: got %v, want Postgres's 57P01", mode, err)
		}
		if got := r.value(r.connect(mode, "alice", ""), "SELECT 'fine'"); got != "fine" {
			t.Errorf("%s port: got %q behind it", mode, got)
		}
	}
}

func TestPIDOfTheTransactionPortIsNoProcess(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 2"))
	c := r.connect("transaction", "alice", "")
	if pid := c.PgConn().PID(); pid <= 4194304 {
		t.Errorf("the client was told %d, which may be the pid of a process", pid)
	}
	if got := r.value(c, "SELECT (pg_backend_pid() <= 4194304)::text"); got != "true" {
		t.Error("pg_backend_pid() is not that of a process")
	}
	s := r.connect("session", "alice", "")
	if got := r.value(s, "SELECT pg_backend_pid()::text"); got != fmt.Sprint(s.PgConn().PID()) {
		t.Errorf("session port: pg_backend_pid() is %s, but the client was told %d", got, s.PgConn().PID())
	}
}
