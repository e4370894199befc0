package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sluice/internal/throwawaypg"
)

// byCertificate is a configuration whose clients log in by certificate. Sluice logs in to Postgres with the password of the
// role's block.
func byCertificate(pg *throwawaypg.Cluster, a *authority, rule string) string {
	server := a.issue("sluice.example")
	return fmt.Sprintf(`
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tls: {cert_file: %q, key_file: %q, client_cert: %s, client_ca_file: %q}
tenants:
  - name: default
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    auth: {method: cert}
    roles:
      - {name: alice, backend: {password: alice-secret}}
      - {name: bob, backend: {password: bob-secret}}
`, server.cert, server.key, rule, a.file, pg.Port())
}

// connectAs connects with a client certificate, or without one.
func (r *rig) connectAs(mode, user string, a *authority, p pair) (*pgx.Conn, error) {
	url := fmt.Sprintf("postgres://%s@%s/app?sslmode=verify-full&sslrootcert=%s", user, r.addr[mode], a.file)
	if p.cert != "" {
		url += "&sslcert=" + p.cert + "&sslkey=" + p.key
	}
	c, err := pgx.Connect(r.ctx(), url)
	if err == nil {
		r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

func TestClientCertificatesLogIn(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	for _, rule := range []string{"optional", "required"} {
		t.Run(rule, func(t *testing.T) {
			r := start(t, cluster, byCertificate(cluster, a, rule))
			for _, mode := range modes {
				c, err := r.connectAs(mode, "alice", a, a.issue("alice"))
				must(t, err)
				if got := r.value(c, "SELECT current_user::text"); got != "alice" {
					t.Errorf("logged in as %q", got)
				}
				_, err = r.connectAs(mode, "bob", a, a.issue("alice"))
				if sqlstate(err) != "28000" || !strings.Contains(err.Error(), `certificate authentication failed for user "bob"`) {
					t.Errorf("with another's certificate: %v", err)
				}
				_, err = r.connectAs(mode, "alice", a, stranger.issue("alice"))
				if err == nil || sqlstate(err) != "" {
					t.Errorf("with a certificate of another authority: %v, want a failed handshake", err)
				}
				_, err = r.connectAs(mode, "alice", a, pair{})
				switch {
				case err == nil:
					t.Error("let in without a certificate")
				case rule == "optional" && (sqlstate(err) != "28000" || !strings.Contains(err.Error(), "connection requires a valid client certificate")):
					t.Errorf("without a certificate: %v", err)
				}
				_, err = pgx.Connect(r.ctx(), r.url(mode, "alice", ""))
				if sqlstate(err) != "28000" || !strings.Contains(err.Error(), "requires TLS") {
					t.Errorf("without TLS: %v", err)
				}
			}
		})
	}
}

func TestCertificatesLogInByLibpq(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := start(t, cluster, byCertificate(cluster, a, "required"))
	alice := a.issue("alice")
	for _, mode := range modes {
		info := strings.Replace(conninfo(r.addr[mode], "alice", fmt.Sprintf("sslmode=verify-full sslrootcert=%s sslcert=%s sslkey=%s", a.file, alice.cert, alice.key)), "password=alice-secret", "", 1)
		if got, err := psql(t, info, "SELECT current_user"); err != nil || got != "alice" {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
	}
}

func TestANewAuthorityOfClientsCountsFromTheReloadOn(t *testing.T) {
	t.Parallel()
	a, next := newAuthority(t), newAuthority(t)
	yaml := byCertificate(cluster, a, "required")
	r := start(t, cluster, yaml)
	old, renewed := a.issue("alice"), next.issue("alice")
	_, err := r.connectAs("transaction", "alice", a, old)
	must(t, err)
	clientCA := a.write("clients.pem", "CERTIFICATE", next.cert.Raw)
	must(t, r.srv.Reload(r.load(strings.Replace(yaml, fmt.Sprintf("client_ca_file: %q", a.file), fmt.Sprintf("client_ca_file: %q", clientCA), 1))))
	if _, err := r.connectAs("transaction", "alice", a, old); err == nil {
		t.Error("a certificate of the old authority is let in")
	}
	_, err = r.connectAs("transaction", "alice", a, renewed)
	must(t, err)
}

func TestSluiceLogsInToPostgresByCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pg := tlsCluster(t, a, "hostssl all alice 127.0.0.1/32 cert", "hostssl all bob 127.0.0.1/32 scram-sha-256 clientcert=verify-ca")
	alice := a.issue("alice")
	yaml := secured(pg, a, a.issue("sluice.example"), "")
	withCert := strings.Replace(yaml, "tls_mode: verify-full,", fmt.Sprintf("tls_mode: verify-full, cert_file: %q, key_file: %q,", alice.cert, alice.key), 1)
	r := start(t, pg, withCert)
	for _, mode := range modes {
		for _, user := range []string{"alice", "bob"} { // bob needs a certificate of anybody beside the password
			if got := r.value(r.connect(mode, user, ""), "SELECT client_dn || ', ' || current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "/CN=alice, "+user {
				t.Errorf("%s: %s logged in to Postgres as %q", mode, user, got)
			}
		}
	}
	without := start(t, pg, yaml)
	for _, user := range []string{"alice", "bob"} {
		if _, err := pgx.Connect(without.ctx(), without.url("transaction", user, "")); err == nil {
			t.Errorf("%s was let in by a Postgres that wants a certificate", user)
		}
	}
}
