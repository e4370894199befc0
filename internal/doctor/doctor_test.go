package doctor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/internal/config"
	"sluice/internal/logbuf"
	"sluice/internal/throwawaypg"
)

const testTimeout = 3 * time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sick starts a Postgres in which much is wrong. Its output goes to log, which may be nil.
func sick(t *testing.T, log io.Writer) *throwawaypg.Cluster {
	t.Helper()
	pg := throwawaypg.MustStart(t, throwawaypg.Options{
		Log:      log,
		Settings: map[string]string{"max_connections": "60"},
		HBA: []string{
			"host all rejected 127.0.0.1/32 reject", "host all clear 127.0.0.1/32 password", "host all olddigest 127.0.0.1/32 md5",
			"host all trusted 127.0.0.1/32 trust", "host all oddly 127.0.0.1/32 ident",
		},
	})
	must(t, pg.Exec(t.Context(),
		`CREATE ROLE service LOGIN PASSWORD 'service-secret'`,
		`CREATE SCHEMA sluice`,
		`CREATE FUNCTION sluice.login(name text) RETURNS TABLE (role text, verifier text, valid_until timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
		 SET search_path = pg_catalog AS 'SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = name AND rolcanlogin AND NOT rolsuper'`,
		`REVOKE EXECUTE ON FUNCTION sluice.login(text) FROM PUBLIC`,
		`GRANT USAGE ON SCHEMA sluice TO service`, `GRANT EXECUTE ON FUNCTION sluice.login(text) TO service`,
		`CREATE ROLE weak LOGIN PASSWORD 'weak-secret'`,
		`CREATE ROLE good LOGIN PASSWORD 'good-secret'`, `CREATE ROLE trickle LOGIN PASSWORD 'trickle-secret'`,
		`CREATE ROLE nologin PASSWORD 'nologin-secret'`,
		`CREATE ROLE expired LOGIN PASSWORD 'expired-secret' VALID UNTIL '2020-01-01'`,
		`CREATE ROLE capped LOGIN PASSWORD 'capped-secret' CONNECTION LIMIT 3`,
		`CREATE ROLE "no one" LOGIN PASSWORD 'no-secret' CONNECTION LIMIT 0`,
		`CREATE ROLE bare LOGIN`,
		`CREATE ROLE rejected LOGIN PASSWORD 'rejected-secret'`,
		`CREATE ROLE clear LOGIN PASSWORD 'clear-secret'`,
		`CREATE ROLE trusted LOGIN`,
		`CREATE ROLE oddly LOGIN PASSWORD 'oddly-secret'`,
		`SET password_encryption = md5; CREATE ROLE digest LOGIN PASSWORD 'digest-secret'; CREATE ROLE olddigest LOGIN PASSWORD 'olddigest-secret'`,
		`CREATE DATABASE app`, `CREATE DATABASE private`, `REVOKE CONNECT ON DATABASE private FROM PUBLIC`,
		`CREATE DATABASE closed ALLOW_CONNECTIONS false`,
	))
	return pg
}

const (
	withQuery = `
service: {role: service, password: service-secret}
auth: {query: "SELECT role, verifier, valid_until FROM sluice.login($1)"}
`
	withFile = `
service: {role: service, password: service-secret}
auth: {users_file: users.txt}
`
)

// configuration writes a configuration, with a tenant's further lines, and loads it.
func configuration(t *testing.T, pg *throwawaypg.Cluster, top, tenant, users string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	text := top
	if !strings.Contains(top, "listeners:") {
		text += "listeners: [{name: session, address: \"127.0.0.1:5432\", mode: session}, {name: transaction, address: \"127.0.0.1:6543\", mode: transaction}]\n"
	}
	text += "admin: {address: \"\"}\ntenants:\n  - "
	if !strings.Contains(tenant, "backend: {host") {
		text += fmt.Sprintf("backend: {host: 127.0.0.1, port: %d, tls_mode: disable}\n    ", pg.Port())
	}
	text += strings.ReplaceAll(strings.TrimSpace(tenant), "\n", "\n    ") + "\n"
	must(t, os.WriteFile(filepath.Join(dir, "sluice.yaml"), []byte(text), 0o600))
	if users != "" {
		must(t, os.WriteFile(filepath.Join(dir, "users.txt"), []byte(users), 0o600))
	}
	cfg, err := config.Load(filepath.Join(dir, "sluice.yaml"))
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return cfg
}

// examined returns what is found, after a look for secrets in it.
func examined(t *testing.T, cfg *config.Config, roles ...string) (r *Report, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	r, err := Examine(ctx, Params{Config: cfg, Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	var plain, encoded bytes.Buffer
	must(t, r.WriteText(&plain))
	must(t, r.WriteJSON(&encoded))
	for _, out := range []string{plain.String(), encoded.String()} {
		if leaked := regexp.MustCompile(`[a-z]-secret|SCRAM-SHA-256\$[0-9]|md5[0-9a-f]{32}`).FindString(out); leaked != "" {
			t.Errorf("a secret is printed, %q:\n%s", leaked, out)
		}
	}
	return r, plain.String()
}

// wantFinding looks for "level: text > what to do", in the blocks whose subject ends so.
func wantFinding(t *testing.T, r *Report, subject, want string) {
	t.Helper()
	var all []string
	for _, b := range r.Blocks {
		if !strings.HasSuffix(b.Subject, subject) {
			continue
		}
		for _, f := range b.Findings {
			line := fmt.Sprintf("%s: %s > %s %s", f.Level, f.Text, f.Advice, strings.Join(f.SQL, " "))
			if regexp.MustCompile(want).MatchString(line) {
				return
			}
			all = append(all, line)
		}
	}
	t.Errorf("%s: nothing like\n%s\nin\n%s", subject, want, strings.Join(all, "\n"))
}

// verifierOf returns what Postgres stores of a role, for a users file.
func verifierOf(t *testing.T, pg *throwawaypg.Cluster, role string) string {
	t.Helper()
	text, err := pg.Value(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = '"+role+"'")
	must(t, err)
	return text
}

func TestLoginsAreExplained(t *testing.T) {
	t.Parallel()
	log := &logbuf.Buffer{}
	pg := sick(t, log)
	weak := verifierOf(t, pg, "weak")
	for _, c := range []struct {
		name                     string
		top, tenant, users, role string
		want                     []string
		problems                 bool
	}{
		{"all is well", "", withQuery, "", "good", []string{
			`^ok: auth.query has a SCRAM verifier of it`,
			`^ok: listener session \(127.0.0.1:5432, session mode\): asks for the password by SCRAM-SHA-256`,
			`^ok: listener transaction .*SCRAM-SHA-256`,
			`^ok: database app, postgres: PostgreSQL asks for SCRAM-SHA-256, and its verifier of "good" is that of auth.query`,
		}, false},
		{"md5 in pg_authid, method scram-sha-256", "", strings.Replace(withQuery, "auth: {", "auth: {method: scram-sha-256, ", 1), "", "digest", []string{
			`^problem: auth.query has an md5 hash of it, and auth.method is scram-sha-256.*password_encryption.*ALTER ROLE "digest" PASSWORD`,
		}, true},
		{"md5 in pg_authid, method auto, pg_hba.conf with scram-sha-256", "", withQuery, "", "digest", []string{
			`^warning: auth.query has an md5 hash`, `^ok: listener session .*by md5`, `^problem: database app, postgres: PostgreSQL asks for SCRAM-SHA-256, and auth.query has an md5 hash`,
		}, true},
		{"md5 in pg_authid, method auto, pg_hba.conf with md5", "", withQuery, "", "olddigest", []string{
			`^warning: auth.query has an md5 hash`, `^ok: database app, postgres: PostgreSQL lets Sluice in as "olddigest", with auth.query`,
		}, false},
		{"md5 in pg_authid, a verifier in the file", "", withFile, `"olddigest" "` + weak + `"`, "olddigest", []string{
			`^problem: database app, postgres: PostgreSQL asks for md5, which the SCRAM keys that clients of "olddigest" show do not answer`,
		}, true},
		{"md5 in pg_authid, the password in the file, pg_hba.conf with scram-sha-256", "",
			"service: {role: postgres, password: superuser-secret}\nauth: {users_file: users.txt}", `"digest" "digest-secret"`, "digest",
			[]string{`^problem: database .*PostgreSQL refuses "digest".*28P01.*PostgreSQL stores an md5 hash, and pg_hba.conf asks for scram-sha-256`}, true},
		{"cert without a secret", secure(t), strings.Replace(withFile, "auth: {", "auth: {method: cert, ", 1), `"weak" "` + weak + `"`, "weak", []string{
			`^ok: listener session .*wants a client certificate`,
			`^problem: database app, postgres: PostgreSQL asks for SCRAM-SHA-256, and a client's login by cert gives Sluice nothing.*roles\[\].backend.password`,
		}, true},
		{"cert with a password for Postgres", secure(t), strings.Replace(withFile, "auth: {", "auth: {method: cert, ", 1) + "roles: [{name: weak, backend: {password: weak-secret}}]", `"x" "x-secret"`, "weak",
			[]string{`^ok: database app, postgres: PostgreSQL lets Sluice in as "weak", with roles\[\].backend.password`}, true},
		{"trust without a secret", "", "auth: {method: trust}", "", "weak", []string{
			`^warning: listener session .*lets in everybody`, `^problem: database postgres: PostgreSQL asks for SCRAM-SHA-256, and a client's login by trust gives`,
		}, true},
		{"trust, and Postgres trusts too", "", "auth: {method: trust}", "", "trusted", []string{`^ok: database postgres: PostgreSQL lets Sluice in as "trusted"`}, false},
		{"peer over TCP", unixListener(t), strings.Replace(withFile, "auth: {", "auth: {method: peer, ", 1), `"weak" "weak-secret"`, "weak", []string{
			`^warning: listener session .*nobody can log in, as auth.method peer needs a Unix socket`, `^ok: listener local .*runs as the user of that name`, `^ok: database app, postgres: PostgreSQL lets Sluice in as "weak", with auth.users_file`,
		}, false},
		{"password in clear", "listeners: [{name: session, address: \":5432\", mode: session}]\n", strings.Replace(withFile, "auth: {", "auth: {method: password, ", 1), `"weak" "weak-secret"`, "weak", []string{
			`^problem: listener session .*needs TLS, and there is none`, `^problem: there is no listener`,
		}, true},
		{"no role", "", withQuery, "", "nobody", []string{`^problem: auth.query returns no row for it`, `^problem: PostgreSQL has no role "nobody".*CREATE ROLE "nobody" LOGIN`}, true},
		{"not in the users file", "", withFile, `"weak" "weak-secret"`, "good", []string{`^problem: auth.users_file does not have it.*add a line`}, true},
		{"no password", "", withQuery, "", "bare", []string{`^problem: auth.query has no password of it.*ALTER ROLE "bare" PASSWORD`}, true},
		{"NOLOGIN", "", withFile, `"nologin" "nologin-secret"`, "nologin", []string{`^problem: role "nologin" may not log in to PostgreSQL \(NOLOGIN\).*ALTER ROLE "nologin" LOGIN;`}, true},
		{"VALID UNTIL", "", withQuery, "", "expired", []string{`^problem: its password has expired on 2020-01-01: Sluice refuses it`, `^problem: the password of role "expired" has expired in PostgreSQL.*VALID UNTIL 'infinity'`}, true},
		{"VALID UNTIL, with a users file", "", withFile, `"expired" "expired-secret"`, "expired", []string{`^problem: the password of role "expired" has expired in PostgreSQL`, `^problem: database .*refuses "expired".*28P01`}, true},
		{"CONNECTION LIMIT", "", withQuery + "pool_size: 4", "", "capped", []string{`^warning: role "capped" may have 3 connections \(CONNECTION LIMIT\), and its pools may open 8.*CONNECTION LIMIT 8;`}, false},
		{"CONNECTION LIMIT 0", "", withFile, `"no one" "no-secret"`, "no one", []string{`^problem: role "no one" may have no connection.*ALTER ROLE "no one" CONNECTION LIMIT 30`, `^problem: database .*53300`}, true},
		{"no CONNECT", "", withQuery + "databases: [{name: secret, dbname: private}, {name: app}]", "", "good", []string{
			`^problem: role "good" has no CONNECT on database "private".*GRANT CONNECT ON DATABASE "private" TO "good";`, `^ok: database app: PostgreSQL asks`,
		}, true},
		{"no CONNECT, without a service login", "", "auth: {users_file: users.txt}\ndatabases: [{name: private}]", `"weak" "weak-secret"`, "weak", []string{
			`^problem: database private: PostgreSQL refuses "weak" in database "private".*42501.*GRANT CONNECT`,
		}, true},
		{"no database", "", withQuery + "databases: [{name: missing}, {name: closed}]", "", "good", []string{`^problem: PostgreSQL has no database "missing"`, `^problem: database "closed" takes no connections.*ALLOW_CONNECTIONS true`}, true},
		{"no database, without a service login", "", "auth: {users_file: users.txt}\ndatabases: [{name: missing}, {name: closed}]", `"weak" "weak-secret"`, "weak", []string{
			`^problem: database missing: .*3D000.*dbname`, `^problem: database closed: .*55000.*ALLOW_CONNECTIONS`,
		}, true},
		{"pg_hba.conf rejects", "", withQuery, "", "rejected", []string{`^problem: database app, postgres|^problem: database app: PostgreSQL refuses "rejected".*28000.*pg_hba.conf refuses Sluice's address`}, true},
		{"pg_hba.conf wants the password in clear", "", withQuery, "", "clear", []string{`^problem: database app, postgres: PostgreSQL asks for a password, which the SCRAM keys`}, true},
		{"pg_hba.conf wants what nobody has", "", withQuery, "", "oddly", []string{`^problem: database app.*PostgreSQL refuses "oddly".*28000`}, true},
		{"another verifier", "", withFile, `"good" "` + weak + `"`, "good", []string{`^problem: database app, postgres: PostgreSQL stores another SCRAM verifier of "good" than auth.users_file.*WHERE rolname = 'good'`}, true},
		{"another verifier, without a service login", "", "auth: {users_file: users.txt}", `"ghost" "` + weak + `"`, "ghost", []string{`^problem: database postgres: PostgreSQL stores another SCRAM verifier of "ghost" than auth.users_file, or none, or there is no such role`}, true},
		{"the same verifier, without a service login", "", "auth: {users_file: users.txt}", `"weak" "` + weak + `"`, "weak", []string{`^ok: database postgres: .*with the password, clients get in, if the database exists and lets it`}, false},
		{"no role, without a service login", "", "auth: {users_file: users.txt}", `"ghost" "ghost-secret"`, "ghost", []string{`^problem: database postgres: PostgreSQL refuses "ghost".*28P01.*VALID UNTIL, or there is no such role`}, true},
		{"the same verifier", "", withFile, `"weak" "` + weak + `"`, "weak", []string{`^ok: database app, postgres: PostgreSQL asks for SCRAM-SHA-256, and its verifier of "weak" is that of auth.users_file`}, false},
		{"wrong password", "", withFile, `"weak" "wrong-secret"`, "weak", []string{
			`^problem: database app: PostgreSQL refuses "weak" in database "app": .*28P01.*; that would be another failed login for postgres, which was not tried > set the password of PostgreSQL in auth.users_file`,
		}, true},
		{"two wrong passwords", "", withFile, "\"capped\" \"wrong-secret\"\n\"capped\" \"other-secret\" until 2999-01-01T00:00:00Z", "capped", []string{`^problem: database app: PostgreSQL refuses "capped".*not tried`}, true},
		{"a wrong password beside a right one", "", withFile, "\"trickle\" \"wrong-secret\"\n\"trickle\" \"trickle-secret\" until 2999-01-01T00:00:00Z", "trickle", []string{
			`^ok: database app, postgres: PostgreSQL lets Sluice in as "trickle"`,
		}, false},
		{"nobody admitted", "", withQuery + "roles: [{name: good, network: {allowed_cidrs: []}}]", "", "good", []string{`^problem: tenants\[\].roles\[\].network.allowed_cidrs is empty, which admits nobody`}, true},
		{"other roles denied", "", withQuery + "other_roles: deny\nroles: [{name: weak}]", "", "good", []string{`^problem: it is not in roles, and other_roles is deny`}, true},
		{"no listener", "listeners: [{name: session, address: \"127.0.0.1:5432\", mode: session}]\n", withQuery + "roles: [{name: good, modes: [transaction]}]", "", "good", []string{`^problem: there is no listener`}, true},
	} {
		tenant := strings.ReplaceAll(c.tenant, "superuser-secret", pg.SuperuserPassword())
		r, text := examined(t, configuration(t, pg, c.top, tenant, c.users), c.role)
		before := t.Failed()
		for _, want := range c.want {
			wantFinding(t, r, ": role "+c.role, want)
		}
		if got := r.Count(Problem) > 0; got != c.problems {
			t.Errorf("problems: got %v, want %v", got, c.problems)
		}
		if t.Failed() && !before {
			t.Logf("%s:\n%s", c.name, text)
		}
	}
	pg.StopServer() // so that it has written all
	const failed = `password authentication failed for user "%s"`
	for role, want := range map[string]int{"weak": 1, "capped": 2, "trickle": 1, "good": 0} { // a verifier is tried without a proof
		if got := strings.Count(log.String(), fmt.Sprintf(failed, role)); got != want {
			t.Errorf("%d failed logins of %s, want one for each wrong password, %d:\n%s", got, role, want, log)
		}
	}
}
