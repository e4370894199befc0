package drivers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// runPgxStdlib runs what an application does with pgx under database/sql, and with pgx's own pool.
func runPgxStdlib(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(3)
	s := &stdlibScript{t: t, ctx: ctx, db: db, table: randomName("stdlib_items")}
	defer func() {
		s.exec("DROP TABLE IF EXISTS " + s.table)
		s.check("close", db.Close())
	}()
	s.exec("CREATE TABLE " + s.table + ` (id int PRIMARY KEY, words text, at timestamptz, doc jsonb, raw bytea, numbers int[],
		price numeric, uid uuid, nothing text)`)
	s.types()
	s.transactions()
	s.prepared()
	s.errors()
	s.cancel()
	s.copying()
	s.twoConnections(url)
	s.pool(url)
}

type stdlibScript struct {
	t     *testing.T
	ctx   context.Context
	db    *sql.DB
	table string
}

func (s *stdlibScript) check(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *stdlibScript) exec(query string, args ...any) {
	s.t.Helper()
	_, err := s.db.ExecContext(s.ctx, query, args...)
	s.check(query, err)
}

// wantValue compares the one value of a query, as text.
func (s *stdlibScript) wantValue(want, query string, args ...any) {
	s.t.Helper()
	var got string
	if err := s.db.QueryRowContext(s.ctx, query, args...).Scan(&got); err != nil || got != want {
		s.t.Errorf("%s %v: got %q, %v, want %q", query, args, got, err, want)
	}
}

func (s *stdlibScript) types() {
	type row struct {
		Words   string
		At      time.Time
		Doc     string
		Raw     []byte
		Numbers pgtype.FlatArray[int32]
		Price   string
		UID     string
		Nothing sql.NullString
	}
	want := row{
		"naïve ☃ 'quoted' \\", time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC), `{"a": [1, null]}`, []byte{0, 1, 255},
		pgtype.FlatArray[int32]{1, -2, 3}, "12345678901234567890.5", "00112233-4455-6677-8899-aabbccddeeff", sql.NullString{},
	}
	s.exec("INSERT INTO "+s.table+" VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8)", want.Words, want.At, want.Doc, want.Raw,
		[]int32(want.Numbers), want.Price, want.UID, want.Nothing)
	var got row
	err := s.db.QueryRowContext(s.ctx, "SELECT words, at, doc, raw, numbers, price, uid, nothing FROM "+s.table+" WHERE id = $1", 1).
		Scan(&got.Words, &got.At, &got.Doc, &got.Raw, pgtype.NewMap().SQLScanner(&got.Numbers), &got.Price, &got.UID, &got.Nothing)
	s.check("read the row", err)
	got.At = got.At.UTC()
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("the row came back different (-want +got):\n%s", diff)
	}
	large := strings.Repeat("large ☃ ", 400_000)
	s.wantValue(large, "SELECT $1::text", large)
}

func (s *stdlibScript) transactions() {
	insert := "INSERT INTO " + s.table + " (id, words) VALUES ($1, $2)"
	for id, end := range map[int]func(*sql.Tx) error{10: (*sql.Tx).Commit, 11: (*sql.Tx).Rollback} {
		tx, err := s.db.BeginTx(s.ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		s.check("begin", err)
		_, err = tx.ExecContext(s.ctx, insert, id, "outer")
		s.check("insert", err)
		for _, statement := range []string{"SAVEPOINT here", "UPDATE " + s.table + " SET words = 'never'", "ROLLBACK TO SAVEPOINT here"} {
			_, err = tx.ExecContext(s.ctx, statement)
			s.check(statement, err)
		}
		s.check("end the transaction", end(tx))
	}
	s.wantValue("10", "SELECT string_agg(id::text, ' ') FROM "+s.table+" WHERE words = 'outer'")
}

// A statement of database/sql is prepared again on each connection that it picks.
func (s *stdlibScript) prepared() {
	double, err := s.db.PrepareContext(s.ctx, "SELECT $1::int * 2")
	s.check("prepare", err)
	s.concurrently(60, func(i int) error {
		var got int
		if err := double.QueryRowContext(s.ctx, i).Scan(&got); err != nil || got != 2*i {
			return fmt.Errorf("prepared: got %d, %w for %d", got, err, i)
		}
		return nil
	})
	s.check("close the statement", double.Close())
}

// concurrently calls f n times at once.
func (s *stdlibScript) concurrently(n int, f func(i int) error) {
	s.t.Helper()
	results := make(chan error, n)
	for i := range n {
		go func() { results <- f(i) }()
	}
	for range n {
		if err := <-results; err != nil {
			s.t.Error(err)
		}
	}
}

func (s *stdlibScript) errors() {
	for query, want := range map[string]string{
		"INSERT INTO " + s.table + " (id) VALUES (1)": "23505",
		"SELEC 1": "42601",
		"SELECT 1 / (500 - n) FROM generate_series(1, 1000) n": "22012",
	} {
		if _, err := s.db.ExecContext(s.ctx, query); sqlstate(err) != want {
			s.t.Errorf("%s: got %v, want %s", query, err, want)
		}
	}
	tx, err := s.db.BeginTx(s.ctx, nil)
	s.check("begin", err)
	for _, failing := range []struct{ query, want string }{{"SELECT 1 / 0", "22012"}, {"SELECT 1", "25P02"}} {
		if _, err := tx.ExecContext(s.ctx, failing.query); sqlstate(err) != failing.want {
			s.t.Errorf("%s in a transaction: got %v, want %s", failing.query, err, failing.want)
		}
	}
	s.check("rollback", tx.Rollback())
	s.wantValue("well", "SELECT $1::text", "well")
}

// cancel does what database/sql does at the end of a context: pgx closes the connection.
func (s *stdlibScript) cancel() {
	ctx, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := s.db.ExecContext(ctx, "SELECT pg_sleep(60)"); !errors.Is(err, context.DeadlineExceeded) {
		s.t.Errorf("cancelled query: got %v, want %v", err, context.DeadlineExceeded)
	}
	s.wantValue("alive", "SELECT 'alive'")
}

// copying uses the connection below database/sql.
func (s *stdlibScript) copying() {
	conn, err := s.db.Conn(s.ctx)
	s.check("connection", err)
	defer func() { s.check("give it back", conn.Close()) }()
	const n = 5000
	err = conn.Raw(func(driver any) error {
		copied, err := driver.(*stdlib.Conn).Conn().CopyFrom(s.ctx, pgx.Identifier{s.table}, []string{"id", "words"},
			pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{1000 + i, fmt.Sprint("copied ", i)}, nil }))
		if err == nil && copied != n {
			err = fmt.Errorf("%d rows", copied)
		}
		return err
	})
	s.check("copy in", err)
	s.wantValue(fmt.Sprint(n), "SELECT count(*) FROM "+s.table+" WHERE words = 'copied ' || (id - 1000)")
}

// twoConnections prepares other statements under the same names on each, and runs them by turns.
func (s *stdlibScript) twoConnections(url string) {
	var conns [2]*pgx.Conn
	for i := range conns {
		conn, err := pgx.Connect(s.ctx, url)
		s.check("connect", err)
		defer func() { s.check("close", conn.Close(s.ctx)) }()
		_, err = conn.Prepare(s.ctx, "mine", fmt.Sprintf("SELECT $1::int + %d", 1000*i))
		s.check("prepare", err)
		conns[i] = conn
	}
	for n := range 60 {
		for i, conn := range conns {
			var got int
			if err := conn.QueryRow(s.ctx, "mine", n).Scan(&got); err != nil || got != n+1000*i {
				s.t.Fatalf("connection %d: got %d, %v, want %d", i, got, err, n+1000*i)
			}
		}
	}
}

func (s *stdlibScript) pool(url string) {
	pool, err := pgxpool.New(s.ctx, url)
	s.check("pool", err)
	defer pool.Close()
	s.concurrently(100, func(i int) error {
		return pgx.BeginFunc(s.ctx, pool, func(tx pgx.Tx) error {
			for n := range 5 {
				var got string
				want := fmt.Sprintf("%d of %d", n, i)
				if err := tx.QueryRow(s.ctx, "SELECT $1::int || ' of ' || $2::int", n, i).Scan(&got); err != nil || got != want {
					return fmt.Errorf("through a pool: got %q, %w, want %q", got, err, want)
				}
			}
			return nil
		})
	})
}
