package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/internal/throwawaypg"
)

// twoPhaseCluster starts a Postgres that can prepare transactions.
func twoPhaseCluster(t *testing.T) *throwawaypg.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := throwawaypg.Start(ctx, throwawaypg.Options{Settings: map[string]string{"max_prepared_transactions": "20", "max_connections": "100"}})
	must(t, err)
	t.Cleanup(func() { _ = pg.Stop() })
	must(t, pg.Exec(ctx,
		`CREATE ROLE alice LOGIN PASSWORD 'alice-secret'`,
		`CREATE ROLE service LOGIN PASSWORD 'service-secret' IN ROLE pg_read_all_data`,
		`GRANT SELECT ON pg_authid TO service`,
		`CREATE DATABASE app OWNER alice`,
	))
	return pg
}

// prepared is how many transactions wait for their second phase.
func (r *rig) prepared() string {
	r.t.Helper()
	return r.activity("SELECT count(*)::text FROM pg_prepared_xacts")
}

func TestTwoPhaseCommitOverSeveralLeases(t *testing.T) {
	t.Parallel()
	pg := twoPhaseCluster(t)
	r := start(t, pg, base(pg, "pool_size: 2\nsession_pool_size: 4"))
	for _, mode := range modes {
		a, b := r.connect(mode, "alice", simple), r.connect(mode, "alice", simple)
		table := "two_phase_" + mode
		r.exec(a, fmt.Sprintf("CREATE TABLE %s (x int)", table))
		rows := func(want string) {
			t.Helper()
			if got := r.value(b, "SELECT count(*)::text FROM "+table); got != want {
				t.Errorf("%s: %s rows, want %s", mode, got, want)
			}
		}
		for _, end := range []struct{ second, rows string }{{"COMMIT PREPARED", "1"}, {"ROLLBACK PREPARED", "1"}} {
			r.exec(a, "BEGIN")
			r.exec(a, fmt.Sprintf("INSERT INTO %s VALUES (1)", table))
			r.exec(a, "PREPARE TRANSACTION 'first'")
			if got := r.prepared(); got != "1" {
				t.Errorf("%s: %s prepared transactions, want 1", mode, got)
			}
			r.exec(b, "BEGIN") // and so has the backend that a had, in transaction mode
			r.exec(a, end.second+" 'first'")
			r.exec(b, "COMMIT")
			rows(end.rows)
		}
		// The client that prepared is gone when another commits.
		r.exec(a, "BEGIN")
		r.exec(a, fmt.Sprintf("INSERT INTO %s VALUES (2)", table))
		r.exec(a, "PREPARE TRANSACTION 'second'")
		_ = a.Close(context.Background())
		r.exec(b, "COMMIT PREPARED 'second'")
		rows("2")
		if _, err := b.Exec(r.ctx(), "COMMIT PREPARED 'second'"); sqlstate(err) != "42704" {
			t.Errorf("%s: a second COMMIT PREPARED: %v, want 42704", mode, err)
		}
		// One that cannot be prepared is rolled back, and its backend is clean.
		r.exec(b, "BEGIN")
		r.exec(b, fmt.Sprintf("INSERT INTO %s VALUES (3)", table))
		_, _ = b.Exec(r.ctx(), "SELECT 1/0")
		tag, err := b.Exec(r.ctx(), "PREPARE TRANSACTION 'third'")
		if err != nil || tag.String() != "ROLLBACK" {
			t.Errorf("%s: PREPARE TRANSACTION of a failed one: %v, %v, want ROLLBACK", mode, tag, err)
		}
		rows("2")
		_ = b.Close(context.Background())
	}
	r.wantNoPins()
}

// TestTwoPhaseCommitWhenBackendsAreLost ends backends before, during and behind the first phase, and Postgres itself.
func TestTwoPhaseCommitWhenBackendsAreLost(t *testing.T) {
	t.Parallel()
	pg := twoPhaseCluster(t)
	r := start(t, pg, base(pg, "pool_size: 3"))
	setup, err := pgx.Connect(r.ctx(), pg.SuperuserURL("app"))
	must(t, err)
	r.exec(setup, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1000); RETURN NULL; END $$`)
	defer setup.Close(context.Background())
	for _, mode := range modes {
		table := "lost_" + mode
		r.exec(setup, fmt.Sprintf(`CREATE TABLE %s (x int); ALTER TABLE %[1]s OWNER TO alice;
			CREATE CONSTRAINT TRIGGER late AFTER INSERT ON %[1]s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.x = 0) EXECUTE FUNCTION wait()`, table))
		kill := func(when string) {
			t.Helper()
			r.exec(setup, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice' AND "+when)
		}

		c := r.connect(mode, "alice", simple)
		r.exec(c, "BEGIN")
		r.exec(c, fmt.Sprintf("INSERT INTO %s VALUES (1)", table))
		kill("state = 'idle in transaction'")
		if _, err := c.Exec(r.ctx(), "PREPARE TRANSACTION 'early'"); err == nil {
			t.Errorf("%s: a transaction whose backend was gone has been prepared", mode)
		}

		c = r.connect(mode, "alice", simple)
		r.exec(c, "BEGIN")
		r.exec(c, fmt.Sprintf("INSERT INTO %s VALUES (0)", table))
		ended := make(chan error, 1)
		go func() {
			_, err := c.Exec(context.Background(), "PREPARE TRANSACTION 'during'")
			ended <- err
		}()
		r.eventually("it is being prepared", func() bool { return r.activity(running, "PREPARE TRANSACTION 'during'") == "1" })
		kill("state = 'active'")
		if err := <-ended; sqlstate(err) != "57P01" {
			t.Errorf("%s: killed while it prepares: %v, want 57P01", mode, err)
		}
		if got := r.prepared(); got != "0" {
			t.Errorf("%s: %s prepared transactions, want none", mode, got)
		}

		c = r.connect(mode, "alice", simple)
		r.exec(c, "BEGIN")
		r.exec(c, fmt.Sprintf("INSERT INTO %s VALUES (3)", table))
		r.exec(c, "PREPARE TRANSACTION 'behind'")
		kill("state = 'idle'")
		pg.Kill()
		must(t, pg.StartServer(r.ctx()))
		setup, err = pgx.Connect(r.ctx(), pg.SuperuserURL("app"))
		must(t, err)
		defer setup.Close(context.Background())
		r.eventually("another client commits it", func() bool {
			other, err := pgconn.Connect(r.ctx(), r.url(mode, "alice", ""))
			if err != nil {
				return false
			}
			defer other.Close(context.Background())
			_, err = other.Exec(r.ctx(), "COMMIT PREPARED 'behind'").ReadAll()
			return err == nil || sqlstate(err) == "42704" // committed when the answer was lost
		})
		if got := r.value(setup, "SELECT string_agg(x::text, ',') FROM "+table); got != "3" {
			t.Errorf("%s: the table has %s, want 3", mode, got)
		}
	}
}
