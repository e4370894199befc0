package drivers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// runPgx runs what an application does with pgx, once for each way that pgx can send a query.
func runPgx(t *testing.T, url string) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			s := startPgxScript(t, url, mode)
			s.types()
			s.transactions()
			s.prepared()
			s.batch()
			s.errors()
			s.notices()
		})
	}
	t.Run("pipeline", func(t *testing.T) { startPgxScript(t, url, pgx.QueryExecModeCacheStatement).pipeline() })
	t.Run("copy", func(t *testing.T) { startPgxScript(t, url, pgx.QueryExecModeCacheStatement).copying() })
	t.Run("large values", func(t *testing.T) { startPgxScript(t, url, pgx.QueryExecModeCacheStatement).largeValues() })
	t.Run("cancel", func(t *testing.T) { startPgxScript(t, url, pgx.QueryExecModeCacheStatement).cancel() })
	t.Run("give up", func(t *testing.T) { startPgxScript(t, url, pgx.QueryExecModeCacheStatement).giveUp() })
}

// pgxScript is one connection with a table of its own.
type pgxScript struct {
	t       *testing.T
	ctx     context.Context
	config  *pgx.ConnConfig
	conn    *pgx.Conn
	table   string
	noticed []string
}

func startPgxScript(t *testing.T, url string, mode pgx.QueryExecMode) *pgxScript {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	t.Cleanup(cancel)
	s := &pgxScript{t: t, ctx: ctx, table: randomName("pgx_items")}
	var err error
	s.config, err = pgx.ParseConfig(url)
	s.check("parse the connection string", err)
	s.config.DefaultQueryExecMode = mode
	s.config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.noticed = append(s.noticed, n.Severity+" "+n.Message) }
	s.config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: scriptTimeout}
	}
	s.conn, err = pgx.ConnectConfig(ctx, s.config)
	s.check("connect", err)
	t.Cleanup(func() {
		if !s.conn.IsClosed() {
			s.exec("DROP TABLE IF EXISTS " + s.table)
		}
		_ = s.conn.Close(ctx)
	})
	s.exec("CREATE TABLE " + s.table + ` (id int PRIMARY KEY, big bigint, words text, at timestamptz, day date, doc jsonb, raw bytea,
		numbers int[], names text[], price numeric, ratio float8, yes boolean, address inet, uid uuid, nothing text)`)
	return s
}

// randomName lets many scripts run at once.
func randomName(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }

func (s *pgxScript) check(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *pgxScript) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.conn.Exec(s.ctx, sql, args...)
	s.check(sql, err)
}

// wantValue compares the one value of a query, as text.
func (s *pgxScript) wantValue(want, sql string, args ...any) {
	s.t.Helper()
	var got string
	if err := s.conn.QueryRow(s.ctx, sql, args...).Scan(&got); err != nil || got != want {
		s.t.Errorf("%s %v: got %q, %v, want %q", sql, args, got, err, want)
	}
}

func (s *pgxScript) wantError(code, sql string, args ...any) {
	s.t.Helper()
	_, err := s.conn.Exec(s.ctx, sql, args...)
	if got := sqlstate(err); got != code {
		s.t.Errorf("%s: got %v, want %s", sql, err, code)
	}
}

func sqlstate(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// item is a row of the table.
type item struct {
	ID      int32
	Big     int64
	Words   string
	At      time.Time
	Day     time.Time
	Doc     map[string]any
	Raw     []byte
	Numbers []*int32
	Names   []string
	Price   string
	Ratio   float64
	Yes     bool
	Address netip.Prefix
	UID     string
	Nothing *string
}

// json returns the document as text, which every way to send a query takes.
func (i item) json() string {
	text, err := json.Marshal(i.Doc)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (s *pgxScript) types() {
	one := int32(1)
	want := item{
		1, 1 << 62, "naïve ☃ 'quoted' \\ $1", time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC), time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		map[string]any{"a": []any{1.0, nil, "é"}}, []byte{0, 1, 254, 255}, []*int32{&one, nil}, []string{"a", `with "quotes", and, commas`, "NULL"},
		"12345678901234567890.123456789", 1e-300, true, netip.MustParsePrefix("2001:db8::/32"), "00112233-4455-6677-8899-aabbccddeeff", nil,
	}
	s.exec("INSERT INTO "+s.table+" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		want.ID, want.Big, want.Words, want.At, want.Day, want.json(), want.Raw, want.Numbers, want.Names, want.Price, want.Ratio,
		want.Yes, want.Address, want.UID, want.Nothing)
	rows, err := s.conn.Query(s.ctx, `SELECT id, big, words, at, day, doc, raw, numbers, names, price::text, ratio, yes, address,
		uid::text, nothing FROM `+s.table+" WHERE id = $1", 1)
	s.check("select", err)
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[item])
	s.check("read the row", err)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		s.t.Errorf("the row came back different (-want +got):\n%s", diff)
	}
	rows, err = s.conn.Query(s.ctx, "SELECT n FROM generate_series(1, $1::int) n", 5000)
	s.check("select many", err)
	sum := 0
	_, err = pgx.ForEachRow(rows, []any{new(int)}, func() error { sum++; return nil })
	if err != nil || sum != 5000 {
		s.t.Errorf("many rows: got %d, %v, want 5000", sum, err)
	}
}

func (s *pgxScript) transactions() {
	insert := "INSERT INTO " + s.table + " (id, words) VALUES ($1, $2)"
	words := "SELECT coalesce(string_agg(words, ' ' ORDER BY id), '') FROM " + s.table + " WHERE id BETWEEN 10 AND 19"
	in := func(id int, words string, end func(context.Context) error, tx pgx.Tx) {
		s.t.Helper()
		_, err := tx.Exec(s.ctx, insert, id, words)
		s.check("insert", err)
		s.check("end the transaction", end(s.ctx))
	}
	tx, err := s.conn.Begin(s.ctx)
	s.check("begin", err)
	in(10, "committed", tx.Commit, tx)
	tx, err = s.conn.BeginTx(s.ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, DeferrableMode: pgx.Deferrable})
	s.check("begin", err)
	in(11, "never", tx.Rollback, tx)
	tx, err = s.conn.Begin(s.ctx)
	s.check("begin", err)
	for id, end := range map[int]func(pgx.Tx) func(context.Context) error{
		12: func(tx pgx.Tx) func(context.Context) error { return tx.Commit },
		13: func(tx pgx.Tx) func(context.Context) error { return tx.Rollback },
	} {
		inner, err := tx.Begin(s.ctx) // a savepoint
		s.check("savepoint", err)
		in(id, fmt.Sprint("savepoint", id), end(inner), inner)
	}
	s.check("commit", tx.Commit(s.ctx))
	s.wantValue("committed savepoint12", words)

	tx, err = s.conn.BeginTx(s.ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	s.check("begin", err)
	if _, err := tx.Exec(s.ctx, insert, 14, "read only"); sqlstate(err) != "25006" {
		s.t.Errorf("insert in a read-only transaction: got %v, want 25006", err)
	}
	if err := tx.Commit(s.ctx); !errors.Is(err, pgx.ErrTxCommitRollback) {
		s.t.Errorf("commit of a failed transaction: got %v, want %v", err, pgx.ErrTxCommitRollback)
	}
}

func (s *pgxScript) prepared() {
	for name, sql := range map[string]string{"plus": "SELECT ($1::int + 1)::text", "twice": "SELECT $1::text || $1"} {
		_, err := s.conn.Prepare(s.ctx, name, sql)
		s.check("prepare "+name, err)
	}
	for n := range 30 {
		s.wantValue(fmt.Sprint(n+1), "plus", n)
		s.wantValue(fmt.Sprintf("n%dn%d", n, n), "twice", fmt.Sprintf("n%d", n))
	}
	s.check("deallocate", s.conn.Deallocate(s.ctx, "plus"))
	_, err := s.conn.Prepare(s.ctx, "plus", "SELECT ($1::int + 100)::text") // the name may mean something else now
	s.check("prepare again", err)
	s.wantValue("101", "plus", 1)
	if _, err := s.conn.Prepare(s.ctx, "wrong", "SELECT * FROM no_such_table_here"); sqlstate(err) != "42P01" {
		s.t.Errorf("prepare with an error: got %v, want 42P01", err)
	}
	s.wantValue("abab", "twice", "ab")
}

func (s *pgxScript) batch() {
	b := &pgx.Batch{}
	var got []int
	const n = 100
	for i := range n {
		b.Queue("SELECT $1::int * 2", i).QueryRow(func(row pgx.Row) error {
			var v int
			err := row.Scan(&v)
			got = append(got, v)
			return err
		})
	}
	b.Queue("INSERT INTO "+s.table+" (id, words) VALUES ($1, $2)", 20, "in a batch")
	s.check("batch", s.conn.SendBatch(s.ctx, b).Close())
	for i := range n {
		if len(got) != n || got[i] != 2*i {
			s.t.Fatalf("batch: got %v", got)
		}
	}
	s.wantValue("in a batch", "SELECT words FROM "+s.table+" WHERE id = 20")

	b = &pgx.Batch{} // all of it or nothing
	b.Queue("INSERT INTO "+s.table+" (id) VALUES ($1)", 21)
	b.Queue("SELECT 1 / $1::int", 0)
	b.Queue("INSERT INTO "+s.table+" (id) VALUES ($1)", 22)
	if err := s.conn.SendBatch(s.ctx, b).Close(); sqlstate(err) != "22012" {
		s.t.Errorf("batch with an error: got %v, want 22012", err)
	}
	s.wantValue("0", "SELECT count(*)::text FROM "+s.table+" WHERE id IN (21, 22)")
}

func (s *pgxScript) errors() {
	s.exec("INSERT INTO "+s.table+" (id) VALUES ($1)", 30)
	s.wantError("23505", "INSERT INTO "+s.table+" (id) VALUES ($1)", 30)
	s.wantError("42601", "SELEC 1")
	s.wantError("42P01", "SELECT * FROM no_such_table_here")
	s.wantError("22012", "SELECT 1 / (5000 - n) FROM generate_series(1, 10000) n")
	s.wantError("22012", "SELECT 1 / $1::int", 0)
	s.wantError("P0001", "DO $$ BEGIN RAISE EXCEPTION 'mine'; END $$")
	s.wantError("57014", "SET LOCAL statement_timeout = 50; SELECT pg_sleep(60)", pgx.QueryExecModeSimpleProtocol)
	tx, err := s.conn.Begin(s.ctx)
	s.check("begin", err)
	s.wantError("22012", "SELECT 1 / 0")
	s.wantError("25P02", "SELECT 1")
	s.check("rollback", tx.Rollback(s.ctx))
	s.wantValue("well", "SELECT $1::text", "well")
}

func (s *pgxScript) notices() {
	s.noticed = nil
	s.exec("DO $$ BEGIN RAISE NOTICE 'heard %', 1; RAISE WARNING 'heard 2'; END $$")
	if diff := cmp.Diff([]string{"NOTICE heard 1", "WARNING heard 2"}, s.noticed); diff != "" {
		s.t.Errorf("notices (-want +got):\n%s", diff)
	}
}
