package doctor

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/config"
	"sluice/internal/logbuf"
	"sluice/internal/throwawaypg"
)

func TestServiceLoginIsExplained(t *testing.T) {
	t.Parallel()
	log := &logbuf.Buffer{}
	pg := sick(t, log)
	must(t, pg.Exec(t.Context(),
		`CREATE ROLE newcomer LOGIN PASSWORD 'newcomer-secret'`,
		`CREATE FUNCTION sluice.narrow(name text) RETURNS text LANGUAGE sql AS 'SELECT name'`,
	))
	newcomer := "service: {role: newcomer, password: newcomer-secret}\n"
	for _, c := range []struct {
		name, tenant string
		want         []string
		problems     bool
	}{
		{"none", "auth: {method: trust}", []string{`^warning: there is none: auth.query, max_backends: auto and the shared LISTEN are off`}, false},
		{"all it needs", withQuery, []string{
			`^ok: PostgreSQL lets Sluice in as "service", to database "postgres"`, `^ok: it may look secrets up`, `^ok: it may ask what max_backends: auto needs`, `^ok: the roles may read what`,
		}, false},
		{"wrong password", strings.Replace(withQuery, "service-secret", "wrong-secret", 1), []string{`^problem: PostgreSQL refuses "service".*28P01.*set the password of PostgreSQL in service.password`}, true},
		{"no password", strings.Replace(withQuery, ", password: service-secret", "", 1), []string{`^problem: PostgreSQL asks for SCRAM-SHA-256, and there is no service.password`}, true},
		{"no role", strings.Replace(withQuery, "role: service", "role: missing", 1), []string{`^problem: PostgreSQL refuses "missing".*28P01`}, true},
		{"no privilege on the function", newcomer + `auth: {query: "SELECT role, verifier, valid_until FROM sluice.login($1)"}`, []string{
			`^problem: auth.query fails: permission denied for schema sluice > as a superuser, in the database postgres.*CREATE OR REPLACE FUNCTION sluice.login` +
				`(.|\n)*SECURITY DEFINER(.|\n)*GRANT USAGE ON SCHEMA sluice TO "newcomer";(.|\n)*GRANT EXECUTE ON FUNCTION sluice.login\(text\) TO "newcomer";`,
		}, true},
		{"no such function", newcomer + `auth: {query: "SELECT * FROM pg_catalog.login($1)"}`, []string{`^problem: auth.query fails: function pg_catalog.login\(unknown\) does not exist > (.|\n)*CREATE OR REPLACE FUNCTION`}, true},
		{"pg_authid without a grant", newcomer + `auth: {query: "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1"}`, []string{`^problem: auth.query fails: permission denied for table pg_authid > (.|\n)*SECURITY DEFINER`}, true},
		{"too few columns", withQueryOf("SELECT sluice.narrow($1)"), []string{`^problem: auth.query returns 1 row of 1 column for role "good" > it must return one row`}, true},
		{"no SQL", withQueryOf("SELEKT $1"), []string{`^problem: auth.query fails: .*syntax error.* > auth.query must be`}, true},
		{"a superuser", "service: {role: postgres, password: superuser-secret}\n" + `auth: {query: "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1"}`, []string{`^warning: "postgres" is a superuser`}, false},
	} {
		tenant := strings.ReplaceAll(c.tenant, "superuser-secret", pg.SuperuserPassword())
		r, text := examined(t, configuration(t, pg, "", tenant, ""), "good")
		before := t.Failed()
		for _, want := range c.want {
			wantFinding(t, r, ": service login", want)
		}
		problems := 0
		for _, b := range r.Blocks {
			for _, f := range b.Findings {
				if strings.HasSuffix(b.Subject, ": service login") && f.Level == Problem {
					problems++
				}
			}
		}
		if (problems > 0) != c.problems {
			t.Errorf("%d problems, want some: %v", problems, c.problems)
		}
		if t.Failed() && !before {
			t.Logf("%s:\n%s", c.name, text)
		}
	}
	pg.StopServer() // so that it has written all
	for _, role := range []string{"service", "missing"} {
		if got := strings.Count(log.String(), fmt.Sprintf(`password authentication failed for user "%s"`, role)); got != 1 {
			t.Errorf("%d failed logins of %s, want one:\n%s", got, role, log)
		}
	}
}

func withQueryOf(sql string) string {
	return fmt.Sprintf("service: {role: service, password: service-secret}\nauth: {query: %q}", sql)
}

// The statements that are printed make well what they are printed for.
func TestWithoutRolesItIsSaidThatNoneWasTried(t *testing.T) {
	t.Parallel()
	pg := sick(t, nil)
	r, _ := examined(t, configuration(t, pg, "", withQuery, ""))
	wantFinding(t, r, ": roles", `^warning: no login was tried.*--role`)
	r, text := examined(t, configuration(t, pg, "", withQuery, ""), "good")
	if strings.Contains(text, "no login was tried") || r.Count(Warning) == 0 {
		t.Errorf("one was tried:\n%s", text)
	}
}

func TestPrintedSQLMends(t *testing.T) {
	t.Parallel()
	pg := throwawaypg.MustStart(t, throwawaypg.Options{Settings: map[string]string{"max_connections": "60"}})
	must(t, pg.Exec(t.Context(),
		`CREATE ROLE "Sluice's" LOGIN PASSWORD 'service-secret'`, `CREATE ROLE good LOGIN PASSWORD 'good-secret'`,
		`REVOKE SELECT ON pg_proc, pg_policy FROM PUBLIC`, `REVOKE SELECT ON pg_stat_database FROM PUBLIC`,
	))
	tenant := "service: {role: \"Sluice's\", password: service-secret}\nauth: {query: \"SELECT role, verifier, valid_until FROM sluice.login($1)\"}"
	cfg := configuration(t, pg, "", tenant, "")
	r, _ := examined(t, cfg, "good")
	wantFinding(t, r, ": service login", `^problem: auth.query fails`)
	wantFinding(t, r, ": service login", `^problem: max_backends: auto cannot ask .*GRANT SELECT ON pg_catalog.pg_stat_database TO "Sluice's";`)
	wantFinding(t, r, ": service login", `^problem: roles may not read what the database's code does.*GRANT SELECT ON pg_catalog.pg_proc TO "good"; GRANT SELECT ON pg_catalog.pg_policy TO "good";`)
	wantFinding(t, r, ": connections", `^problem: PostgreSQL could not be asked: .*permission denied.*pg_stat_database`)
	for _, b := range r.Blocks {
		for _, f := range b.Findings {
			if f.Level == Problem && len(f.SQL) > 0 && !strings.Contains(strings.Join(f.SQL, ""), "…") {
				must(t, pg.Exec(t.Context(), f.SQL...))
			}
		}
	}
	if r, text := examined(t, cfg, "good"); r.Count(Problem) != 0 {
		t.Errorf("after what it has printed:\n%s", text)
	}
}

func TestADatabaseURLIsExplained(t *testing.T) {
	t.Parallel()
	pg := sick(t, nil)
	cfg, err := config.FromURL(pg.URL("good", "good-secret", "postgres"))
	must(t, err)
	cfg.Admin.Address = ""
	r, _ := examined(t, cfg)
	wantFinding(t, r, ": service login", `^warning: it may not read pg_authid .*only "good" itself can log in.*GRANT SELECT \(rolname, rolpassword, rolvaliduntil, rolcanlogin\) ON pg_catalog.pg_authid TO "good";`)
	wantFinding(t, r, ": role good", `^ok: database app, postgres: PostgreSQL lets Sluice in as "good"`)
	if n := r.Count(Problem); n != 0 {
		t.Errorf("%d problems", n)
	}
	must(t, pg.Exec(t.Context(), `GRANT SELECT (rolname, rolpassword, rolvaliduntil, rolcanlogin) ON pg_catalog.pg_authid TO "good"`))
	r, _ = examined(t, cfg, "weak")
	wantFinding(t, r, ": service login", `^ok: it may look secrets up`)
	wantFinding(t, r, ": role weak", `^ok: database app, postgres: PostgreSQL asks for SCRAM-SHA-256, and its verifier of "weak"`)
}

func TestConnectionsAreExplained(t *testing.T) {
	t.Parallel()
	pg := sick(t, nil)
	for tenant, want := range map[string]string{
		"":                                   `^ok: fits: max_backends follows what is left`,
		"\nmax_backends: 20\npool_size: 100": `^ok: fits: at most max_backends and what is beside it`,
		"\nmax_backends: 500\npool_size: 10": `^warning: fits: .*; but further databases and roles can make it.* > set max_backends to`,
		"\nmax_backends: 500\npool_size: 40": `^problem: DOES NOT FIT: 84 > [0-9]+ > lower pool_size or max_backends`,
	} {
		r, text := examined(t, configuration(t, pg, "", strings.TrimSpace(withQuery)+tenant, ""))
		wantFinding(t, r, ": connections", want)
		if !strings.Contains(text, "any database, shared LISTEN\n") || !strings.Contains(text, "looking passwords up\n") {
			t.Errorf("the arithmetic leaves out what listens or asks:\n%s", text)
		}
	}
}
