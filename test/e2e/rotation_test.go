package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sluice/auth/scram"
	"sluice/internal/throwawaypg"
)

// rotation is a Sluice whose users file changes while it runs.
type rotation struct {
	*rig
	yaml, users string
}

// startRotation starts one in front of pg, with these lines.
func startRotation(t *testing.T, pg *throwawaypg.Cluster, method string, lines ...string) *rotation {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users.txt")
	rot := &rotation{yaml: strings.Replace(withUsers(pg, method), "users.txt", fmt.Sprintf("%q", users), 1), users: users}
	rot.write(t, lines)
	rot.rig = start(t, pg, rot.yaml)
	return rot
}

func (r *rotation) write(t *testing.T, lines []string) {
	t.Helper()
	must(t, os.WriteFile(r.users, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

// reload has the users file hold these lines.
func (r *rotation) reload(lines ...string) {
	r.t.Helper()
	r.write(r.t, lines)
	must(r.t, r.srv.Reload(r.load(r.yaml)))
}

// logIn logs in as alice and returns the pid of a backend.
func (r *rotation) logIn(mode, password string) (pid string, err error) {
	r.t.Helper()
	c, err := pgx.Connect(r.ctx(), strings.Replace(r.url(mode, "alice", ""), "alice-secret", password, 1))
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close(context.Background()) }()
	return r.value(c, "SELECT pg_backend_pid()::text"), nil
}

// wantLogins fails unless passwords log in to both ports as they should.
func (r *rotation) wantLogins(when string, want map[string]bool) {
	r.t.Helper()
	for _, mode := range modes {
		for password, ok := range want {
			if _, err := r.logIn(mode, password); (err == nil) != ok || err != nil && sqlstate(err) != "28P01" {
				r.t.Errorf("%s: %q to the %s port: %v", when, password, mode, err)
			}
		}
	}
}

// line is one of alice's in a users file.
func line(secret, until string) string {
	if until != "" {
		until = " until " + until
	}
	return fmt.Sprintf(`"alice" "%s"%s`, secret, until)
}

// TestAPasswordThatChangesInPostgresAlone: what auth.query has said would be believed for an hour.
func TestAPasswordThatChangesInPostgresAlone(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, strings.Replace(base(pg, ""), "auth: {", "auth: {query_cache: 1h, ", 1))
	logIn := func(password, database string) string {
		t.Helper()
		url := strings.Replace(r.url("session", "alice", ""), "alice-secret", password, 1)
		c, err := pgx.Connect(r.ctx(), strings.Replace(url, "/app", "/"+database, 1))
		if err != nil {
			return sqlstate(err)
		}
		must(t, c.Close(r.ctx()))
		return "let in"
	}
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	want("the first password", logIn("alice-secret", "app"), "let in")
	must(t, pg.Exec(r.ctx(), "ALTER ROLE alice PASSWORD 'second'"))
	want("the first one, which Sluice still believes, towards Postgres", logIn("alice-secret", "postgres"), "08004")
	want("the second one, at once", logIn("second", "postgres"), "let in")
	want("the first one", logIn("alice-secret", "postgres"), "28P01")
	must(t, pg.Exec(r.ctx(), "ALTER ROLE alice PASSWORD 'third'"))
	r.eventually("the third one, behind a failed login", func() bool { return logIn("third", "postgres") == "let in" })
	must(t, pg.Exec(r.ctx(), "ALTER ROLE alice PASSWORD 'fourth'"))
	must(t, r.srv.Reload(r.load(strings.Replace(base(pg, ""), "auth: {", "auth: {query_cache: 1h, ", 1))))
	want("the fourth one, behind a reload", logIn("fourth", "postgres"), "let in")
}

// TestAPasswordThatIsChangedThroughSluice holds that what auth.query has said counts no longer than the change takes.
func TestAPasswordThatIsChangedThroughSluice(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, strings.Replace(base(pg, ""), "auth: {", "auth: {query_cache: 1h, ", 1))
	password := "alice-secret"
	for i, mode := range []string{"session", "transaction", "transaction"} {
		logIn := func(password string) *pgx.Conn {
			t.Helper()
			c, err := pgx.Connect(r.ctx(), strings.Replace(r.url(mode, "alice", ""), "alice-secret", password, 1))
			must(t, err)
			return c
		}
		c := logIn(password)
		password = fmt.Sprintf("password-%d", i)
		for _, sql := range []string{"BEGIN", "ALTER ROLE alice PASSWORD '" + password + "'", "COMMIT"} {
			_, err := c.Exec(r.ctx(), sql)
			must(t, err)
		}
		again := logIn(password)
		if got := r.value(again, "SELECT current_user"); got != "alice" {
			t.Errorf("%s: logged in as %s", mode, got)
		}
		must(t, again.Close(r.ctx()))
		must(t, c.Close(r.ctx()))
	}
}

const farAway = "2999-01-01T00:00:00Z"

func TestPasswordChangesWithoutAFailedLogin(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, tc := range []struct {
		name, method string
		secret       func(t *testing.T, password string) string
	}{
		{"plain passwords", "auto", func(_ *testing.T, password string) string { return password }},
		{"verifiers with one salt", "auto", func(t *testing.T, password string) string {
			v, err := scram.NewVerifier(password, []byte("0123456789abcdef"), scram.DefaultIterations)
			must(t, err)
			return v.String()
		}},
		{"verifiers with a salt each, in clear", "password", func(t *testing.T, password string) string {
			v, err := scram.NewVerifier(password, scram.NewSalt(), scram.DefaultIterations)
			must(t, err)
			return v.String()
		}},
		{"plain passwords by md5", "md5", func(_ *testing.T, password string) string { return password }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pg := ownCluster(t)
			old, now := tc.secret(t, "old"), tc.secret(t, "new")
			setPassword := func(secret string) { must(t, pg.Exec(ctx, fmt.Sprintf("ALTER ROLE alice PASSWORD '%s'", secret))) }
			newBackends := func() {
				must(t, pg.Exec(ctx, "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE usename = 'alice'"))
			}
			setPassword(old)
			r := startRotation(t, pg, tc.method, line(old, ""))
			r.wantLogins("before", map[string]bool{"old": true, "new": false})
			holder, err := pgx.Connect(r.ctx(), strings.Replace(r.url("transaction", "alice", ""), "alice-secret", "old", 1)) // the pool stays
			must(t, err)
			t.Cleanup(func() { _ = holder.Close(ctx) })
			backend := r.value(holder, "SELECT pg_backend_pid()::text")

			r.reload(line(old, farAway), line(now, ""))
			for _, password := range []string{"old", "new", "old"} {
				if pid, err := r.logIn("transaction", password); err != nil || pid != backend {
					t.Errorf("%q while both are good: backend %s, %v, want the same as before, %s", password, pid, err, backend)
				}
			}
			newBackends()
			r.wantLogins("Postgres knows the old one", map[string]bool{"old": true, "new": true, "neither": false})
			setPassword(now)
			newBackends()
			r.wantLogins("Postgres knows the new one", map[string]bool{"new": true, "old": true, "neither": false})

			backend = r.value(holder, "SELECT pg_backend_pid()::text")
			r.reload(line(now, ""))
			r.wantLogins("after", map[string]bool{"old": false, "new": true})
			if pid, err := r.logIn("transaction", "new"); err != nil || pid == backend {
				t.Errorf("after the old one has ended: backend %s, %v, want another", pid, err)
			}
		})
	}
}

func TestVerifiersWithASaltEachTakeTurns(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	secret := func(password string) string {
		v, err := scram.NewVerifier(password, scram.NewSalt(), scram.DefaultIterations)
		must(t, err)
		return v.String()
	}
	old, now := secret("old"), secret("new")
	must(t, pg.Exec(context.Background(), fmt.Sprintf("ALTER ROLE alice PASSWORD '%s'", old)))
	r := startRotation(t, pg, "auto", line(old, ""))
	_, err := r.logIn("transaction", "old")
	must(t, err)
	r.reload(line(now, ""), line(old, farAway))
	for _, password := range []string{"new", "old", "new"} {
		if _, err := r.logIn("transaction", password); err != nil {
			if _, err = r.logIn("transaction", password); err != nil {
				t.Errorf("%q, the second time: %v", password, err)
			}
		}
		if _, err := r.logIn("session", password); err != nil {
			t.Errorf("%q, once it is its turn: %v", password, err)
		}
	}
}

func TestOldPasswordOfTwoRowsOfAuthQuery(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(context.Background(),
		"CREATE TABLE public.secrets (role text, secret text, until timestamptz)",
		"INSERT INTO public.secrets VALUES ('alice', 'alice-secret', NULL), ('alice', 'before', '2999-01-01'), ('bob', 'x', NULL), ('bob', 'y', NULL)",
		"GRANT SELECT ON public.secrets TO service",
	))
	yaml := strings.Replace(base(pg, ""), authQuery, "SELECT role, secret, until FROM public.secrets WHERE role = $1", 1)
	r := start(t, pg, yaml)
	for _, password := range []string{"alice-secret", "before"} {
		if got := r.logInWith(password, ""); got[0] != "let in" || got[1] != "let in" {
			t.Errorf("%q: %q", password, got)
		}
	}
	if _, err := pgx.Connect(r.ctx(), r.url("session", "bob", "")); sqlstate(err) != "57P03" || !strings.Contains(r.logs.String(), "of two secrets one must have an end") {
		t.Errorf("two rows without an end: %v, want 57P03", err)
	}
}
