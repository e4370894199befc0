package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/throwawaypg"
	"sluice/internal/tlsconf"
)

// withUsers is a configuration whose logins come from a users file.
func withUsers(pg *throwawaypg.Cluster, method string) string {
	return fmt.Sprintf(`
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tenants:
  - name: default
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    auth: {method: %s, users_file: users.txt}
`, pg.Port(), method)
}

// startWithUsers starts Sluice with a users file of alice's secret in the given form.
func startWithUsers(t *testing.T, pg *throwawaypg.Cluster, method, secret string) *rig {
	t.Helper()
	dir := t.TempDir()
	users := filepath.Join(dir, "users.txt")
	must(t, os.WriteFile(users, []byte(fmt.Sprintf("; users\n\"alice\" %q\n", secret)), 0o600))
	return start(t, pg, strings.Replace(withUsers(pg, method), "users.txt", fmt.Sprintf("%q", users), 1))
}

func TestEveryStoredSecretLogsInWithEveryMethod(t *testing.T) {
	t.Parallel()
	md5pg := ownCluster(t, "host all alice 127.0.0.1/32 md5")
	must(t, md5pg.Exec(context.Background(), "SET password_encryption = md5", "ALTER ROLE alice PASSWORD 'alice-secret'"))
	secretOf := func(pg *throwawaypg.Cluster) string {
		v, err := pg.Value(context.Background(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'")
		must(t, err)
		return v
	}
	for _, tc := range []struct {
		name, method, secret string
		pg                   *throwawaypg.Cluster
	}{
		{"password, auto", "auto", "alice-secret", cluster},
		{"password, scram", "scram-sha-256", "alice-secret", cluster},
		{"password, md5", "md5", "alice-secret", cluster},
		{"password, password", "password", "alice-secret", cluster},
		{"verifier, auto", "auto", secretOf(cluster), cluster},
		{"verifier, scram", "scram-sha-256", secretOf(cluster), cluster},
		{"verifier, md5", "md5", secretOf(cluster), cluster},
		{"verifier, password", "password", secretOf(cluster), cluster},
		{"md5 hash, auto", "auto", "", nil},
		{"trust", "trust", "alice-secret", cluster},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.pg == nil {
				tc.pg, tc.secret = md5pg, "md5"+md5Hash("alice-secretalice")
			}
			r := startWithUsers(t, tc.pg, tc.method, tc.secret)
			for _, mode := range modes {
				if got := r.value(r.connect(mode, "alice", ""), "SELECT current_user::text"); got != "alice" {
					t.Errorf("%s: logged in as %q", mode, got)
				}
			}
			if tc.method == "trust" {
				return
			}
			_, err := pgx.Connect(r.ctx(), strings.Replace(r.url("transaction", "alice", ""), "alice-secret", "wrong", 1))
			if sqlstate(err) != "28P01" {
				t.Errorf("a wrong password: %v, want 28P01", err)
			}
		})
	}
}

func TestRefusedLoginsNeverReachPostgres(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	extra := `
other_databases: deny
databases: [{name: app}]
roles:
  - {name: bob, network: {allowed_cidrs: ["10.0.0.0/8"]}}
  - {name: carol, modes: [session]}`
	r := start(t, pg, base(pg, extra))
	backends := func() string {
		return r.activity("SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename NOT IN ('postgres', 'service')")
	}
	for _, tc := range []struct{ name, url, want string }{
		{"wrong password", strings.Replace(r.url("transaction", "alice", ""), "alice-secret", "wrong", 1), "28P01"},
		{"unknown role", strings.ReplaceAll(r.url("transaction", "alice", ""), "alice", "nobody"), "28P01"},
		{"wrong address", r.url("transaction", "bob", ""), "28000"},
		{"wrong mode", strings.Replace(r.url("transaction", "alice", ""), "alice:", "carol:", 1), "28000"},
		{"unknown database", strings.Replace(r.url("session", "alice", ""), "/app", "/other", 1), "3D000"},
		{"unknown database and wrong password", strings.Replace(strings.Replace(r.url("session", "alice", ""), "/app", "/other", 1), "alice-secret", "wrong", 1), "28P01"},
		{"replication", r.url("session", "alice", "replication=true"), "0A000"},
	} {
		_, err := pgx.Connect(r.ctx(), tc.url)
		if got := sqlstate(err); got != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	if got := backends(); got != "0" {
		t.Errorf("%s backends were opened for refused clients", got)
	}
}

func TestChangedPasswordRetiresBackends(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, ""))
	old := r.connect("transaction", "alice", "")
	before := r.value(old, "SELECT pg_backend_pid()::text")
	must(t, pg.Exec(context.Background(), "ALTER ROLE alice PASSWORD 'new'"))
	newURL := strings.Replace(r.url("transaction", "alice", ""), "alice-secret", "new", 1)
	var c *pgx.Conn
	r.eventually("the new password works", func() bool {
		var err error
		c, err = pgx.Connect(r.ctx(), newURL)
		return err == nil
	})
	defer c.Close(context.Background())
	if got := r.value(c, "SELECT pg_backend_pid()::text"); got == before {
		t.Error("a backend that logged in with the old password is reused")
	}
	if _, err := pgx.Connect(r.ctx(), r.url("transaction", "alice", "")); sqlstate(err) != "28P01" {
		t.Errorf("the old password: %v, want 28P01", err)
	}
}

func TestTLSOnBothSides(t *testing.T) {
	t.Parallel()
	cert, key, err := tlsconf.SelfSigned([]string{"127.0.0.1", "localhost"}, time.Now())
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := throwawaypg.Start(ctx, throwawaypg.Options{TLS: &throwawaypg.TLS{Cert: cert, Key: key}})
	must(t, err)
	t.Cleanup(func() { _ = pg.Stop() })
	must(t, pg.Exec(ctx, `CREATE ROLE alice LOGIN PASSWORD 'alice-secret'`, `CREATE ROLE service LOGIN SUPERUSER PASSWORD 'service-secret'`, `CREATE DATABASE app`))
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(certFile, cert, 0o600))
	must(t, os.WriteFile(keyFile, key, 0o600))
	for _, backendMode := range []string{"prefer", "require", "verify-ca", "verify-full"} {
		t.Run(backendMode, func(t *testing.T) {
			yaml := base(pg, "require_tls: true") + fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", certFile, keyFile)
			ca := ""
			if strings.HasPrefix(backendMode, "verify") {
				ca = fmt.Sprintf(", ca_file: %q", certFile)
			}
			r := start(t, pg, strings.Replace(yaml, "tls_mode: disable", "tls_mode: "+backendMode+ca, 1))
			for _, mode := range modes {
				url := strings.Replace(r.url(mode, "alice", ""), "sslmode=disable", "sslmode=verify-full&sslrootcert="+certFile, 1)
				c, err := pgx.Connect(r.ctx(), url)
				must(t, err)
				if got := r.value(c, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "true" {
					t.Errorf("%s: TLS to Postgres: %s", mode, got)
				}
				_ = c.Close(context.Background())
				_, err = pgx.Connect(r.ctx(), r.url(mode, "alice", ""))
				if sqlstate(err) != "28000" || !strings.Contains(err.Error(), "requires TLS") {
					t.Errorf("%s: without TLS: %v, want 28000", mode, err)
				}
			}
		})
	}
	t.Run("verify-full fails for another name", func(t *testing.T) {
		yaml := strings.Replace(base(pg, ""), "tls_mode: disable", fmt.Sprintf("tls_mode: verify-full, server_name: other.example, connect_timeout: 300ms, ca_file: %q", certFile), 1)
		r := start(t, pg, yaml)
		if _, err := pgx.Connect(r.ctx(), r.url("transaction", "alice", "")); err == nil {
			t.Error("logged in through a backend with the wrong certificate")
		}
	})
}

func TestLimitsAnswer53300AndLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "max_clients: 3\nroles: [{name: bob, max_clients: 1}]"))
	bob := r.connect("transaction", "bob", "")
	_, err := pgx.Connect(r.ctx(), r.url("transaction", "bob", ""))
	if sqlstate(err) != "53300" {
		t.Errorf("the second bob: %v, want 53300", err)
	}
	r.connect("session", "bob", "") // per mode
	r.connect("transaction", "alice", "")
	r.connect("transaction", "alice", "")
	_, err = pgx.Connect(r.ctx(), r.url("transaction", "alice", ""))
	if sqlstate(err) != "53300" {
		t.Errorf("the fourth client: %v, want 53300", err)
	}
	_ = bob.Close(context.Background())
	r.eventually("the slot is free again", func() bool {
		c, err := pgx.Connect(r.ctx(), r.url("transaction", "alice", ""))
		if err == nil {
			_ = c.Close(context.Background())
		}
		return err == nil
	})
}

func TestReloadIsAllOrNothing(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	c := r.connect("transaction", "alice", "")
	r.exec(c, "SELECT 1")
	broken := r.load(base(cluster, ""))
	broken.TLS.CertFile, broken.TLS.KeyFile = "/does/not/exist", "/does/not/exist"
	if err := r.srv.Reload(broken); err == nil || !strings.Contains(err.Error(), "tls") {
		t.Errorf("a reload that must fail: %v", err)
	}
	if got := r.value(c, "SELECT 'fine'"); got != "fine" {
		t.Errorf("after a failed reload: %q", got)
	}
	must(t, r.srv.Reload(r.load(base(cluster, `network: {denied_cidrs: ["127.0.0.0/8"]}`))))
	r.eventually("the session is revoked", func() bool {
		_, err := c.Exec(r.ctx(), "SELECT 1")
		return sqlstate(err) == "57P01" || c.IsClosed()
	})
	if _, err := pgx.Connect(r.ctx(), r.url("transaction", "alice", "")); sqlstate(err) != "28000" || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("a new client: %v, want 28000 with its address", err)
	}
}

func TestDatabaseURLAlone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, role string
		others     bool
	}{{"a role that may read pg_authid", "service", true}, {"a role that may not", "alice", false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := fmt.Sprintf("postgres://%s:%s-secret@127.0.0.1:%d/app?sslmode=disable", tc.role, tc.role, cluster.Port())
			r := startURL(t, cluster, url)
			if got := r.value(r.connect("transaction", tc.role, ""), "SELECT current_user::text"); got != tc.role {
				t.Errorf("logged in as %q", got)
			}
			_, err := pgx.Connect(r.ctx(), r.url("session", "bob", ""))
			if ok := err == nil; ok != tc.others {
				t.Errorf("another role: %v", err)
			}
		})
	}
}
