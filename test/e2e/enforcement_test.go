package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/internal/tlsconf"
)

// offering is base with TLS towards clients; more goes into the tls block.
func offering(cert pair, tenant, more string) string {
	return base(cluster, tenant) + fmt.Sprintf("tls: {cert_file: %q, key_file: %q%s}\n", cert.cert, cert.key, more)
}

func TestStagesOfTLSEnforcement(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert := a.issue("sluice.example")
	yaml := func(stage string) string { return offering(cert, "tls_enforcement: "+stage, "") }
	r := start(t, cluster, yaml("observe"))
	secure := fmt.Sprintf("sslmode=verify-full sslrootcert=%s", a.file)
	for _, stage := range []string{"observe", "warn", "enforce"} {
		must(t, r.srv.Reload(r.load(yaml(stage))))
		for _, mode := range modes {
			if got, err := psql(t, conninfo(r.addr[mode], "alice", secure), "SELECT current_user"); err != nil || got != "alice" {
				t.Errorf("%s, %s, with TLS: %q, %v", stage, mode, got, err)
			}
			got, err := psql(t, conninfo(r.addr[mode], "alice", "sslmode=disable"), "SELECT current_user")
			switch {
			case stage == "enforce" && (err == nil || !strings.Contains(err.Error(), "connection requires TLS")):
				t.Errorf("%s, %s: %q, %v, want a refusal", stage, mode, got, err)
			case stage == "enforce":
			case err != nil || !strings.HasSuffix(got, "alice"):
				t.Errorf("%s, %s: %q, %v", stage, mode, got, err)
			case strings.Contains(got, "NOTICE:  this connection is not encrypted") != (stage == "warn"):
				t.Errorf("%s, %s: psql prints %q", stage, mode, got)
			}
		}
	}
	report := r.srv.TLSLogins().Tenants[0]
	if report.PlainLogins != 4 || report.TLSLogins != 6 || len(report.Plain) != 1 || report.Plain[0].Application != "psql" || report.Plain[0].Stage != "enforce" {
		t.Errorf("report %+v", report)
	}
	if len(report.TLS) != 1 || report.TLS[0].Role != "alice" || report.TLS[0].Version != "TLS 1.3" || !strings.HasPrefix(report.TLS[0].Cipher, "TLS_") {
		t.Errorf("report %+v", report.TLS)
	}
}

func TestTheNoticeReachesDrivers(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := start(t, cluster, offering(a.issue("sluice.example"), "roles: [{name: alice, tls_enforcement: warn}]", ""))
	for _, mode := range modes {
		for user, want := range map[string]int{"alice": 1, "bob": 0} {
			config, err := pgx.ParseConfig(r.url(mode, user, ""))
			must(t, err)
			var notices []string
			config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Severity+" "+n.Code) }
			c, err := pgx.ConnectConfig(r.ctx(), config)
			must(t, err)
			if got := r.value(c, "SELECT current_user::text"); got != user || len(notices) != want || want == 1 && notices[0] != "NOTICE 01P01" {
				t.Errorf("%s: %s has notices %v, want %d", mode, got, notices, want)
			}
			_ = c.Close(r.ctx())
		}
	}
}

// Each tenant has a certificate of its own, by the name that selects the tenant too.
func TestServerNameSelectsCertificateAndTenant(t *testing.T) {
	t.Parallel()
	acmeCA, globexCA := newAuthority(t), newAuthority(t)
	acme, globex := ownCluster(t), ownCluster(t)
	must(t, globex.Exec(t.Context(), "ALTER ROLE alice PASSWORD 'other-secret'"))
	named := func(a *authority, name string) pair {
		return a.issueWith("sluice", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{name}, nil })
	}
	first, second := named(acmeCA, "acme.db.example"), named(globexCA, "globex.db.example")
	yaml := twoTenants(t, acme, globex)
	i := strings.Index(yaml, "tls: {")
	j := i + strings.Index(yaml[i:], "\n")
	yaml = yaml[:i] + fmt.Sprintf("tls: {cert_file: %q, key_file: %q, certificates: [{cert_file: %q, key_file: %q}]}", first.cert, first.key, second.cert, second.key) + yaml[j:]
	r := start(t, acme, yaml)
	connect := func(mode, name, password string, ca *authority) (string, error) {
		config, err := pgx.ParseConfig(fmt.Sprintf("postgres://alice:%s@%s/app?sslmode=disable", password, r.addr[mode]))
		must(t, err)
		config.TLSConfig = &tls.Config{ServerName: name, RootCAs: ca.pool()} // verify-full
		c, err := pgx.ConnectConfig(r.ctx(), config)
		if err != nil {
			return "", err
		}
		defer func() { _ = c.Close(r.ctx()) }()
		return r.value(c, "SELECT current_setting('port')"), nil
	}
	for _, mode := range modes {
		for _, tc := range []struct {
			name, password string
			ca             *authority
			port           int // 0: refused
		}{
			{"acme.db.example", "alice-secret", acmeCA, acme.Port()},
			{"globex.db.example", "other-secret", globexCA, globex.Port()},
			{"globex.db.example", "alice-secret", globexCA, 0}, // the other tenant's password
			{"acme.db.example", "alice-secret", globexCA, 0},   // its certificate is the other's
			{"globex.db.example", "other-secret", acmeCA, 0},
			{"initech.db.example", "alice-secret", acmeCA, 0},
		} {
			got, err := connect(mode, tc.name, tc.password, tc.ca)
			if (err == nil) != (tc.port != 0) || err == nil && got != fmt.Sprint(tc.port) {
				t.Errorf("%s: %s: on %q, %v, want %d", mode, tc.name, got, err, tc.port)
			}
		}
	}
}

func TestCertificatesBesidePasswordsByLibpq(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	server := a.issue("sluice.example")
	yaml := offering(server, "", fmt.Sprintf(", client_cert: optional, client_ca_file: %q", a.file)) +
		"ident_maps: [{map: people, identity: '/(.*)@example\\.com', role: '\\1'}, {map: people, identity: 'spiffe://example.com/job', role: bob}]\n"
	yaml = strings.Replace(yaml, "auth: {", "auth: {client_cert: verify-full, cert_names: [email, uri], map: people, ", 1)
	r := start(t, cluster, yaml)
	mail := func(address string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.EmailAddresses = []string{address} }
	}
	job, err := url.Parse("spiffe://example.com/job")
	must(t, err)
	for name, tc := range map[string]struct {
		user string
		cert pair
		ok   bool
	}{
		"its own":        {"alice", a.issueWith("a", mail("alice@example.com")), true},
		"by its uri":     {"bob", a.issueWith("b", func(c *x509.Certificate) { c.URIs = []*url.URL{job} }), true},
		"another's":      {"bob", a.issueWith("c", mail("alice@example.com")), false},
		"another domain": {"alice", a.issueWith("d", mail("alice@example.com.evil.org")), false},
		"common name":    {"alice", a.issue("alice"), false},
		"stranger's":     {"alice", stranger.issueWith("e", mail("alice@example.com")), false},
		"none":           {"alice", pair{}, false},
	} {
		for _, mode := range modes {
			with := "sslmode=verify-full sslrootcert=" + a.file
			if tc.cert.cert != "" {
				with += " sslcert=" + tc.cert.cert + " sslkey=" + tc.cert.key
			}
			got, err := psql(t, conninfo(r.addr[mode], tc.user, with), "SELECT current_user")
			if (err == nil) != tc.ok || tc.ok && got != tc.user {
				t.Errorf("%s: %s: %q, %v, want let in: %t", mode, name, got, err, tc.ok)
			}
			wrong := strings.Replace(conninfo(r.addr[mode], tc.user, with), tc.user+"-secret", "wrong", 1)
			if _, err := psql(t, wrong, "SELECT 1"); err == nil {
				t.Errorf("%s: %s: let in with a wrong password", mode, name)
			}
		}
	}
}

func TestAuthoritiesAreWhatLibpqNeeds(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	leaf := a.issue("sluice.example")
	text, err := os.ReadFile(leaf.cert)
	must(t, err)
	root, err := os.ReadFile(a.file)
	must(t, err)
	chain := filepath.Join(t.TempDir(), "chain.pem")
	must(t, os.WriteFile(chain, append(text, root...), 0o600))
	selfCert, selfKey, err := tlsconf.SelfSigned([]string{"localhost", "127.0.0.1"}, time.Now())
	must(t, err)
	self := pair{filepath.Join(t.TempDir(), "self.pem"), filepath.Join(t.TempDir(), "self.key")}
	must(t, os.WriteFile(self.cert, selfCert, 0o600))
	must(t, os.WriteFile(self.key, selfKey, 0o600))
	for name, yaml := range map[string]string{
		"chain": offering(pair{chain, leaf.key}, "", ""), "signed by itself": offering(self, "", ""),
		"file": offering(leaf, "", fmt.Sprintf(", ca_file: %q, curves: [P-256], min_version: \"1.3\"", a.file)),
	} {
		r := start(t, cluster, yaml)
		file := filepath.Join(t.TempDir(), "ca.pem")
		must(t, os.WriteFile(file, r.srv.Authorities(), 0o600))
		for _, mode := range modes {
			if got, err := psql(t, conninfo(r.addr[mode], "alice", "sslmode=verify-full sslrootcert="+file), "SELECT current_user"); err != nil || got != "alice" {
				t.Errorf("%s: %s: %q, %v", name, mode, got, err)
			}
		}
	}
	if r := start(t, cluster, offering(leaf, "", "")); len(r.srv.Authorities()) > 0 {
		t.Error("an authority out of nowhere")
	}
}

func TestCertificatesTowardsPostgresReloadWhenTheirFilesChange(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pg := tlsCluster(t, a, "hostssl all alice 127.0.0.1/32 cert")
	own := a.issue("bob") // Postgres takes it for nobody that logs in here
	yaml := strings.Replace(secured(pg, a, a.issue("sluice.example"), ""), "tls_mode: verify-full,",
		fmt.Sprintf("tls_mode: verify-full, cert_file: %q, key_file: %q,", own.cert, own.key), 1)
	r := start(t, pg, yaml)
	if _, err := pgx.Connect(r.ctx(), r.url("session", "alice", "")); err == nil {
		t.Fatal("let in with another's certificate")
	}
	must(t, os.WriteFile(own.key, []byte("half a key"), 0o600))
	r.eventually("the log tells of a key that cannot be used", func() bool {
		return strings.Contains(r.logs.String(), "certificate reload failed") && strings.Contains(r.logs.String(), own.key)
	})
	right := a.issueWith("right", func(c *x509.Certificate) { c.Subject.CommonName = "alice" })
	must(t, os.Rename(right.key, own.key))
	must(t, os.Rename(right.cert, own.cert))
	r.eventually("the log tells of new certificates", func() bool { return strings.Contains(r.logs.String(), "certificates reloaded") })
	for _, mode := range modes {
		if got := r.value(r.connect(mode, "alice", ""), "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "/CN=alice" {
			t.Errorf("%s: Postgres was shown %s", mode, got)
		}
	}
}

func TestTheWatchOfCertificatesFollowsAReload(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	first, second, third := a.issue("first"), a.issue("second"), a.issue("third")
	r := start(t, cluster, offering(first, "", ""))
	must(t, r.srv.Reload(r.load(offering(second, "", ""))))
	must(t, os.Rename(third.key, second.key))
	must(t, os.Rename(third.cert, second.cert))
	r.eventually("the log tells of new certificates", func() bool { return strings.Contains(r.logs.String(), "certificates reloaded") })
	nc, err := tls.Dial("tcp", r.addr["session"], &tls.Config{RootCAs: a.pool(), ServerName: "localhost", NextProtos: []string{"postgresql"}})
	must(t, err)
	defer func() { _ = nc.Close() }()
	if got := nc.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "third" {
		t.Errorf("the certificate of %s is shown, want the third", got)
	}
	must(t, r.srv.Reload(r.load(strings.Replace(offering(second, "", ""), "admin:", "watch: none\nadmin:", 1))))
	seen := r.logs.String()
	must(t, os.WriteFile(second.key, []byte("half a key"), 0o600)) // nobody looks any more
	err = r.srv.Reload(r.load(strings.Replace(offering(second, "", ""), "admin:", "watch: none\nadmin:", 1)))
	if err == nil || !strings.Contains(err.Error(), second.key) {
		t.Errorf("Reload = %v, want an error that names %s", err, second.key)
	}
	if strings.Contains(strings.TrimPrefix(r.logs.String(), seen), "certificate reload failed") {
		t.Error("a watch goes on that is off")
	}
}
