package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	suiteTokioPostgres = "tokio-postgres"
	suitePostgresJS    = "postgres.js"
)

// tokioPostgres is the suite of tokio-postgres, all its tests but those without a Postgres.
func tokioPostgres() suite {
	return suite{
		name: suiteTokioPostgres, install: "install-rust", ways: ways(), database: "postgres",
		prepare: []string{
			"CREATE ROLE pass_user PASSWORD 'password' LOGIN",
			"SET password_encryption = 'md5'; CREATE ROLE md5_user PASSWORD 'password' LOGIN; RESET password_encryption",
			"CREATE ROLE scram_user PASSWORD 'password' LOGIN",
			"CREATE EXTENSION hstore", "CREATE EXTENSION citext", "CREATE EXTENSION ltree",
		},
		command: func(p *place) *exec.Cmd {
			cmd := exec.Command(p.got, "--test-threads=4")
			cmd.Env = append(os.Environ(), fmt.Sprintf("SUITE_PORT=%d", p.port), "SUITE_PASSWORD="+password)
			return cmd
		},
	}
}

// postgresJS is the suite of postgres.js.
func postgresJS() suite {
	const database = "postgres_js_test"
	return suite{
		name: suitePostgresJS, install: "install-postgresjs", ways: ways(), database: database,
		prepare: []string{
			"CREATE ROLE " + database + " LOGIN PASSWORD '" + password + "'",
			"SET password_encryption = 'md5'; CREATE ROLE postgres_js_test_md5 LOGIN PASSWORD 'postgres_js_test_md5'; RESET password_encryption",
			"CREATE ROLE postgres_js_test_scram LOGIN PASSWORD 'postgres_js_test_scram'",
			"CREATE DATABASE " + database + " OWNER " + database,
		},
		settings: map[string]string{"wal_level": "logical", "max_prepared_transactions": "10"},
		command: func(p *place) *exec.Cmd {
			cmd := exec.Command("node", "index.js")
			cmd.Dir = filepath.Join(p.got, "tests")
			cmd.Env = append(os.Environ(), "PGHOST="+p.host, fmt.Sprintf("PGPORT=%d", p.port), "PGUSER=postgres", "PGDATABASE=postgres",
				"PGPASSWORD="+password, "PGSOCKET="+p.socket, fmt.Sprintf("SUITE_POSTGRES_PORT=%d", p.cluster.Port()))
			return cmd
		},
	}
}
