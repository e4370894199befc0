// Package drivers runs real drivers through Sluice, on both ports, with and without TLS, in front of a real Postgres.
package drivers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/internal/throwawaypg"
)

// scriptTimeout is far above what a script takes: a few seconds, on a loaded machine.
const scriptTimeout = 3 * time.Minute

// driver is a client library with the script that uses it.
type driver struct {
	name string
	run  func(t *testing.T, url string)
}

// everyDriver is the name of the environment variable that adds the drivers whose compilers few machines have.
const everyDriver = "SLUICE_TEST_EVERY_DRIVER"

func drivers() []driver {
	all := []driver{
		{"psql", script{"sh", "-c", `exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --file psql_script.sql --dbname "$DATABASE_URL"`}.test},
		{"psycopg", script{venvPython, "psycopg_script.py"}.test},
		{"psycopg2", script{venvPython, "psycopg2_script.py"}.test},
		{"asyncpg", script{venvPython, "asyncpg_script.py"}.test},
		{"sqlalchemy-psycopg", script{venvPython, "sqlalchemy_script.py"}.test},
		{"sqlalchemy-asyncpg", script{venvPython, "sqlalchemy_async_script.py"}.test},
		{"django", script{venvPython, "django_script.py"}.test},
		{"alembic", script{venvPython, "alembic_script.py"}.test},
		{"node-postgres", script{"node", "node_postgres.js"}.test},
		{"postgres.js", script{"node", "postgres_js.js"}.test},
		{"drizzle-node-postgres", script{"node", "drizzle.js", "node-postgres"}.test},
		{"drizzle-postgres.js", script{"node", "drizzle.js", "postgres-js"}.test},
		{"pgx", runPgx},
		{"pgx-stdlib", runPgxStdlib},
		{"pq", runPq},
	}
	if os.Getenv(everyDriver) != "" {
		all = append(all,
			driver{"pgjdbc", script{"java", "-cp", "java/target/jars/*", "java/PgJdbc.java"}.test},
			driver{"sqlx", script{"rust/target/debug/sqlx"}.test},
			driver{"tokio-postgres", script{"rust/target/debug/tokio_postgres"}.test},
		)
	}
	return all
}

// TestDrivers also runs the scripts without Sluice: what fails there is no fault of Sluice's.
func TestDrivers(t *testing.T) {
	t.Parallel()
	all := drivers()
	pg := throwawaypg.MustStart(t, throwawaypg.Options{Settings: map[string]string{"max_connections": "300"}})
	prepare(t, pg, all)
	s := startSluice(t, pg)
	plain, encrypted := url.Values{"sslmode": {"disable"}}, url.Values{"sslmode": {"require"}}
	verified := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.caFile}}
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s.watchPool(t, d.name)
			for _, target := range []struct{ name, url string }{
				{"direct", pg.URL(role, password, d.name)},
				{"session", s.url("session", d.name, plain)},
				{"session with TLS", s.url("session", d.name, encrypted)},
				{"session with verified TLS", s.url("session", d.name, verified)},
				{"transaction", s.url("transaction", d.name, plain)},
				{"transaction with TLS", s.url("transaction", d.name, encrypted)},
				{"transaction with verified TLS", s.url("transaction", d.name, verified)},
			} {
				// One after the other, so that what a script pins leaves backends for it on machines of any size.
				t.Run(target.name, func(t *testing.T) { d.run(t, target.url) })
			}
		})
	}
}

// venvPython is where test/install puts Python.
const venvPython = "./.venv/bin/python"

// script is a program with its arguments. It finds the connection string in DATABASE_URL, compares what it gets with
// what is right, and ends with the line "ok N checks" and status 0 if all was right.
type script []string

func (s script) test(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	if err := s.run(ctx, url); err != nil {
		t.Error(err)
	}
}

// run blocks until the script has ended or, killed then, ctx is done.
//
// Errors have the output, and what to do if the program or one of its modules is missing.
func (s script) run(ctx context.Context, url string) error {
	path, err := exec.LookPath(s[0])
	if err != nil {
		return fmt.Errorf("%w: run test/install", err)
	}
	cmd := exec.CommandContext(ctx, path, s[1:]...)
	cmd.Env = environment(url)
	cmd.WaitDelay = time.Second // for children that hold the output open
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if bytes.Contains(output.Bytes(), []byte("ModuleNotFoundError")) || bytes.Contains(output.Bytes(), []byte("MODULE_NOT_FOUND")) {
			err = fmt.Errorf("%w: run test/install", err)
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(s, " "), errors.Join(err, context.Cause(ctx)), output.Bytes())
	}
	if !regexp.MustCompile(`(?:^|\n)ok [1-9]\d* checks\n$`).Match(output.Bytes()) {
		return fmt.Errorf("%s did not end with \"ok N checks\":\n%s", s[0], output.Bytes())
	}
	return nil
}

// environment is this process's without what the drivers would take settings from.
func environment(databaseURL string) []string {
	var kept []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "DATABASE_URL=") {
			kept = append(kept, entry)
		}
	}
	return append(kept, "DATABASE_URL="+databaseURL, "HOME="+os.DevNull, "PYTHONDONTWRITEBYTECODE=1")
}

func TestMissingDriverFailsAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.py")
	if err := os.WriteFile(empty, []byte("import no_such_module\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []script{
		{"no-such-program"},
		{"./.venv/bin/no-such-program"},
		{venvPython, empty},
		{"node", "--require", "no-such-module", "node_postgres.js"},
	} {
		if err := s.run(t.Context(), "postgres://127.0.0.1:1/"); err == nil || !strings.Contains(err.Error(), "run test/install") {
			t.Errorf("%v: got %v, want an error that says run test/install", s, err)
		}
	}
}

func TestScriptThatChecksNothingFails(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"ok", "ok 0 checks", "not ok 3 checks", "ok 3 checks, but", "ok 3 checks\nmore"} {
		err := script{"sh", "-c", `printf '%s\n' "$0"`, words}.run(t.Context(), "")
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("a script that says %q: got %v, want an error with that", words, err)
		}
	}
	if err := (script{"sh", "-c", "echo ok 3 checks; exit 3"}).run(t.Context(), ""); err == nil {
		t.Error("a script that exits with status 3 passed")
	}
	if err := (script{"sh", "-c", "echo first; echo ok 3 checks"}).run(t.Context(), ""); err != nil {
		t.Errorf("a script that did all it should: %v", err)
	}
}
