package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// in logs in to another database than app.
func (r *rig) in(mode, user, database string) (*pgx.Conn, error) {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), strings.Replace(r.url(mode, user, ""), "/app?", "/"+database+"?", 1))
	if err == nil {
		r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

func TestDatabasesHaveAliasesAndLimitsOfTheirOwn(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(t.Context(), "CREATE DATABASE other OWNER alice"))
	r := start(t, pg, base(pg, `
pool_size: 9
other_databases: deny
databases:
  - {name: shop, dbname: app, pool_size: 2, max_clients: 3}
  - {name: shop_reports, dbname: app}
  - {name: far, dbname: other, network: {allowed_cidrs: ["10.0.0.0/8"]}}
  - {name: other, network: {denied_cidrs: ["192.168.0.0/16"]}}`))
	for _, mode := range modes {
		var clients []*pgx.Conn
		for range 3 {
			c, err := r.in(mode, "alice", "shop")
			if mode == "session" && len(clients) == 2 {
				break // each keeps a backend, and there are two
			}
			must(t, err)
			clients = append(clients, c)
		}
		for _, c := range clients {
			if got := r.value(c, "SELECT current_database()"); got != "app" {
				t.Errorf("%s: shop is the database %s, want app", mode, got)
			}
		}
		if mode == "transaction" {
			if _, err := r.in(mode, "alice", "shop"); sqlstate(err) != "53300" || !strings.Contains(lastWords(err), "max_clients") {
				t.Errorf("a fourth client of shop: %s, want 53300 that names max_clients", lastWords(err))
			}
		}
		for database, want := range map[string]string{"shop_reports": "app", "other": "other"} {
			c, err := r.in(mode, "alice", database)
			must(t, err)
			if got := r.value(c, "SELECT current_database()"); got != want {
				t.Errorf("%s: %s is the database %s, want %s", mode, database, got, want)
			}
		}
		for database, want := range map[string]string{"app": "3D000", "nowhere": "3D000", "far": "28000"} {
			if _, err := r.in(mode, "alice", database); sqlstate(err) != want {
				t.Errorf("%s: %s: %v, want %s", mode, database, err, want)
			}
		}
	}
	for _, p := range r.srv.Status().Tenants[0].Pools {
		want := map[string]int{"shop": 2}[p.Database]
		if want == 0 {
			want = 9
		}
		if p.PoolSize != want {
			t.Errorf("pool_size of %s is %d, want %d", p.Database, p.PoolSize, want)
		}
	}
}

// TestTwoAliasesOfOneDatabaseKnowOfEachOthersCode makes code through one alias that changes the session of whoever calls it through
// the other.
func TestTwoAliasesOfOneDatabaseKnowOfEachOthersCode(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, `
pool_size: 4
max_pinned: 3
databases: [{name: first, dbname: app}, {name: second, dbname: app}]`))
	maker, err := r.in("transaction", "alice", "first")
	must(t, err)
	a, err := r.in("transaction", "alice", "second")
	must(t, err)
	b, err := r.in("transaction", "alice", "second")
	must(t, err)
	r.exec(b, "SELECT 1")
	r.exec(maker, `CREATE FUNCTION login_as(n text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.who', n, false); RETURN n; END $$`)
	if got := r.value(a, "SELECT login_as('a')"); got != "a" {
		t.Fatal(got)
	}
	for range 4 {
		if got := r.value(b, "SELECT coalesce(current_setting('app.who', true), '')"); got != "" {
			t.Fatalf("another client is %q", got)
		}
	}
}

// TestRolesHaveBackendLoginsOfTheirOwn has roles that Postgres does not know, or does not let in, log in as others.
func TestRolesHaveBackendLoginsOfTheirOwn(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	dir := t.TempDir()
	users := filepath.Join(dir, "users.txt")
	must(t, os.WriteFile(users, []byte("\"alice\" \"alice-secret\"\n\"app_reader\" \"app_reader-secret\"\n\"bob\" \"bob-secret\"\n"), 0o600))
	must(t, pg.Exec(t.Context(), "ALTER ROLE bob PASSWORD 'changed-secret'"))
	r := start(t, pg, strings.Replace(withUsers(pg, "scram-sha-256"), "users.txt", fmt.Sprintf("%q", users), 1)+`
    roles:
      - {name: app_reader, backend: {user: alice, password: alice-secret}}
      - {name: bob, backend: {password: changed-secret}}
`)
	for _, mode := range modes {
		for user, want := range map[string]string{"app_reader": "alice", "bob": "bob", "alice": "alice"} {
			c, err := r.in(mode, user, "app")
			must(t, err)
			if got := r.value(c, "SELECT session_user::text"); got != want {
				t.Errorf("%s: %s is %s in Postgres, want %s", mode, user, got, want)
			}
		}
		if _, err := pgx.Connect(r.ctx(), strings.Replace(r.url(mode, "app_reader", ""), "app_reader-secret", "alice-secret", 1)); sqlstate(err) != "28P01" {
			t.Errorf("%s: the backend's password as the client's: %v, want 28P01", mode, err)
		}
	}
	for _, p := range r.srv.Status().Tenants[0].Pools {
		if p.Role == "app_reader" && p.Clients != 1 {
			t.Errorf("%d clients are counted for app_reader, want 1: the role that logged in counts", p.Clients)
		}
	}
}

// TestServiceLoginAsksInItsOwnDatabase keeps the secrets in a table of a database that clients have no business in.
func TestServiceLoginAsksInItsOwnDatabase(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(t.Context(), "CREATE DATABASE secrets OWNER service"))
	verifier, err := pg.Value(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'")
	must(t, err)
	r := &rig{t: t}
	c, err := pgx.Connect(r.ctx(), pg.URL("service", "service-secret", "secrets"))
	must(t, err)
	r.exec(c, "CREATE TABLE logins (name text PRIMARY KEY, secret text)")
	r.exec(c, "INSERT INTO logins VALUES ('alice', $1)", verifier)
	_ = c.Close(context.Background())
	text := strings.Replace(base(pg, ""), "database: postgres", "database: secrets", 1)
	r = start(t, pg, strings.Replace(text, authQuery, "SELECT name, secret FROM public.logins WHERE name = $1", 1))
	for _, mode := range modes {
		if got := r.value(r.connect(mode, "alice", ""), "SELECT current_user || '@' || current_database()"); got != "alice@app" {
			t.Errorf("%s: %s", mode, got)
		}
		if _, err := r.in(mode, "bob", "app"); sqlstate(err) != "28P01" {
			t.Errorf("%s: a role that is not in the table: %v, want 28P01", mode, err)
		}
	}
	if got := r.activity("SELECT string_agg(DISTINCT datname, ',') FROM pg_stat_activity WHERE usename = 'service'"); got != "secrets" {
		t.Errorf("the service role is in %s, want secrets", got)
	}
}
