package e2e

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// unnamed makes pgx send every query as an unnamed statement.
const unnamed = "default_query_exec_mode=exec"

// counter returns the sum of a metric over the pools of the transaction port, of what has the labels.
func (r *rig) counter(name string, labels ...string) (sum float64) {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.srv.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		has := func(label string) bool { return strings.Contains(line, label) }
		if strings.HasPrefix(line, name+"{") && has(`mode="transaction"`) && !slices.ContainsFunc(labels, func(l string) bool { return !has(l) }) {
			var v float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &v); err != nil {
				r.t.Fatalf("%s: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

func TestUnnamedStatementsArePlannedOnce(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]func(client, backend float64) bool{
		"auto": func(client, backend float64) bool { return client >= 40 && backend <= 6 },
		"off":  func(client, backend float64) bool { return client >= 40 && backend >= 40 },
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			r := start(t, cluster, base(cluster, oneBackend+"\nplan_unnamed: "+setting))
			for _, c := range []*pgx.Conn{r.connect("transaction", "alice", unnamed), r.connect("transaction", "alice", unnamed)} {
				for i := range 20 {
					var got int
					if err := c.QueryRow(r.ctx(), "SELECT $1::int * 2", i).Scan(&got); err != nil || got != 2*i {
						t.Fatalf("got %d, %v, want %d", got, err, 2*i)
					}
				}
			}
			if client, backend := r.counter("sluice_client_parses_total"), r.counter("sluice_backend_parses_total"); !want(client, backend) {
				t.Errorf("%v statements of clients were %v for Postgres", client, backend)
			}
		})
	}
}

func TestPlannedStatementsSeeTheClock(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	c := r.connect("transaction", "alice", unnamed)
	const sql = "SELECT 'now'::timestamptz::text"
	last := ""
	for range 4 {
		got := r.value(c, sql)
		if got == last {
			t.Fatalf("the clock stands still at %s", got)
		}
		last = got
	}
}

func TestPlannedStatementsFollowTheSchema(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	c, other := r.connect("transaction", "alice", unnamed), r.connect("session", "alice", "")
	r.exec(other, "CREATE TABLE planned (a int)")
	defer r.exec(other, "DROP TABLE planned")
	r.exec(other, "INSERT INTO planned VALUES (1)")
	columns := func() (n int, err error) {
		rows, err := c.Query(r.ctx(), "SELECT * FROM planned")
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		for rows.Next() {
			n = len(rows.RawValues())
		}
		return n, rows.Err()
	}
	check := func(want int) {
		t.Helper()
		for range 3 {
			if n, err := columns(); n != want || err != nil {
				t.Fatalf("%d columns, %v, want %d", n, err, want)
			}
		}
	}
	check(1)
	tx, err := c.Begin(r.ctx()) // by the client itself, seen within the transaction and behind it
	must(t, err)
	r.exec(c, "ALTER TABLE planned ADD b int")
	check(2)
	must(t, tx.Commit(r.ctx()))
	check(2)
	direct, err := pgx.Connect(r.ctx(), cluster.URL("alice", "alice-secret", "app"))
	must(t, err)
	defer func() { _ = direct.Close(r.ctx()) }()
	r.exec(direct, "ALTER TABLE planned ADD c int") // past Sluice
	check(3)
}
