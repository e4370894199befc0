package leakhunt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sluice/internal/config"
	"sluice/internal/logbuf"
	"sluice/internal/throwawaypg"
	"sluice/proxy"
)

// tenant is one of several, with a database of its own and the twin of that.
type tenant struct {
	name    string
	clients int
	code    bool    // the database has functions and triggers that set something, sometimes
	dynamic bool    // and some that make up what they do, so that Postgres cannot be asked about it
	share   float64 // of its clients' time that they may be pinned
}

// backends is how many each tenant has, and pinnable how many of them sessions may keep.
const (
	backends = 4
	pinnable = backends - 1
)

const password = "hunter"

// tenants are those of every hunt.
func tenants() []tenant {
	return []tenant{
		{name: "acme", clients: 12, share: 0.1},
		{name: "globex", clients: 12, code: true, share: 0.1},
		{name: "initech", clients: pinnable, code: true, dynamic: true, share: 1}, // all are pinned
	}
}

// world is a Sluice in front of a Postgres, with the tenants' databases and their twins.
type world struct {
	t       *testing.T
	pg      *throwawaypg.Cluster
	srv     *proxy.Server
	address string
	log     *logbuf.Buffer
	seed    uint64
	stop    context.CancelCauseFunc // ends the hunt

	mu     sync.Mutex // guards below
	counts map[string]int
}

func newWorld(t *testing.T, seed uint64, stop context.CancelCauseFunc) *world {
	t.Helper()
	w := &world{t: t, seed: seed, stop: stop, log: &logbuf.Buffer{}, counts: make(map[string]int)}
	w.pg = throwawaypg.MustStart(t, throwawaypg.Options{Settings: map[string]string{
		"max_connections": "100", "fsync": "off", "log_min_messages": "panic",
	}})
	for _, tn := range tenants() {
		w.create(tn)
	}
	cfg := w.configure()
	srv, err := proxy.New(cfg, proxy.Options{Log: slog.New(slog.NewTextHandler(w.log, nil)), Version: "test"})
	if err != nil {
		t.Fatalf("start sluice: %v", err)
	}
	w.srv, w.address = srv, srv.Listeners()[0].Address
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		if log := w.log.String(); t.Failed() || strings.Contains(log, "panic") {
			t.Errorf("log of sluice:\n%s", log)
		}
	})
	return w
}

func (w *world) configure() *config.Config {
	text := `
listeners:
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
limits: {login_timeout: 60s}
tenants:
`
	for _, tn := range tenants() {
		text += fmt.Sprintf(`  - name: %s
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable, connect_timeout: 60s}
    pool_wait_timeout: 120s
    service: {role: service, password: %s, database: postgres}
    auth: {query: "SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1 AND rolcanlogin"}
    pool_size: %d
    max_pinned: %d
`, tn.name, w.pg.Port(), password, backends, pinnable)
	}
	path := filepath.Join(w.t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		w.t.Fatalf("load configuration: %v", err)
	}
	return cfg
}

// create makes the tenant's login, roles and databases.
func (w *world) create(tn tenant) {
	login := tn.name
	err := w.pg.Exec(w.t.Context(),
		`DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'service') THEN
			CREATE ROLE service LOGIN PASSWORD '`+password+`'; GRANT SELECT ON pg_authid TO service; END IF; END $$`,
		"CREATE ROLE "+login+" LOGIN PASSWORD '"+password+"'",
		"CREATE ROLE "+login+"_reader", "CREATE ROLE "+login+"_writer", "GRANT "+login+"_reader, "+login+"_writer TO "+login,
		"CREATE DATABASE "+tn.name+" OWNER "+login, "CREATE DATABASE "+twinOf(tn.name)+" OWNER "+login)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, database := range []string{tn.name, twinOf(tn.name)} {
		w.execIn(database, schema(tn))
	}
}

func (w *world) execIn(database string, sql []string) {
	conn, err := pgconn.Connect(w.t.Context(), w.pg.SuperuserURL(database))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, s := range sql {
		if _, err := conn.Exec(w.t.Context(), s).ReadAll(); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
}

func twinOf(database string) string { return database + "_twin" }

// schema returns what makes a tenant's database: a schema with a table for each client, a lying operator, and the code.
func schema(tn tenant) []string {
	sql := []string{
		"CREATE SCHEMA liar", "GRANT ALL ON SCHEMA liar TO public",
		"CREATE FUNCTION liar.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'",
		"CREATE OPERATOR liar.= (FUNCTION = liar.no, LEFTARG = text, RIGHTARG = text)",
	}
	if tn.code {
		sql = append(sql, code...)
	}
	if tn.dynamic {
		sql = append(sql, dynamicCode...)
	}
	for i := range tn.clients {
		own := fmt.Sprintf("w%d", i)
		sql = append(sql, "CREATE SCHEMA "+own+" AUTHORIZATION "+tn.name,
			"GRANT USAGE ON SCHEMA "+own+" TO "+tn.name+"_reader",
			"CREATE TABLE "+own+".t (id serial PRIMARY KEY, v text)",
			"ALTER TABLE "+own+".t OWNER TO "+tn.name,
			"GRANT SELECT ON "+own+".t TO "+tn.name+"_reader")
		if tn.code {
			sql = append(sql, "CREATE TRIGGER note BEFORE INSERT ON "+own+".t FOR EACH ROW EXECUTE FUNCTION public.note()")
		}
	}
	return sql
}

// count adds to one of the numbers that are printed.
func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}
