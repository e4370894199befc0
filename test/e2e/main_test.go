// Package e2e tests Sluice in front of a real Postgres. Files are named by behaviour.
package e2e

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/config"
	"sluice/internal/logbuf"
	"sluice/internal/throwawaypg"
	"sluice/proxy"
)

// cluster is the Postgres that the tests share; those that stop or kill one start their own.
var cluster *throwawaypg.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(silentAddresses) != "" {
		if err := holdSilent(); err != nil {
			panic(err)
		}
		return
	}
	if task := os.Getenv(listenersEnv); task != "" {
		if err := listenTogether(task); err != nil {
			panic(err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if cluster, err = startCluster(ctx); err != nil {
		panic(fmt.Sprintf("start postgres: %v", err))
	}
	defer func() { _ = cluster.Stop() }()
	m.Run()
}

// startCluster starts a Postgres with the roles of the tests.
func startCluster(ctx context.Context, hba ...string) (*throwawaypg.Cluster, error) {
	c, err := throwawaypg.Start(ctx, throwawaypg.Options{Settings: map[string]string{"max_connections": "200"}, HBA: hba})
	if err != nil {
		return nil, err
	}
	err = c.Exec(ctx,
		`CREATE ROLE alice LOGIN CREATEDB PASSWORD 'alice-secret'`,
		`GRANT CREATE ON TABLESPACE pg_default TO alice`,
		`CREATE ROLE bob LOGIN PASSWORD 'bob-secret'`,
		`CREATE ROLE service LOGIN PASSWORD 'service-secret' IN ROLE pg_read_all_data`,
		`GRANT SELECT ON pg_authid TO service`,
		`CREATE DATABASE app OWNER alice`,
		`GRANT ALL ON DATABASE app TO bob`,
	)
	if err != nil {
		_ = c.Stop()
		return nil, err
	}
	return c, nil
}

const authQuery = `SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1 AND rolcanlogin`

// rig is a Sluice in front of a Postgres.
type rig struct {
	t    *testing.T
	srv  *proxy.Server
	dir  string
	pg   *throwawaypg.Cluster
	addr map[string]string // by mode
	logs *logbuf.Buffer
}

// base is the configuration of most tests; extra lines go into the tenant.
func base(pg *throwawaypg.Cluster, extra string) string {
	return fmt.Sprintf(`
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tenants:
  - name: default
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    service: {role: service, password: service-secret, database: postgres}
    auth: {query: "%s"}
%s`, pg.Port(), authQuery, indent(extra))
}

func indent(s string) string {
	if s == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") + "\n"
}

// start starts Sluice with the configuration.
func start(t *testing.T, pg *throwawaypg.Cluster, yaml string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	dir := r.dir
	r = startConfig(t, pg, r.load(yaml))
	r.dir = dir
	return r
}

func startConfig(t *testing.T, pg *throwawaypg.Cluster, cfg *config.Config) *rig {
	t.Helper()
	r := &rig{t: t, pg: pg, addr: make(map[string]string), logs: &logbuf.Buffer{}}
	srv, err := proxy.New(cfg, proxy.Options{
		Log: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test", Loops: 3,
	})
	if err != nil {
		t.Fatalf("start sluice: %v", err)
	}
	r.srv = srv
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	for _, l := range srv.Listeners() {
		r.addr[l.Mode] = l.Address
	}
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		if t.Failed() {
			t.Logf("log of sluice:\n%s", r.logs.String())
		}
		if got := r.logs.String(); strings.Contains(got, "panic") {
			t.Errorf("a panic in the log:\n%s", got)
		}
	})
	return r
}

func (r *rig) load(yaml string) *config.Config {
	r.t.Helper()
	path := filepath.Join(r.dir, "sluice.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		r.t.Fatalf("load configuration: %v", err)
	}
	return cfg
}

// url returns a connection string for the port of a mode.
func (r *rig) url(mode, user, more string) string {
	u := fmt.Sprintf("postgres://%s:%s-secret@%s/app?sslmode=disable", user, user, r.addr[mode])
	if more != "" {
		u += "&" + more
	}
	return u
}

func (r *rig) connect(mode, user, more string) *pgx.Conn {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), r.url(mode, user, more))
	if err != nil {
		r.t.Fatalf("connect to the %s port: %v", mode, err)
	}
	r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// ctx returns a context that ends before the test binary does.
func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	r.t.Cleanup(cancel)
	return ctx
}

// value runs a query on c and returns its one value as text.
func (r *rig) value(c *pgx.Conn, sql string, args ...any) string {
	r.t.Helper()
	var s string
	if err := c.QueryRow(r.ctx(), sql, args...).Scan(&s); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func (r *rig) exec(c *pgx.Conn, sql string, args ...any) {
	r.t.Helper()
	if _, err := c.Exec(r.ctx(), sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// eventually waits until cond holds.
func (r *rig) eventually(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			r.t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// startURL starts Sluice for a database URL alone.
func startURL(t *testing.T, pg *throwawaypg.Cluster, url string) *rig {
	t.Helper()
	cfg, err := config.FromURL(url)
	must(t, err)
	cfg.Admin.Address = ""
	for i := range cfg.Listeners {
		cfg.Listeners[i].Address = "127.0.0.1:0"
	}
	return startConfig(t, pg, cfg)
}

func md5Hash(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
