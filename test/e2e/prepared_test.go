package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestSameNamesOfTwoClientsOnOneBackend(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(a, "PREPARE p AS SELECT 'a of SQL'")
	r.exec(b, "PREPARE p (int) AS SELECT 'b of SQL ' || $1")
	for _, c := range []*pgx.Conn{a, b} {
		if _, err := c.Prepare(r.ctx(), "q", map[*pgx.Conn]string{a: "SELECT 'a of the protocol'", b: "SELECT 'b of the protocol'"}[c]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		for _, tc := range []struct {
			c         *pgx.Conn
			sql, want string
		}{
			{a, "EXECUTE p", "a of SQL"}, {b, fmt.Sprintf("EXECUTE p(%d)", i), fmt.Sprintf("b of SQL %d", i)},
			{a, "EXECUTE q", "a of the protocol"}, {b, "EXECUTE q", "b of the protocol"},
			{a, "SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements", "p,q"},
		} {
			if got := r.value(tc.c, tc.sql); got != tc.want {
				t.Errorf("%s: %q, want %q", tc.sql, got, tc.want)
			}
		}
	}
	r.exec(a, "DEALLOCATE ALL")
	if got := r.value(b, "EXECUTE q"); got != "b of the protocol" {
		t.Errorf("b's q is %q behind a's DEALLOCATE ALL", got)
	}
	if _, err := a.Exec(r.ctx(), "EXECUTE p"); sqlstate(err) != "26000" {
		t.Errorf("a's p behind its DEALLOCATE ALL: %v, want 26000", err)
	}
	r.exec(b, "DISCARD ALL")
	if _, err := b.Exec(r.ctx(), "EXECUTE p(1)"); sqlstate(err) != "26000" {
		t.Errorf("b's p behind its DISCARD ALL: %v, want 26000", err)
	}
	if n := r.counter("sluice_pins_total"); n != 0 {
		t.Errorf("%v pins, want none", n)
	}
}

func TestClientsWithStatementsOfSQLShareTheBackends(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, twoBackends))
	r.crowd(10, func(i, round int, c *pgx.Conn) error {
		if round == 0 {
			for _, sql := range []string{fmt.Sprintf("PREPARE mine AS SELECT 'mine %d'", i), "PREPARE same (int) AS SELECT $1 * 2"} {
				if _, err := c.Exec(r.ctx(), sql); err != nil {
					return err
				}
			}
		}
		for sql, want := range map[string]string{"EXECUTE mine": fmt.Sprintf("mine %d", i), fmt.Sprintf("EXECUTE same(%d)", i): fmt.Sprint(2 * i)} {
			var got any
			if err := c.QueryRow(r.ctx(), sql).Scan(&got); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			if fmt.Sprint(got) != want {
				return fmt.Errorf("%s is %v, want %s", sql, got, want)
			}
		}
		return nil
	})
	if n := r.counter("sluice_pins_total"); n != 0 {
		t.Errorf("%v pins, want none", n)
	}
	if n := r.counter("sluice_clients", `state="pinned"`); n != 0 {
		t.Errorf("%v clients are pinned", n)
	}
}

func TestTextBesideAPrepareIsNotShownToOthers(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(a, "SELECT 'a-secret'; PREPARE p AS SELECT 1")
	r.exec(b, "PREPARE p AS SELECT 1")
	for range 2 {
		for _, c := range []*pgx.Conn{b, a} {
			const list = "SELECT string_agg(statement, ' ') FROM pg_prepared_statements"
			if got := r.value(c, list); c == b && strings.Contains(got, "secret") || !strings.Contains(got, "PREPARE p AS SELECT 1") {
				t.Errorf("%s: %q", list, got)
			}
		}
	}
}

func TestStatementOfSQLWhoseTableComesAndGoes(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
	r.exec(a, "CREATE TABLE comes_and_goes (x text)")
	r.exec(a, "PREPARE p AS SELECT x FROM comes_and_goes")
	r.exec(b, "PREPARE p AS SELECT 'b'")
	r.exec(b, "DROP TABLE comes_and_goes")
	if _, err := a.Exec(r.ctx(), "EXECUTE p"); err == nil {
		t.Error("no error without its table")
	}
	if got := r.value(b, "EXECUTE p"); got != "b" {
		t.Errorf("b's p is %q", got)
	}
	r.exec(b, "CREATE TABLE comes_and_goes (x text); INSERT INTO comes_and_goes VALUES ('back')")
	if got := r.value(a, "EXECUTE p"); got != "back" {
		t.Errorf("a's p is %q", got)
	}
	r.exec(a, "DROP TABLE comes_and_goes")
}

// TestRandomStatementsNeverCross has clients prepare, run and drop statements at random from a printed seed, with SQL and with
// the protocol, and compares what each sees with a model of its own.
func TestRandomStatementsNeverCross(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 3"))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for i := range 8 {
		p := &preparer{rig: r, c: r.connect("transaction", "alice", simple), rng: rand.New(rand.NewPCG(seed, uint64(i))), id: i, has: map[string]string{}}
		wg.Go(p.wander)
	}
	wg.Wait()
	if n := r.counter("sluice_pins_total"); n != 0 {
		t.Errorf("%v pins, want none", n)
	}
}

// preparer is a client with a model of what it has prepared.
type preparer struct {
	*rig
	c   *pgx.Conn
	rng *rand.Rand
	id  int
	has map[string]string // what its statements return, by their names
}

func (p *preparer) wander() {
	for step := range 80 {
		name := []string{"p", "q", `"R s"`, "t"}[p.rng.IntN(4)]
		value := fmt.Sprintf("client %d, step %d", p.id, step)
		if p.rng.IntN(4) == 0 {
			value = "the same for all"
		}
		var err error
		switch p.rng.IntN(8) {
		case 0, 1:
			_, err = p.c.Exec(p.ctx(), "PREPARE "+name+" AS SELECT '"+value+"'")
			err = p.expect(err, p.has[name] != "", "42P05", func() { p.has[name] = value })
		case 2:
			_, err = p.c.PgConn().Prepare(p.ctx(), strings.Trim(name, `"`), "SELECT '"+value+"'", nil)
			err = p.expect(err, p.has[name] != "", "42P05", func() { p.has[name] = value })
		case 3:
			_, err = p.c.Exec(p.ctx(), "DEALLOCATE "+name)
			err = p.expect(err, p.has[name] == "", "26000", func() { delete(p.has, name) })
		case 4:
			sql := []string{"DEALLOCATE ALL", "DISCARD ALL", "DISCARD PLANS", "SELECT 1"}[p.rng.IntN(4)]
			if _, err = p.c.Exec(p.ctx(), sql); strings.HasSuffix(sql, " ALL") {
				clear(p.has)
			}
			if err == nil {
				err = p.look()
			}
		case 5:
			_, err = p.c.Exec(p.ctx(), "BEGIN; PREPARE "+name+" AS SELECT '"+value+"'; ROLLBACK")
			err = p.expect(err, p.has[name] != "", "42P05", func() { p.has[name] = value })
			_, _ = p.c.Exec(p.ctx(), "ROLLBACK")
		default:
			err = p.run(name)
		}
		if err != nil {
			p.t.Errorf("client %d, step %d: %v", p.id, step, err)
			return
		}
	}
}

// expect checks what came of a command that must fail with code if fails says so, and else does what then says.
func (p *preparer) expect(err error, fails bool, code string, then func()) error {
	switch {
	case fails && sqlstate(err) == code:
		return nil
	case fails && err == nil:
		return fmt.Errorf("no error, want %s", code)
	case fails:
		return fmt.Errorf("want %s, got %w", code, err)
	case err == nil:
		then()
	}
	return err
}

// run runs a statement, in SQL or through the protocol.
func (p *preparer) run(name string) error {
	var got string
	var err error
	if p.rng.IntN(2) == 0 {
		err = p.c.QueryRow(p.ctx(), "EXECUTE "+name).Scan(&got)
	} else {
		res := p.c.PgConn().ExecPrepared(p.ctx(), strings.Trim(name, `"`), nil, nil, nil).Read()
		if err = res.Err; err == nil {
			got = string(res.Rows[0][0])
		}
	}
	return p.expect(err, p.has[name] == "", "26000", func() {
		if got != p.has[name] {
			p.t.Errorf("client %d: %s is %q, want %q", p.id, name, got, p.has[name])
		}
	})
}

// look checks the names that Postgres shows.
func (p *preparer) look() error {
	rows, err := p.c.Query(p.ctx(), "SELECT quote_ident(name) FROM pg_prepared_statements")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(p.has)); !slices.Equal(names, want) {
		return fmt.Errorf("%v are there, want %v", names, want)
	}
	return nil
}

// TestStatementOfATableDroppedInTheSameBlock does what psycopg does behind a DROP: it gives all statements up, in the block.
func TestStatementOfATableDroppedInTheSameBlock(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	c := r.connect("transaction", "alice", "")
	tx, err := c.Begin(r.ctx())
	must(t, err)
	r.exec(c, "CREATE TABLE dropped_in_block (a int)")
	for name, sql := range map[string]string{"gone": "INSERT INTO dropped_in_block VALUES (1)", "kept": "SELECT 'kept'"} {
		_, err = c.PgConn().Prepare(r.ctx(), name, sql, nil)
		must(t, err)
	}
	r.exec(c, "DROP TABLE dropped_in_block")
	for _, sql := range []string{"EXECUTE kept", "DEALLOCATE ALL"} {
		_, err = c.PgConn().Exec(r.ctx(), sql).ReadAll()
		must(t, err)
	}
	must(t, tx.Commit(r.ctx()))
	if got := r.value(c, "SELECT count(*)::text FROM pg_prepared_statements WHERE name IN ('gone', 'kept')"); got != "0" {
		t.Errorf("%s statements are left", got)
	}
}
