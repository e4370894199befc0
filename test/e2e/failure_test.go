package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// activity asks Postgres itself, past Sluice.
func (r *rig) activity(sql string, args ...any) string {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), r.pg.SuperuserURL("postgres"))
	must(r.t, err)
	defer c.Close(context.Background())
	return r.value(c, sql, args...)
}

const running = `SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%' || $1::text || '%' AND pid <> pg_backend_pid()`

func TestVanishedClientIsCancelledAndRolledBack(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	for _, mode := range modes {
		mark := "vanished_" + mode
		setup := r.connect(mode, "alice", "")
		r.exec(setup, fmt.Sprintf("CREATE TABLE %s (x int)", mark))
		pid := r.value(setup, "SELECT pg_backend_pid()::text")
		_ = setup.Close(context.Background())

		c := r.raw(mode, "alice")
		c.send(&pgproto3.Query{String: fmt.Sprintf("BEGIN; INSERT INTO %s VALUES (1)", mark)})
		c.until('Z')
		c.send(&pgproto3.Query{String: fmt.Sprintf("SELECT pg_sleep(1000) /* %s */", mark)})
		r.eventually("the query runs", func() bool { return r.activity(running, "pg_sleep(1000) /* "+mark) == "1" })
		_ = c.conn.Close()
		r.eventually("the query is cancelled", func() bool { return r.activity(running, "pg_sleep(1000) /* "+mark) == "0" })

		next := r.connect(mode, "alice", "")
		if got := r.value(next, fmt.Sprintf("SELECT count(*)::text FROM %s", mark)); got != "0" {
			t.Errorf("%s: the transaction of the vanished client was not rolled back", mode)
		}
		if got := r.value(next, "SELECT pg_backend_pid()::text"); got != pid {
			t.Errorf("%s: the backend was not reused: %s, want %s", mode, got, pid)
		}
		_ = next.Close(context.Background())
	}
}

func TestTerminateBehindAStatementLetsItCommit(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	for _, mode := range modes {
		table := "terminated_" + mode
		setup := r.connect(mode, "alice", "")
		r.exec(setup, fmt.Sprintf("CREATE TABLE %s (x int)", table))
		c := r.raw(mode, "alice")
		c.send(&pgproto3.Query{String: fmt.Sprintf("INSERT INTO %s SELECT 1 FROM pg_sleep(0.3)", table)}, &pgproto3.Terminate{})
		_ = c.conn.Close()
		r.eventually("the row is there", func() bool {
			return r.value(setup, fmt.Sprintf("SELECT count(*)::text FROM %s", table)) == "1"
		})
	}
}

func TestKilledBackendTellsItsClientOnly(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 3"))
	for _, mode := range modes {
		victim, other := r.connect(mode, "alice", ""), r.connect(mode, "alice", "")
		r.exec(victim, "BEGIN")
		pid := r.value(victim, "SELECT pg_backend_pid()::text")
		r.exec(other, "SELECT 1")
		if got := r.activity("SELECT pg_terminate_backend($1::text::int)::text", pid); got != "true" {
			t.Fatalf("pg_terminate_backend: %s", got)
		}
		r.eventually("the client knows", func() bool {
			return r.activity("SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1::text::int", pid) == "0"
		})
		_, err := victim.Exec(r.ctx(), "SELECT 1")
		if sqlstate(err) != "57P01" {
			t.Errorf("%s: the client of the killed backend got %v, want 57P01", mode, err)
		}
		if got := r.value(other, "SELECT 'fine'"); got != "fine" {
			t.Errorf("%s: another client got %q", mode, got)
		}
	}
}

func TestPostgresKilledInTheMiddleIsNeverSilent(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, ""))
	for _, tc := range []struct {
		name   string
		before []string
		sql    string
		want   []string
	}{
		{"autocommit", nil, "SELECT pg_sleep(1000)", []string{"08007"}},
		{"inside a block", []string{"BEGIN"}, "SELECT pg_sleep(1000)", []string{"08006"}},
	} {
		for _, mode := range modes {
			t.Run(tc.name+" "+mode, func(t *testing.T) {
				c := r.raw(mode, "alice")
				for _, sql := range tc.before {
					c.send(&pgproto3.Query{String: sql})
					c.until('Z')
				}
				idle := r.raw("transaction", "bob")
				idle.send(&pgproto3.Query{String: "SELECT 1"})
				idle.until('Z')
				c.send(&pgproto3.Query{String: tc.sql})
				r.eventually("it runs", func() bool { return r.activity(running, "pg_sleep(1000)") == "1" })
				pg.Kill()
				got := c.until('E')
				ok := false
				for _, want := range tc.want {
					ok = ok || strings.Contains(got, "E("+want+")")
				}
				if !ok {
					t.Errorf("the client was told %q, want %v", got, tc.want)
				}
				must(t, pg.StartServer(context.Background()))
				idle.send(&pgproto3.Query{String: "SELECT 'back'"})
				if got := idle.until('Z'); !strings.Contains(got, "D(back)") {
					t.Errorf("the idle client got %q", got)
				}
			})
		}
	}
}

func TestPostgresDownIs57P03AfterConnectTimeout(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	yaml := strings.Replace(base(pg, ""), "tls_mode: disable}", "tls_mode: disable, connect_timeout: 1s}", 1)
	r := start(t, pg, yaml)
	warm := r.connect("transaction", "alice", "")
	r.exec(warm, "SELECT 1")
	pg.StopServer()
	began := time.Now()
	_, err := warm.Exec(r.ctx(), "SELECT 1")
	if got := sqlstate(err); got != "57P03" {
		t.Errorf("a client that was logged in got %v, want 57P03", err)
	}
	if waited := time.Since(began); waited < 900*time.Millisecond {
		t.Errorf("told after %v, before connect_timeout", waited)
	}
	_, err = pgx.Connect(r.ctx(), r.url("transaction", "bob", ""))
	if got := sqlstate(err); got != "57P03" {
		t.Errorf("a new client got %v, want 57P03", err)
	}
	must(t, pg.StartServer(context.Background()))
	if got := r.value(r.connect("transaction", "alice", ""), "SELECT 'back'"); got != "back" {
		t.Errorf("after the restart: %q", got)
	}
}

func TestCancelOfARunningQuery(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	for _, mode := range modes {
		c := r.connect(mode, "alice", "")
		mark := "cancelled_" + mode
		result := make(chan error, 1)
		go func() { _, err := c.Exec(context.Background(), "SELECT pg_sleep(1000) /* "+mark+" */"); result <- err }()
		r.eventually("the query runs", func() bool { return r.activity(running, "pg_sleep(1000) /* "+mark) == "1" })
		must(t, c.PgConn().CancelRequest(r.ctx()))
		if err := <-result; sqlstate(err) != "57014" {
			t.Errorf("%s: got %v, want 57014", mode, err)
		}
		if got := r.value(c, "SELECT 'fine'"); got != "fine" {
			t.Errorf("%s: afterwards: %q", mode, got)
		}
	}
}

func TestCancelWhileWaitingForABackend(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	holder, waiter := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	r.exec(holder, "BEGIN")
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} {
		result := make(chan error, 1)
		go func() { _, err := waiter.Exec(context.Background(), "SELECT 1", mode); result <- err }()
		r.eventually("it waits", func() bool { return r.srv.Totals().Waiting == 1 })
		must(t, waiter.PgConn().CancelRequest(r.ctx()))
		if err := <-result; sqlstate(err) != "57014" {
			t.Errorf("got %v, want 57014", err)
		}
	}
	r.exec(holder, "COMMIT")
	if got := r.value(waiter, "SELECT 'fine'"); got != "fine" {
		t.Errorf("afterwards: %q", got)
	}
}

// A pipeline whose results come back while it is still being sent: both sides must be read at all times.
func TestTenMegabytesOfPipelineBeforeOneSync(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	for _, mode := range modes {
		c := r.raw(mode, "alice")
		const n = 2500
		arg := strings.Repeat("x", 4000)
		done := make(chan error, 1)
		go func() {
			var out []byte
			var err error
			for range n {
				for _, m := range []pgproto3.FrontendMessage{
					parseMsg("", "SELECT $1::text"),
					&pgproto3.Bind{Parameters: [][]byte{[]byte(arg)}}, executeMsg,
				} {
					if out, err = m.Encode(out); err != nil {
						done <- err
						return
					}
				}
			}
			if out, err = syncMsg.Encode(out); err == nil {
				_, err = c.conn.Write(out)
			}
			done <- err
		}()
		rows := 0
		for ready := false; !ready; {
			m, err := c.fe.Receive()
			if err != nil {
				t.Fatalf("%s: after %d rows: %v", mode, rows, err)
			}
			switch m := m.(type) {
			case *pgproto3.DataRow:
				rows++
				if len(m.Values[0]) != len(arg) {
					t.Fatalf("%s: a row of %d bytes", mode, len(m.Values[0]))
				}
			case *pgproto3.ErrorResponse:
				t.Fatalf("%s: %s", mode, m.Message)
			case *pgproto3.ReadyForQuery:
				ready = true
			}
		}
		if err := <-done; err != nil || rows != n {
			t.Errorf("%s: %d rows, %v", mode, rows, err)
		}
	}
}

func TestDrainLetsTransactionsFinish(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	idle, busy := r.connect("transaction", "alice", ""), r.connect("transaction", "alice", "")
	r.exec(busy, "CREATE TABLE drained (x int)")
	r.exec(busy, "BEGIN")
	down := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		down <- r.srv.Shutdown(ctx)
	}()
	r.eventually("the idle client is told", func() bool {
		_, err := idle.Exec(r.ctx(), "SELECT 1")
		return sqlstate(err) == "57P01" || errors.Is(err, pgconn.ErrConnClosed) || idle.IsClosed()
	})
	r.exec(busy, "INSERT INTO drained VALUES (1)")
	r.exec(busy, "COMMIT")
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if got := r.activity("SELECT 0::text"); got != "0" {
		t.Errorf("%s backends are left", got)
	}
}
