package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/internal/throwawaypg"
	"sluice/internal/tlsconf"
)

// twoTenants is a configuration with a Postgres for each of acme and globex, TLS, and a listener for acme alone.
func twoTenants(t *testing.T, acme, globex *throwawaypg.Cluster) string {
	t.Helper()
	cert, key, err := tlsconf.SelfSigned([]string{"acme.db.example", "globex.db.example", "other.db.example"}, time.Now())
	must(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(certFile, cert, 0o600))
	must(t, os.WriteFile(keyFile, key, 0o600))
	text := fmt.Sprintf(`
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tls: {cert_file: %q, key_file: %q}
tenants:
`, certFile, keyFile)
	for _, tenant := range []struct {
		name string
		pg   *throwawaypg.Cluster
	}{{"acme", acme}, {"globex", globex}} {
		text += fmt.Sprintf(`  - name: %s
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    service: {role: service, password: service-secret, database: postgres}
    auth: {query: "%s"}
    pool_size: 3
`, tenant.name, tenant.pg.Port(), authQuery)
	}
	return text
}

// login is how a client logs in to one of several tenants.
type login struct {
	user, password string
	serverName     string // empty: without TLS
	options        string
}

// as logs in to the database app through the port of a mode.
func (r *rig) as(mode string, l login) (*pgx.Conn, error) {
	r.t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s/app?sslmode=disable", r.addr[mode]))
	must(r.t, err)
	config.User, config.Password = l.user, l.password
	if l.serverName != "" {
		config.TLSConfig = &tls.Config{ServerName: l.serverName, InsecureSkipVerify: true} // it is the name that counts here
	}
	if l.options != "" {
		config.RuntimeParams["options"] = l.options
	}
	c, err := pgx.ConnectConfig(r.ctx(), config)
	if err == nil {
		r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

func TestTenantsAreToldApart(t *testing.T) {
	t.Parallel()
	acme, globex := ownCluster(t), ownCluster(t)
	must(t, globex.Exec(t.Context(), "ALTER ROLE alice PASSWORD 'other-secret'", `CREATE ROLE "bob.acme" LOGIN PASSWORD 'dotted'`))
	must(t, acme.Exec(t.Context(), `CREATE ROLE "carol.smith" LOGIN PASSWORD 'dotted'`))
	r := start(t, acme, twoTenants(t, acme, globex))
	home := map[string]int{"acme": acme.Port(), "globex": globex.Port()}
	const right, other = "alice-secret", "other-secret"
	for _, tc := range []struct {
		name   string
		login  login
		tenant string // empty: refused
		code   string
	}{
		{name: "suffix of the user", login: login{user: "alice.acme", password: right}, tenant: "acme"},
		{name: "suffix of the other", login: login{user: "alice.globex", password: other}, tenant: "globex"},
		{name: "a role with a dot", login: login{user: "carol.smith.acme", password: "dotted"}, tenant: "acme"},
		{name: "a role that looks like a suffix", login: login{user: "bob.acme.globex", password: "dotted"}, tenant: "globex"},
		{name: "server name", login: login{user: "alice", password: right, serverName: "acme.db.example"}, tenant: "acme"},
		{name: "server name of the other, in capitals", login: login{user: "alice", password: other, serverName: "GLOBEX.db.example"}, tenant: "globex"},
		{name: "option", login: login{user: "alice", password: right, options: "-c sluice.tenant=acme"}, tenant: "acme"},
		{name: "option beside others", login: login{user: "alice", password: other, options: "-c work_mem=3MB reference=globex"}, tenant: "globex"},
		{name: "all three agree", login: login{user: "alice.acme", password: right, serverName: "acme.db.example", options: "--sluice.tenant=acme"}, tenant: "acme"},
		{name: "suffix and server name disagree", login: login{user: "alice.acme", password: right, serverName: "globex.db.example"}, code: "28P01"},
		{name: "suffix and option disagree", login: login{user: "alice.acme", password: right, options: "-c sluice.tenant=globex"}, code: "28P01"},
		{name: "server name and option disagree", login: login{user: "alice", password: right, serverName: "acme.db.example", options: "reference=globex"}, code: "28P01"},
		{name: "two options disagree", login: login{user: "alice", password: right, options: "reference=acme -c sluice.tenant=globex"}, code: "28000"},
		{name: "password of the other tenant", login: login{user: "alice.acme", password: other}, code: "28P01"},
		{name: "no tenant", login: login{user: "alice", password: right}, code: "28P01"},
		{name: "unknown suffix", login: login{user: "alice.nobody", password: right}, code: "28P01"},
		{name: "unknown option", login: login{user: "alice", password: right, options: "-c sluice.tenant=nobody"}, code: "28P01"},
		{name: "server name of no tenant", login: login{user: "alice", password: right, serverName: "other.db.example"}, code: "28P01"},
	} {
		for _, mode := range modes {
			c, err := r.as(mode, tc.login)
			switch {
			case tc.tenant == "" && sqlstate(err) != tc.code:
				t.Errorf("%s, %s: %v, want %s", mode, tc.name, err, tc.code)
			case tc.tenant != "" && err != nil:
				t.Errorf("%s, %s: %v", mode, tc.name, err)
			case tc.tenant != "":
				if got, want := r.value(c, "SELECT current_setting('port')"), fmt.Sprint(home[tc.tenant]); got != want {
					t.Errorf("%s, %s: on the Postgres at %s, want %s", mode, tc.name, got, want)
				}
				_ = c.Close(context.Background())
			}
		}
	}
	// A tenant that does not exist looks like a wrong password, to the letter.
	_, wrong := r.as("session", login{user: "alice.acme", password: "wrong"})
	_, unknown := r.as("session", login{user: "alice.nobody", password: "wrong"})
	if a, b := lastWords(wrong), lastWords(unknown); strings.ReplaceAll(b, "alice.nobody", "alice.acme") != a {
		t.Errorf("a wrong password: %q; an unknown tenant: %q", a, b)
	}
}

// lastWords is what Postgres would have said.
func lastWords(err error) string {
	var e *pgconn.PgError
	if !asPgError(err, &e) {
		return fmt.Sprint(err)
	}
	return strings.Join([]string{e.Severity, e.Code, e.Message, e.Detail, e.Hint}, "|")
}

// TestTenantsShareNothing has the same role and the same names in two tenants: statements, settings, limits, cancel keys.
func TestTenantsShareNothing(t *testing.T) {
	t.Parallel()
	acme, globex := ownCluster(t), ownCluster(t)
	text := twoTenants(t, acme, globex)
	r := start(t, acme, strings.Replace(text, "    pool_size: 3\n", "    pool_size: 3\n    max_clients: 2\n", 1)) // acme's alone
	var clients []*pgx.Conn
	for i, tenant := range []string{"acme", "globex", "acme", "globex", "globex"} {
		c, err := r.as("transaction", login{user: "alice." + tenant, password: "alice-secret"})
		must(t, err)
		_, err = c.Prepare(r.ctx(), "same", fmt.Sprintf("SELECT 'client %d, ' || current_setting('port')", i))
		must(t, err)
		clients = append(clients, c)
	}
	if _, err := r.as("transaction", login{user: "alice.acme", password: "alice-secret"}); sqlstate(err) != "53300" || !strings.Contains(lastWords(err), "max_clients") {
		t.Errorf("a third client of acme: %s, want 53300 that names max_clients", lastWords(err))
	}
	for range 3 {
		for i, c := range clients {
			port := acme.Port()
			if i == 1 || i > 2 {
				port = globex.Port()
			}
			if got, want := r.value(c, "same"), fmt.Sprintf("client %d, %d", i, port); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	globex.StopServer()
	if got := r.value(clients[0], "SELECT 'alive'"); got != "alive" {
		t.Errorf("with the other tenant's Postgres down: %q", got)
	}
	_, err := r.as("transaction", login{user: "alice.acme", password: "wrong"})
	if sqlstate(err) != "28P01" && sqlstate(err) != "53300" {
		t.Errorf("a login of acme while globex is down: %v", err)
	}
}

// TestListenerServesItsTenantsOnly has a port for one tenant: others look unknown there.
func TestListenerServesItsTenantsOnly(t *testing.T) {
	t.Parallel()
	acme, globex := ownCluster(t), ownCluster(t)
	r := start(t, acme, strings.Replace(twoTenants(t, acme, globex), "mode: session}", "mode: session, tenants: [globex]}", 1))
	for _, tc := range []struct{ mode, user, code string }{
		{"session", "alice.globex", ""}, {"session", "alice.acme", "28P01"}, {"transaction", "alice.globex", ""}, {"transaction", "alice.acme", ""},
	} {
		if _, err := r.as(tc.mode, login{user: tc.user, password: "alice-secret"}); sqlstate(err) != tc.code || err != nil && tc.code == "" {
			t.Errorf("%s on the %s port: %v, want %q", tc.user, tc.mode, err, tc.code)
		}
	}
}

// TestUnixSocketsOnBothSides has no TCP anywhere: listeners and Postgres are reached by sockets.
func TestUnixSocketsOnBothSides(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t, "host all alice 127.0.0.1/32 reject")
	dir, err := os.MkdirTemp("", "sluice") // t.TempDir's paths are too long for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	text := strings.Replace(base(pg, ""), "host: 127.0.0.1", fmt.Sprintf("host: %q", pg.SocketDir()), 1)
	for i, mode := range modes {
		text = strings.Replace(text, fmt.Sprintf(`"127.0.0.1:0", mode: %s`, mode), fmt.Sprintf(`%q, mode: %s`, filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", 6000+i)), mode), 1)
	}
	r := start(t, pg, text)
	for i, mode := range modes {
		url := fmt.Sprintf("host=%s port=%d user=alice dbname=app password=", dir, 6000+i)
		c, err := pgx.Connect(r.ctx(), url+"alice-secret")
		must(t, err)
		if got := r.value(c, "SELECT coalesce(inet_client_addr()::text, 'socket')"); got != "socket" {
			t.Errorf("%s: Postgres sees %s", mode, got)
		}
		_, ended := c.Exec(r.ctx(), "SELECT 1/0")
		if sqlstate(ended) != "22012" {
			t.Errorf("%s: %v", mode, ended)
		}
		if _, err := pgx.Connect(r.ctx(), url+"wrong"); sqlstate(err) != "28P01" {
			t.Errorf("%s: a wrong password: %v, want 28P01", mode, err)
		}
		r.cancelOver(mode, c)
		_ = c.Close(context.Background())
	}
}

// cancelOver cancels a query by the client's own way, which goes where the client is connected.
func (r *rig) cancelOver(mode string, c *pgx.Conn) {
	r.t.Helper()
	mark := "over_a_socket_" + mode
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "SELECT pg_sleep(1000) /* "+mark+" */")
		ended <- err
	}()
	r.eventually("it runs", func() bool { return r.activity(running, mark) == "1" })
	if _, ok := c.PgConn().Conn().(*net.UnixConn); !ok {
		r.t.Errorf("%s: connected by %T", mode, c.PgConn().Conn())
	}
	must(r.t, c.PgConn().CancelRequest(r.ctx()))
	if err := <-ended; sqlstate(err) != "57014" {
		r.t.Errorf("%s: cancelled: %v, want 57014", mode, err)
	}
}

func TestAliasThatIsGivenAnotherDatabase(t *testing.T) {
	t.Parallel()
	alias := func(dbname string) string {
		return base(cluster, fmt.Sprintf("databases: [{name: moving, dbname: %s}]", dbname))
	}
	r := start(t, cluster, alias("app"))
	url := strings.Replace(r.url("transaction", "alice", simple), "/app?", "/moving?", 1)
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(r.ctx(), url)
		must(t, err)
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	before := connect()
	if got := r.value(before, "SELECT current_database()::text"); got != "app" {
		t.Fatalf("before: %s", got)
	}
	must(t, r.srv.Reload(r.load(alias("template1"))))
	if got := r.value(connect(), "SELECT current_database()::text"); got != "template1" {
		t.Errorf("a new client is in %s, want template1", got)
	}
	if _, err := before.Exec(r.ctx(), "SELECT 1"); sqlstate(err) != "57P01" {
		t.Errorf("the old client: %v, want 57P01", err)
	}
}
