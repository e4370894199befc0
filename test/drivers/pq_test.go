package drivers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// runPq runs what an application does with lib/pq under database/sql, with a few connections at once.
func runPq(t *testing.T, url string) {
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(3)
	s := &pqScript{t: t, db: db, table: randomName("pq_items")}
	defer func() {
		s.exec("DROP TABLE IF EXISTS " + s.table)
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	s.exec("CREATE TABLE " + s.table + " (id int PRIMARY KEY, words text, raw bytea, numbers bigint[], price numeric, nothing text)")
	s.types()
	s.transactions()
	s.prepared()
	s.copying()
	s.errors()
}

type pqScript struct {
	t     *testing.T
	db    *sql.DB
	table string
}

func (s *pqScript) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.ExecContext(context.Background(), query, args...); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

func (s *pqScript) check(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// wantValue compares the one value of a query.
func (s *pqScript) wantValue(want, query string, args ...any) {
	s.t.Helper()
	var got string
	if err := s.db.QueryRow(query, args...).Scan(&got); err != nil || got != want {
		s.t.Errorf("%s %v: got %q, %v, want %q", query, args, got, err, want)
	}
}

func (s *pqScript) types() {
	type row struct {
		Words   string
		Raw     []byte
		Numbers pq.Int64Array
		Price   string
		Nothing sql.NullString
	}
	want := row{"naïve ☃ 'quoted' \\", []byte{0, 1, 255}, pq.Int64Array{1, -2, 1 << 62}, "12345678901234567890.5", sql.NullString{}}
	s.exec("INSERT INTO "+s.table+" VALUES (1, $1, $2, $3, $4, $5)", want.Words, want.Raw, want.Numbers, want.Price, want.Nothing)
	var got row
	err := s.db.QueryRow("SELECT words, raw, numbers, price, nothing FROM "+s.table+" WHERE id = $1", 1).
		Scan(&got.Words, &got.Raw, &got.Numbers, &got.Price, &got.Nothing)
	s.check("read the row", err)
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("the row came back different (-want +got):\n%s", diff)
	}
}

func (s *pqScript) transactions() {
	for _, commit := range []bool{true, false} {
		tx, err := s.db.Begin()
		s.check("begin", err)
		_, err = tx.Exec("INSERT INTO "+s.table+" (id, words) VALUES ($1, 'in a transaction')", map[bool]int{true: 2, false: 3}[commit])
		s.check("insert", err)
		if commit {
			s.check("commit", tx.Commit())
		} else {
			s.check("rollback", tx.Rollback())
		}
	}
	s.wantValue("1", "SELECT count(*) FROM "+s.table+" WHERE words = 'in a transaction'")
}

// database/sql prepares a statement again on each connection that it picks.
func (s *pqScript) prepared() {
	double, err := s.db.Prepare("SELECT $1::int * 2")
	s.check("prepare", err)
	results := make(chan error)
	const n = 60
	for i := range n {
		go func() {
			var got int
			err := double.QueryRow(i).Scan(&got)
			if err == nil && got != 2*i {
				err = fmt.Errorf("got %d for %d", got, i)
			}
			results <- err
		}()
	}
	for range n {
		if err := <-results; err != nil {
			s.t.Errorf("prepared: %v", err)
		}
	}
	s.check("close the statement", double.Close())
}

func (s *pqScript) copying() {
	tx, err := s.db.Begin()
	s.check("begin", err)
	in, err := tx.Prepare("COPY " + s.table + " (id, words) FROM STDIN")
	s.check("start the copy", err)
	for i := range 5000 {
		_, err := in.Exec(1000+i, fmt.Sprintf("copied\t%d\n\\", i))
		s.check("copy a row", err)
	}
	_, err = in.Exec()
	s.check("end the copy", err)
	s.check("close the copy", in.Close())
	s.check("commit", tx.Commit())
	s.wantValue("5000", "SELECT count(*) FROM "+s.table+" WHERE words = E'copied\\t' || (id - 1000) || E'\\n\\\\'")
}

func (s *pqScript) errors() {
	for query, want := range map[string]pqerror.Code{
		"INSERT INTO " + s.table + " (id) VALUES (1)": "23505",
		"SELEC 1": "42601",
		"SELECT 1 / (500 - n) FROM generate_series(1, 1000) n":               "22012",
		"SELECT * FROM no_such_table_here":                                   "42P01",
		"DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = '38000'; END $$": "38000",
	} {
		_, err := s.db.Exec(query)
		var pqErr *pq.Error
		if !errors.As(err, &pqErr) || pqErr.Code != want {
			s.t.Errorf("%s: got %v, want %s", query, err, want)
		}
	}
	s.wantValue("well", "SELECT $1::text", "well")
}
