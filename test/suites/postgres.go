package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	suiteRegress   = "regress"
	suiteIsolation = "isolation"

	concurrent = 20 // clients at once
)

// regression is PostgreSQL's regression suite.
func regression() suite {
	return pgRegress(suiteRegress, "regression", "parallel_schedule", ways())
}

// isolation is PostgreSQL's isolation suite. It asks for the pids of its sessions once, and later whether that process waits,
// which makes sense only while a session keeps its backend: not on the transaction port.
func isolation() suite {
	return pgRegress(suiteIsolation, "isolation_regression", "isolation_schedule", []string{wayDirect, waySession})
}

// pgRegress is a suite of pg_regress or pg_isolation_regress, with the database set up as these do it.
func pgRegress(name, database, schedule string, ways []string) suite {
	s := suite{
		name: name, install: "install-regress", ways: ways, database: database,
		settings: map[string]string{"max_prepared_transactions": "2"},
		prepare:  []string{"CREATE DATABASE " + database + " TEMPLATE template0"},
		lay:      func(p *place) error { return layOut(p, name) },
		command:  func(p *place) *exec.Cmd { return pgRegressCommand(p, name, database, schedule) },
	}
	for _, setting := range []string{
		"lc_messages = 'C'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "bytea_output = 'hex'",
		"timezone_abbreviations = 'Default'",
		"lock_timeout = '60s'", // so that two that wait for each other fail
	} {
		s.prepare = append(s.prepare, "ALTER DATABASE "+database+" SET "+setting)
	}
	return s
}

// layOut copies the tests to where Postgres, which runs as somebody else when this is root, can read them and write
// beside them.
func layOut(p *place, name string) error {
	results := filepath.Join(p.dir, "out", "results")
	return errors.Join(
		os.CopyFS(filepath.Join(p.dir, "in"), os.DirFS(filepath.Join(p.got, "test", name))),
		os.CopyFS(filepath.Join(p.dir, "lib"), os.DirFS(filepath.Join(p.got, "lib"))),
		os.MkdirAll(results, 0o755),
		os.Chmod(results, 0o777),
	)
}

func pgRegressCommand(p *place, name, database, schedule string) *exec.Cmd {
	home, err := os.ReadFile(filepath.Join(p.got, "complete"))
	if err != nil {
		return &exec.Cmd{Err: err}
	}
	postgres := strings.TrimSpace(string(home))
	program := "regress/pg_regress"
	if name == suiteIsolation {
		program = "isolation/pg_isolation_regress"
	}
	cmd := exec.Command(filepath.Join(postgres, "lib/pgxs/src/test", program),
		"--use-existing", "--dbname="+database, "--host="+p.host, fmt.Sprintf("--port=%d", p.port), "--user=postgres",
		"--bindir="+filepath.Join(postgres, "bin"), "--inputdir="+filepath.Join(p.dir, "in"), "--outputdir="+filepath.Join(p.dir, "out"),
		"--dlpath="+filepath.Join(p.dir, "lib"), "--schedule="+filepath.Join(p.dir, "in", schedule),
		fmt.Sprintf("--max-concurrent-tests=%d", concurrent))
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGSSLMODE=disable")
	return cmd
}
