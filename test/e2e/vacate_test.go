package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shops numbers the databases of the tests.
type shops struct{ n atomic.Int64 }

// open makes a database of alice's in the shared Postgres, and returns its name.
func (s *shops) open(t *testing.T, kind string) string {
	t.Helper()
	name := fmt.Sprintf("%s %d", kind, s.n.Add(1))
	must(t, cluster.Exec(t.Context(), fmt.Sprintf(`CREATE DATABASE %q OWNER alice`, name)))
	return name
}

// shopkeeper starts a Sluice whose service login is in that database.
func shopkeeper(t *testing.T, service string) *rig {
	t.Helper()
	return start(t, cluster, strings.Replace(base(cluster, "pool_size: 4"), "database: postgres", fmt.Sprintf("database: %q", service), 1))
}

// into connects to a database through a port.
func (r *rig) into(mode, user, database, more string) *pgx.Conn {
	r.t.Helper()
	cfg, err := pgx.ParseConfig(r.url(mode, user, more))
	must(r.t, err)
	cfg.Database = database
	c, err := pgx.ConnectConfig(r.ctx(), cfg)
	must(r.t, err)
	r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// visit runs a statement in a database and leaves, so that an idle backend stays.
func (r *rig) visit(mode, user, database string) {
	r.t.Helper()
	c := r.into(mode, user, database, simple)
	r.value(c, "SELECT 'here'")
	must(r.t, c.Close(context.Background()))
}

// connections returns how many are open to a database.
func (r *rig) connections(database string) string {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), r.pg.URL("alice", "alice-secret", "app"))
	must(r.t, err)
	defer c.Close(context.Background())
	return r.value(c, "SELECT count(*)::text FROM pg_stat_activity WHERE datname = $1", database)
}

func TestIdleBackendsGetOutOfTheWayOfADatabase(t *testing.T) {
	t.Parallel()
	var all shops
	for _, tc := range []struct {
		sql     string
		service bool   // the service login is there too
		left    string // what can be used then
	}{
		{sql: `drop database if exists %q`},
		{sql: `ALTER DATABASE %q RENAME TO %q`, left: "%s two"},
		{sql: `ALTER DATABASE %q SET TABLESPACE pg_default`, left: "%s"},
		{sql: `CREATE DATABASE %[2]q TEMPLATE = %[1]q`, left: "%s two", service: true},
	} {
		for _, from := range modes {
			t.Run(tc.sql+" through the "+from+" port", func(t *testing.T) {
				t.Parallel()
				shop, service := all.open(t, "Shop"), "postgres"
				if tc.service {
					service = shop
				}
				r := shopkeeper(t, service)
				for _, mode := range modes {
					for _, user := range []string{"alice", "bob"} {
						r.visit(mode, user, shop)
					}
				}
				if got := r.connections(shop); got == "0" {
					t.Fatal("no backend is idle there")
				}
				c := r.connect(from, "alice", simple)
				sql := tc.sql
				if strings.Count(sql, "%") == 1 {
					sql = fmt.Sprintf(sql, shop)
				} else {
					sql = fmt.Sprintf(sql, shop, shop+" two")
				}
				r.exec(c, sql)
				if got := r.value(c, "SELECT 'alive'"); got != "alive" {
					t.Errorf("got %q", got)
				}
				if tc.left != "" {
					r.visit("transaction", "alice", fmt.Sprintf(tc.left, shop))
					r.visit("session", "bob", fmt.Sprintf(tc.left, shop))
				}
			})
		}
	}
}

func TestDatabaseIsVacatedForTheExtendedProtocolToo(t *testing.T) {
	t.Parallel()
	var all shops
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			shop := all.open(t, "extended "+mode)
			r := shopkeeper(t, "postgres")
			c := r.connect(mode, "alice", "")
			if mode == "transaction" { // on the session port the text is looked at when it is parsed
				_, err := c.Prepare(r.ctx(), "drop", fmt.Sprintf("DROP DATABASE %q", shop))
				must(t, err)
			}
			r.visit("transaction", "alice", shop)
			r.visit("session", "bob", shop)
			if mode == "transaction" {
				r.exec(c, "drop")
			} else {
				r.exec(c, fmt.Sprintf("/* a comment */ DROP DATABASE %q", shop))
			}
		})
	}
}

func TestDatabaseThatIsInUseIsPostgressBusiness(t *testing.T) {
	t.Parallel()
	var all shops
	shop := all.open(t, "busy")
	r := shopkeeper(t, "postgres")
	busy := r.into("transaction", "bob", shop, simple)
	r.exec(busy, "BEGIN")
	r.visit("session", "alice", shop)
	c := r.connect("transaction", "alice", simple)
	if _, err := c.Exec(r.ctx(), fmt.Sprintf("DROP DATABASE %q", shop)); sqlstate(err) != "55006" {
		t.Errorf("got %v, want 55006", err)
	}
	if got := r.connections(shop); got != "1" {
		t.Errorf("%s connections are left, want that of the client who is busy", got)
	}
	r.exec(busy, "COMMIT") // it goes on
	if got := r.value(busy, "SELECT current_database()::text"); got != shop {
		t.Errorf("the client is in %q", got)
	}
}

func TestCopyOfTheClientsOwnDatabase(t *testing.T) {
	t.Parallel()
	var all shops
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			shop := all.open(t, "own "+mode)
			r := shopkeeper(t, "postgres")
			r.visit("transaction", "bob", shop)
			r.visit("session", "bob", shop)
			c := r.into(mode, "alice", shop, simple)
			r.exec(c, fmt.Sprintf("CREATE DATABASE %q TEMPLATE %q", shop+" two", shop))
			if got := r.value(c, "SELECT current_database()::text"); got != shop {
				t.Errorf("the client is in %q", got)
			}
			r.visit("transaction", "bob", shop+" two")
		})
	}
}
