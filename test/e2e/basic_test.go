package e2e

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

var modes = []string{"session", "transaction"}

func TestQueriesOnBothPorts(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	for _, mode := range modes {
		c := r.connect(mode, "alice", "")
		if got := r.value(c, "SELECT 'hello ' || $1", "world"); got != "hello world" {
			t.Errorf("%s: got %q", mode, got)
		}
		if got := r.value(c, "SELECT current_user || '@' || current_database()"); got != "alice@app" {
			t.Errorf("%s: got %q", mode, got)
		}
		table := "basic_" + mode
		r.exec(c, fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, v text)", table))
		tx, err := c.Begin(r.ctx())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if _, err := tx.Exec(r.ctx(), fmt.Sprintf("INSERT INTO %s VALUES ($1, $2)", table), i, fmt.Sprint("v", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(r.ctx()); err != nil {
			t.Fatal(err)
		}
		n, err := c.CopyFrom(r.ctx(), pgx.Identifier{table}, []string{"id", "v"}, pgx.CopyFromSlice(1000, func(i int) ([]any, error) {
			return []any{i + 100, "copied"}, nil
		}))
		if n != 1000 || err != nil {
			t.Errorf("%s: copied %d, %v", mode, n, err)
		}
		if got := r.value(c, fmt.Sprintf("SELECT count(*)::text FROM %s", table)); got != "1010" {
			t.Errorf("%s: %s rows", mode, got)
		}
	}
}
