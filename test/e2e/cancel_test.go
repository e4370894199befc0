package e2e

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Sessions whose settings differ share one backend, so that every transaction begins with what Sluice injects, and many end with a
// question. Cancel requests come from the moment when a statement is sent, at whatever it meets, to the one when it has ended.
func TestCancelsMeetNothingButTheirStatement(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	channel := channelOf(t)
	hears := r.connect("session", "bob", "")
	r.exec(hears, "LISTEN "+channel)
	other := r.connect("transaction", "alice", "")
	r.exec(other, "LISTEN "+channel) // so that who notifies is said in front of that
	r.exec(other, "SET app.who = 'other'")
	c := r.connect("transaction", "alice", "")
	r.exec(c, "SET app.who = 'c'")

	done, quiet := make(chan struct{}), make(chan error, 1)
	go func() {
		ctx, err := context.Background(), error(nil)
		for err == nil {
			select {
			case <-done:
				quiet <- nil
				return
			default:
				_, err = other.Exec(ctx, "SELECT current_setting('app.who')")
			}
		}
		quiet <- err
	}()
	for range 5 {
		for _, sql := range []string{
			"SELECT pg_sleep(600)", "SELECT pg_sleep($1)", "SET app.x = 1; SELECT pg_sleep(600)", "NOTIFY " + channel + "; SELECT pg_sleep(600)",
			"BEGIN; NOTIFY " + channel + "; COMMIT; SELECT pg_sleep(600)",
		} {
			r.cancelled(c, sql)
			if got := r.value(c, "SELECT current_setting('app.who')"); got != "c" {
				t.Fatalf("behind %s app.who is %q", sql, got)
			}
		}
	}
	close(done)
	if err := <-quiet; err != nil {
		t.Errorf("somebody else's statement: %v", err)
	}
}

// cancelled runs a statement that takes long, and cancels it until it ends.
func (r *rig) cancelled(c *pgx.Conn, sql string) {
	r.t.Helper()
	ctx, ended := r.ctx(), make(chan error, 1)
	go func() {
		var args []any
		if sql == "SELECT pg_sleep($1)" {
			args = append(args, 600)
		}
		_, err := c.Exec(ctx, sql, args...)
		ended <- err
	}()
	for {
		must(r.t, c.PgConn().CancelRequest(ctx))
		select {
		case err := <-ended:
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" || e.Severity != "ERROR" {
				r.t.Fatalf("%s: %v", sql, err)
			}
			return
		default:
		}
	}
}

// lockOut has whoever looks for the text search configuration german wait until release is called.
func (r *rig) lockOut() (release func()) {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), r.pg.SuperuserURL("app"))
	must(r.t, err)
	r.exec(c, "UPDATE pg_catalog.pg_ts_config SET cfgname = cfgname WHERE cfgname = 'german'") // so that nobody has it in its cache
	r.exec(c, "BEGIN; LOCK TABLE pg_catalog.pg_ts_config")
	return func() { must(r.t, c.Close(context.Background())) }
}

func TestCancelWaitsForSettingsThatAreCarried(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, oneBackend))
	other, c := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	const german = "pg_catalog.german"
	r.exec(c, "SET default_text_search_config = '"+german+"'")
	for range 3 { // they are set first, then they share the write with the statement
		r.exec(other, "SELECT 1")
		release, ctx := r.lockOut(), r.ctx()
		ended, cancelled := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := c.Exec(ctx, "SELECT pg_sleep(600)")
			ended <- err
		}()
		r.eventually("the settings are on their way", func() bool {
			return r.activity("SELECT count(*)::text FROM pg_locks WHERE NOT granted") == "1"
		})
		go func() { cancelled <- c.PgConn().CancelRequest(ctx) }()
		must(t, r.connect("session", "bob", "").Close(ctx)) // meanwhile the request arrives
		release()
		if e, ok := errors.AsType[*pgconn.PgError](<-ended); !ok || e.Code != "57014" || e.Severity != "ERROR" {
			t.Fatalf("the statement ends with %v", e)
		}
		must(t, <-cancelled)
		if got := r.value(c, "SHOW default_text_search_config"); got != german {
			t.Errorf("default_text_search_config is %s", got)
		}
	}
}
