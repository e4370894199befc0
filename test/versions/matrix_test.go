package versions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// patience is how long one thing may take, on a machine that does many.
const patience = time.Minute

// client is a connection of bob's, who needs SCRAM on both sides.
type client struct {
	t *testing.T
	*pgx.Conn
}

func (v *version) connect(t *testing.T, mode string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, fmt.Sprintf("postgres://bob:bob-secret@%s/work?sslmode=disable", v.addr[mode]))
	must(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return &client{t, c}
}

func (c *client) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *client) exec(sql string, args ...any) {
	c.t.Helper()
	if _, err := c.Exec(c.ctx(), sql, args...); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

func (c *client) want(want, sql string, args ...any) {
	c.t.Helper()
	var got string
	if err := c.QueryRow(c.ctx(), sql, args...).Scan(&got); err != nil || got != want {
		c.t.Fatalf("%s: got %q, %v, want %q", sql, got, err, want)
	}
}

func (c *client) wantError(code, sql string, args ...any) {
	c.t.Helper()
	_, err := c.Exec(c.ctx(), sql, args...)
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != code {
		c.t.Fatalf("%s: got %v, want %s", sql, err, code)
	}
}

// matrix does a little of everything on the port of a mode.
func (v *version) matrix(t *testing.T, mode string) {
	c := v.connect(t, mode)
	for _, part := range []struct {
		name string
		do   func(v *version, c *client, mode string)
	}{
		{"parameters", (*version).parameters}, {"queries", (*version).queries}, {"prepared", (*version).prepared},
		{"transactions", (*version).transactions}, {"copying", (*version).copying}, {"errors", (*version).errors},
		{"cancel", (*version).cancel}, {"settings", (*version).settings}, {"listen", (*version).listen}, {"side by side", (*version).sideBySide},
	} {
		t.Run(part.name, func(t *testing.T) { part.do(v, &client{t, c.Conn}, mode) })
	}
}

// parameters holds what the client was told at login against what Postgres tells itself.
func (v *version) parameters(c *client, mode string) {
	direct, err := pgx.Connect(c.ctx(), v.pg.URL("bob", "bob-secret", "work"))
	must(c.t, err)
	defer direct.Close(c.ctx())
	for _, name := range []string{
		"server_version", "server_encoding", "client_encoding", "is_superuser", "session_authorization", "DateStyle", "IntervalStyle", "TimeZone",
		"integer_datetimes", "standard_conforming_strings", "default_transaction_read_only", "in_hot_standby", "scram_iterations", "search_path",
	} {
		if got, want := c.PgConn().ParameterStatus(name), direct.PgConn().ParameterStatus(name); got != want {
			c.t.Errorf("%s: %s is %q, want %q", mode, name, got, want)
		}
	}
	c.want(direct.PgConn().ParameterStatus("server_version"), "SHOW server_version")
}

func (v *version) queries(c *client, _ string) {
	c.want("bob@work", "SELECT current_user || '@' || current_database()")
	c.want("3", "SELECT ($1::int + $2::int)::text", 1, 2)
	c.want("simple", "SELECT 'simple'", pgx.QueryExecModeSimpleProtocol)
	for range 3 { // seen before, so that it may be planned
		c.want("text", "SELECT $1::text", pgx.QueryExecModeExec, "text")
	}
}

func (v *version) prepared(c *client, mode string) {
	other := v.connect(c.t, mode)
	for i, each := range []*client{c, other} {
		_, err := each.Prepare(each.ctx(), "same", fmt.Sprintf("SELECT '%d' || $1::text", i))
		must(c.t, err)
	}
	for range 3 {
		c.want("0a", "same", "a")
		other.want("1b", "same", "b")
	}
	must(c.t, c.Deallocate(c.ctx(), "same"))
	if _, err := c.PgConn().ExecPrepared(c.ctx(), "same", [][]byte{[]byte("a")}, nil, nil).Close(); err == nil {
		c.t.Error("a statement that was closed is still there")
	}
}

func (v *version) transactions(c *client, mode string) {
	table := "transactions_" + mode
	c.exec("CREATE TABLE " + table + " (x int PRIMARY KEY)")
	for _, commit := range []bool{false, true} {
		tx, err := c.Begin(c.ctx())
		must(c.t, err)
		_, err = tx.Exec(c.ctx(), "INSERT INTO "+table+" VALUES (1)")
		must(c.t, err)
		inner, err := tx.Begin(c.ctx())
		must(c.t, err)
		if _, err := inner.Exec(c.ctx(), "INSERT INTO "+table+" VALUES (1)"); err == nil {
			c.t.Error("a key came twice")
		}
		must(c.t, inner.Rollback(c.ctx()))
		if commit {
			must(c.t, tx.Commit(c.ctx()))
			c.want("1", "SELECT count(*)::text FROM "+table)
		} else {
			must(c.t, tx.Rollback(c.ctx()))
			c.want("0", "SELECT count(*)::text FROM "+table)
		}
	}
}

func (v *version) copying(c *client, mode string) {
	table := "copying_" + mode
	c.exec("CREATE TABLE " + table + " (x int, v text)")
	n, err := c.CopyFrom(c.ctx(), pgx.Identifier{table}, []string{"x", "v"}, pgx.CopyFromSlice(1000, func(i int) ([]any, error) {
		return []any{i, fmt.Sprint("row ", i)}, nil
	}))
	if n != 1000 || err != nil {
		c.t.Errorf("copied %d rows, %v", n, err)
	}
	var out bytes.Buffer
	if _, err := c.PgConn().CopyTo(c.ctx(), &out, "COPY (SELECT x FROM "+table+" ORDER BY x LIMIT 2) TO STDOUT"); err != nil || out.String() != "0\n1\n" {
		c.t.Errorf("copied out %q, %v", out.String(), err)
	}
	if _, err := c.PgConn().CopyFrom(c.ctx(), strings.NewReader("1\tx\nnonsense\n"), "COPY "+table+" FROM STDIN"); err == nil {
		c.t.Error("nonsense was copied")
	}
	c.want("1000", "SELECT count(*)::text FROM "+table)
}

func (v *version) errors(c *client, _ string) {
	c.wantError("22012", "SELECT 1/$1::int", 0)
	c.wantError("42P01", "SELECT * FROM nowhere")
	c.wantError("42601", "nonsense")
	c.wantError("42501", "CREATE ROLE never")
	c.wantError("26000", "EXECUTE nobody")
	c.want("alive", "SELECT 'alive'")
}

func (v *version) cancel(c *client, mode string) {
	runner := v.connect(c.t, mode)
	mark := "cancelled_" + mode
	ended := make(chan error, 1)
	go func() {
		_, err := runner.Exec(context.Background(), "SELECT pg_sleep(1000) /* "+mark+" */")
		ended <- err
	}()
	c.eventually("the query runs", "SELECT (count(*) = 1)::text FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'", mark)
	must(c.t, runner.PgConn().CancelRequest(c.ctx()))
	var e *pgconn.PgError
	if err := <-ended; !errors.As(err, &e) || e.Code != "57014" {
		c.t.Fatalf("got %v, want 57014", err)
	}
	runner.want("alive", "SELECT 'alive'")
}

// eventually waits until the query says true.
func (c *client) eventually(what, sql string, args ...any) {
	c.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var got string
		must(c.t, c.QueryRow(c.ctx(), sql, args...).Scan(&got))
		if got == "true" {
			return
		}
		select {
		case <-deadline:
			c.t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func (v *version) settings(c *client, mode string) {
	changed := v.connect(c.t, mode)
	changed.exec("SET work_mem = '7MB'")
	for range 3 {
		changed.want("7MB", "SHOW work_mem")
		c.want("4MB", "SHOW work_mem")
	}
	changed.exec("RESET work_mem")
	changed.want("4MB", "SHOW work_mem")
	before := v.pins(mode)
	c.exec("BEGIN; SET LOCAL search_path = pg_catalog; COMMIT")
	tx, err := c.Begin(c.ctx())
	must(c.t, err)
	_, err = tx.Exec(c.ctx(), "SELECT set_config('search_path', $1, true)", "pg_catalog")
	must(c.t, err)
	must(c.t, tx.Commit(c.ctx()))
	c.want(`"$user", public`, "SHOW search_path")
	if got := v.pins(mode) - before; got != 0 {
		c.t.Errorf("%d sessions were pinned by settings for one transaction", got)
	}
}

// pins counts the sessions that were tied to their backends for a setting.
func (v *version) pins(mode string) (n uint64) {
	for _, p := range v.srv.Status().Tenants[0].Pools {
		if p.Mode == mode && p.Database == "work" {
			for _, reason := range []string{"set", "set_config", "parameter_status"} {
				n += p.Pins[reason]
			}
		}
	}
	return n
}

func (v *version) listen(c *client, mode string) {
	listener := v.connect(c.t, mode)
	listener.exec("LISTEN news_" + mode)
	c.exec("SELECT pg_notify('news_" + mode + "', 'hello')")
	n, err := listener.WaitForNotification(listener.ctx())
	if err != nil || n.Payload != "hello" {
		c.t.Errorf("got %+v, %v", n, err)
	}
}

// sideBySide has more clients at work than there are backends.
func (v *version) sideBySide(c *client, mode string) {
	clients := make([]*client, 20)
	for i := range clients {
		clients[i] = v.connect(c.t, mode)
	}
	var wg sync.WaitGroup
	for i, each := range clients {
		wg.Go(func() {
			for n := range 10 {
				var got []int32
				err := each.QueryRow(c.t.Context(), "SELECT array_agg(g) FROM generate_series($1::int, $1::int + 2) g", i*100+n).Scan(&got)
				if want := []int32{int32(i*100 + n), int32(i*100 + n + 1), int32(i*100 + n + 2)}; err != nil || !slices.Equal(got, want) {
					c.t.Errorf("client %d: got %v, %v, want %v", i, got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}
