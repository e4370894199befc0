package e2e

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// protocols are how a client runs a statement: in both it is one write.
var protocols = map[string]func(ctx context.Context, c *pgx.Conn, sql string) error{
	"simple": func(ctx context.Context, c *pgx.Conn, sql string) error {
		return c.PgConn().Exec(ctx, sql).Close()
	},
	"extended": func(ctx context.Context, c *pgx.Conn, sql string) error {
		_, err := c.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close()
		return err
	},
}

// proven returns a client whose session has set something that has been carried to the one backend, and another without
// settings that had it last: what the first one sends next shares the write with what carries its settings.
func proven(r *rig, set string) (setting, plain *pgx.Conn) {
	setting, plain = r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple+"&application_name=plain")
	r.exec(setting, set)
	for range 2 {
		r.exec(plain, "SELECT 1")
		r.exec(setting, "SELECT 1")
	}
	r.exec(plain, "SELECT 1")
	return setting, plain
}

// TestNothingRunsBehindASettingThatFails has a value fail that Postgres has accepted before.
func TestNothingRunsBehindASettingThatFails(t *testing.T) {
	t.Parallel()
	for name, run := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg := ownCluster(t)
			r := start(t, pg, base(pg, oneBackend))
			owner := r.connect("session", "alice", simple)
			r.exec(owner, "CREATE TABLE ran (n int); CREATE TEXT SEARCH CONFIGURATION mine (COPY = pg_catalog.simple)")
			a, b := proven(r, "SET default_text_search_config = 'public.mine'")
			c, _ := proven(r, "SET default_text_search_config = 'public.mine'; SET app.c = 'c'")
			r.exec(owner, "DROP TEXT SEARCH CONFIGURATION mine")
			if err := run(r.ctx(), a, "INSERT INTO ran VALUES (1)"); sqlstate(err) != "08006" {
				t.Errorf("got %v, want 08006", err)
			}
			r.exec(b, "SELECT 1")
			pipeline := c.PgConn().StartPipeline(r.ctx()) // several requests at once
			for range 3 {
				pipeline.SendQueryParams("INSERT INTO ran VALUES (2)", nil, nil, nil, nil)
				pipeline.SendPipelineSync()
			}
			if err := pipeline.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := pipeline.GetResults(); sqlstate(err) != "08006" {
				t.Errorf("a pipeline got %v, want 08006", err)
			}
			_ = pipeline.Close()
			if got := r.value(owner, "SELECT count(*)::text FROM ran"); got != "0" {
				t.Errorf("%s statements have run without their settings", got)
			}
			if got := r.value(b, "SHOW default_text_search_config"); got == "public.mine" {
				t.Error("another client's setting")
			}
		})
	}
}

// TestWhatSharesTheWriteIsATransactionOfItsOwn has what comes first behind it be what is sensitive to a transaction that is
// open already.
func TestWhatSharesTheWriteIsATransactionOfItsOwn(t *testing.T) {
	t.Parallel()
	const value = "COALESCE(current_setting('app.tenant', true), '')"
	r := start(t, cluster, base(cluster, oneBackend))
	owner := r.connect("session", "alice", simple)
	r.exec(owner, "CREATE TABLE sharing (n int)")
	defer r.exec(owner, "DROP TABLE sharing")
	for protocol, run := range protocols {
		a, b := proven(r, "SELECT set_config('app.tenant', 'mine', false), set_config('default_transaction_isolation', 'serializable', false)")
		for _, tc := range []struct {
			run  []string
			code string // of the first one
		}{
			{[]string{"SELECT 1/0"}, "22012"},
			{[]string{"SELEC"}, "42601"},
			{[]string{"VACUUM sharing"}, ""},
			{[]string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1", "COMMIT"}, ""},
			{[]string{"BEGIN", "INSERT INTO sharing VALUES (1)", "ROLLBACK"}, ""},
			{[]string{"ROLLBACK"}, ""},
			{[]string{"BEGIN", "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "COMMIT"}, ""},
			{[]string{"BEGIN", "SET LOCAL app.tenant = 'local'", "COMMIT"}, ""},
		} {
			r.exec(b, "SELECT 1")
			for i, sql := range tc.run {
				err := run(r.ctx(), a, sql)
				if got := sqlstate(err); i == 0 && got != tc.code || i > 0 && err != nil {
					t.Fatalf("%s, %s: %v", protocol, sql, err)
				}
			}
			if err := errors.Join(sees(r, a, value, "mine"), sees(r, b, value, ""), sees(r, a, value, "mine")); err != nil {
				t.Errorf("%s, behind %v: %v", protocol, tc.run, err)
			}
		}
	}
	if n := r.counter("sluice_pins_total"); n != 0 {
		t.Errorf("%v pins, want none", n)
	}
}

// TestStatementThatSharesTheWriteCanBeCancelled has the cancel request come while Postgres has answered nothing yet.
func TestStatementThatSharesTheWriteCanBeCancelled(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := proven(r, "SET app.tenant = 'mine'")
	failed := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), "SELECT pg_sleep(60), 'sharing'")
		failed <- err
	}()
	r.eventually("the statement runs", func() bool {
		return r.activity(running, "'sharing'") == "1"
	})
	if err := a.PgConn().CancelRequest(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; sqlstate(err) != "57014" {
		t.Errorf("got %v, want 57014", err)
	}
	r.exec(b, "SELECT 1")
	if err := sees(r, a, "current_setting('app.tenant')", "mine"); err != nil {
		t.Error(err)
	}
}

// TestClientIsNotToldWhatWasCarried has a setting that Postgres reports change under a client, which does not hear of it.
func TestClientIsNotToldWhatWasCarried(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, _ := proven(r, "SET TimeZone = 'Asia/Tokyo'")
	plain := r.raw("transaction", "alice")
	for range 3 {
		r.exec(a, "SELECT 1")
		plain.send(&pgproto3.Query{String: "SELECT current_setting('TimeZone') <> 'Asia/Tokyo'"})
		if got, want := plain.until('Z'), "T D(t) C Z"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestClientIsToldWhatItChangesBackFromWhatWasCarried has a client set what another one, who had the backend last, was told.
func TestClientIsToldWhatItChangesBackFromWhatWasCarried(t *testing.T) {
	t.Parallel()
	for name, run := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, oneBackend))
			for name, set := range map[string]string{
				"TimeZone":         "SET TimeZone = 'Asia/Tokyo'",
				"application_name": "SET app.tenant = 'mine'; SET application_name = 'mine'",
			} {
				a, b := proven(r, set)
				theirs := b.PgConn().ParameterStatus(name)
				if err := run(r.ctx(), a, "SET "+name+" = '"+theirs+"'"); err != nil {
					t.Fatal(err)
				}
				if got := a.PgConn().ParameterStatus(name); got != theirs {
					t.Errorf("the client was told %s = %q, want %q", name, got, theirs)
				}
			}
		})
	}
}
