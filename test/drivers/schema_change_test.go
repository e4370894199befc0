package drivers

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sluice/internal/throwawaypg"
)

// TestStaleStatementNeverGivesOtherColumns has a client keep a prepared statement, whose columns were described to it,
// while another changes the table. Postgres says 0A000 whenever it is run then; rows of other columns, which no
// RowDescription announces, would be decoded as what they are not.
func TestStaleStatementNeverGivesOtherColumns(t *testing.T) {
	t.Parallel()
	only := driver{name: "schema-change"}
	pg := throwawaypg.MustStart(t, throwawaypg.Options{})
	prepare(t, pg, []driver{only})
	s := startSluice(t, pg)
	plain := url.Values{"sslmode": {"disable"}}
	for _, target := range []struct{ name, url string }{
		{"direct", pg.URL(role, password, only.name)},
		{"session", s.url("session", only.name, plain)},
		{"transaction", s.url("transaction", only.name, plain)},
	} {
		t.Run(target.name+"/each time", func(t *testing.T) {
			c := startStale(t, target.url)
			c.wantStale(t)
			c.wantStale(t) // not only the first time
		})
		t.Run(target.name+"/on a backend that has not prepared it", func(t *testing.T) {
			c := startStale(t, target.url)
			c.run(t, c.other, "BEGIN") // the backend that has prepared it, if the last one used is lent first
			c.wantStale(t)
			c.run(t, c.other, "ROLLBACK")
		})
	}
}

// stale is a client with a prepared statement that has become stale, and another client.
type stale struct {
	client, other *pgconn.PgConn
	statement     *pgconn.StatementDescription
}

func startStale(t *testing.T, url string) *stale {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	connect := func() *pgconn.PgConn {
		c, err := pgconn.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	s := &stale{client: connect(), other: connect()}
	table := randomName("stale")
	s.run(t, s.other, "CREATE TABLE "+table+" (id int, words text); INSERT INTO "+table+" VALUES (1, 'one')")
	var err error
	if s.statement, err = s.client.Prepare(ctx, "mine", "SELECT * FROM "+table, nil); err != nil {
		t.Fatal(err)
	}
	if got := s.client.ExecStatement(ctx, s.statement, nil, nil, nil).Read(); got.Err != nil || len(got.Rows) != 1 {
		t.Fatalf("before the change: got %q, %v, want a row", got.Rows, got.Err)
	}
	s.run(t, s.other, "ALTER TABLE "+table+" DROP COLUMN words; ALTER TABLE "+table+" ADD COLUMN other bytea DEFAULT 'x'")
	return s
}

func (s *stale) run(t *testing.T, c *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// wantStale runs the statement as drivers do that know its columns: Bind, Execute and Sync, no Describe.
func (s *stale) wantStale(t *testing.T) {
	t.Helper()
	got := s.client.ExecStatement(t.Context(), s.statement, nil, nil, nil).Read()
	if sqlstate(got.Err) != "0A000" {
		t.Errorf("the stale statement: got %q, %v, want 0A000 (cached plan must not change result type)", got.Rows, got.Err)
	}
}
