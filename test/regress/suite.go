package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"sluice/internal/config"
	"sluice/internal/throwawaypg"
	"sluice/proxy"
)

// The suites.
const (
	suiteRegress   = "regress"
	suiteIsolation = "isolation"
)

// The ways to Postgres.
const (
	wayDirect      = "direct"
	waySession     = "session"
	wayTransaction = "transaction"
)

const (
	concurrent = 20 // clients at once
	outputWait = 10 * time.Second
)

func ways() []string { return []string{wayDirect, waySession, wayTransaction} }

// waysOf leaves the transaction port out for the isolation suite: it asks for the pids of its sessions once, and later
// whether that process waits, which makes sense only while a session keeps its backend.
func waysOf(suite string) []string {
	if suite == suiteIsolation {
		return []string{wayDirect, waySession}
	}
	return ways()
}

// databaseOf returns the database's name, which the tests expect.
func databaseOf(suite string) string {
	if suite == suiteIsolation {
		return "isolation_regression"
	}
	return "regression"
}

// result is what a suite gave one way.
type result struct {
	way      string
	tests    []test // in the order in which they ended
	duration time.Duration
	pool     proxy.PoolStatus // of Sluice; nothing directly
}

// runSuite runs one suite one way, in a cluster of its own: the tests leave roles behind.
func runSuite(ctx context.Context, src sources, suite, way string, o options) (_ *result, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %s", o.timeout))
	defer cancel()
	cluster, err := startPostgres(ctx, src, databaseOf(suite))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	dir, err := layOut(src, suite)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	r := &result{way: way}
	host, port := cluster.Host(), strconv.Itoa(cluster.Port())
	var sluice *sluiceServer
	if way != wayDirect {
		if sluice, err = startSluice(cluster, way, o.stateCheck, resultsOf(suite, way)); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, sluice.close()) }()
		if host, port, err = net.SplitHostPort(sluice.address()); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	output, err := pgRegress(ctx, src, suite, dir, host, port, cluster.SuperuserPassword())
	r.duration = time.Since(began)
	r.tests = parse(output)
	if sluice != nil {
		r.pool = sluice.pool(databaseOf(suite))
	}
	return r, errors.Join(err, keep(dir, resultsOf(suite, way), output))
}

// startPostgres starts a Postgres with a database, set up as pg_regress does.
func startPostgres(ctx context.Context, src sources, database string) (*throwawaypg.Cluster, error) {
	cluster, err := throwawaypg.Start(ctx, throwawaypg.Options{BinDir: src.bin, Settings: map[string]string{
		"max_prepared_transactions": "2", "max_connections": "100",
	}})
	if err != nil {
		return nil, err
	}
	statements := []string{"CREATE DATABASE " + database + " TEMPLATE template0"}
	for _, setting := range []string{
		"lc_messages = 'C'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "bytea_output = 'hex'",
		"timezone_abbreviations = 'Default'",
		"lock_timeout = '60s'", // so that two that wait for each other fail
	} {
		statements = append(statements, "ALTER DATABASE "+database+" SET "+setting)
	}
	if err := cluster.Exec(ctx, statements...); err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return cluster, nil
}

// layOut copies the tests to where Postgres, which runs as somebody else when this is root, can read them and write
// beside them.
func layOut(src sources, suite string) (dir string, err error) {
	if dir, err = os.MkdirTemp("", "sluice-regress-"); err != nil {
		return "", err
	}
	err = errors.Join(
		os.CopyFS(filepath.Join(dir, "in"), os.DirFS(filepath.Join(src.tests, suite))),
		os.CopyFS(filepath.Join(dir, "lib"), os.DirFS(src.lib)),
		os.MkdirAll(filepath.Join(dir, "out", "results"), 0o755),
		os.Chmod(dir, 0o755),
		os.Chmod(filepath.Join(dir, "out", "results"), 0o777),
	)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// pgRegress runs pg_regress or pg_isolation_regress and returns what it printed. That tests have failed is no error.
func pgRegress(ctx context.Context, src sources, suite, dir, host, port, password string) ([]byte, error) {
	in := filepath.Join(dir, "in")
	program, schedule := filepath.Join(src.pgxs, "regress/pg_regress"), "parallel_schedule"
	if suite == suiteIsolation {
		program, schedule = filepath.Join(src.pgxs, "isolation/pg_isolation_regress"), "isolation_schedule"
	}
	cmd := exec.Command(program,
		"--use-existing", "--dbname="+databaseOf(suite), "--host="+host, "--port="+port, "--user=postgres", "--bindir="+src.bin,
		"--inputdir="+in, "--outputdir="+filepath.Join(dir, "out"), "--dlpath="+filepath.Join(dir, "lib"),
		"--schedule="+filepath.Join(in, schedule), fmt.Sprintf("--max-concurrent-tests=%d", concurrent))
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGSSLMODE=disable")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputWait
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// What pg_regress has started goes with it.
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return output.Bytes(), context.Cause(ctx)
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) && len(parse(output.Bytes())) > 0 {
		return output.Bytes(), nil
	}
	if err != nil {
		return output.Bytes(), fmt.Errorf("%w\n%s", err, output.Bytes())
	}
	return output.Bytes(), nil
}

func resultsOf(suite, way string) string { return filepath.Join(resultsFolder, suite+"-"+way) }

// keep saves what the tests printed and how it differs from what is expected.
func keep(dir, to string, output []byte) error {
	out := filepath.Join(dir, "out")
	err := errors.Join(
		os.RemoveAll(filepath.Join(to, "results")),
		os.CopyFS(filepath.Join(to, "results"), os.DirFS(filepath.Join(out, "results"))),
		os.WriteFile(filepath.Join(to, "output"), output, 0o644),
	)
	diffs, readErr := os.ReadFile(filepath.Join(out, "regression.diffs"))
	if errors.Is(readErr, os.ErrNotExist) {
		readErr = nil
	}
	return errors.Join(err, readErr, os.WriteFile(filepath.Join(to, "regression.diffs"), diffs, 0o644))
}

// sluiceServer is a Sluice with one port.
type sluiceServer struct {
	*proxy.Server
	served chan error
	log    *os.File
}

const sluiceConfig = `
listeners:
  - {name: port, address: "127.0.0.1:0", mode: %s}
admin: {address: ""}
log: {level: debug, sessions: all}
tenants:
  - backend: {host: %s, port: %d, tls_mode: disable}
    service: {role: postgres, password: %s}
    auth: {query: "SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1 AND rolcanlogin"}
    pool_size: %d
    max_pinned: %d
    state_check: %s
    max_backends: 60
    pool_wait_timeout: 60s
`

// startSluice starts a Sluice in front of cluster, which logs into a file in the folder.
func startSluice(cluster *throwawaypg.Cluster, mode, stateCheck, folder string) (_ *sluiceServer, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "sluice.yaml")
	text := fmt.Sprintf(sluiceConfig, mode, cluster.Host(), cluster.Port(), cluster.SuperuserPassword(), concurrent, concurrent, stateCheck)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(folder, "sluice.log"))
	if err != nil {
		return nil, err
	}
	server, err := proxy.New(cfg, proxy.Options{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "regress"})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s := &sluiceServer{server, make(chan error, 1), log}
	go s.serve()
	return s, nil
}

func (s *sluiceServer) serve() { s.served <- s.Serve() }

func (s *sluiceServer) address() string { return s.Listeners()[0].Address }

// pool returns the status of a database's only pool.
func (s *sluiceServer) pool(database string) proxy.PoolStatus {
	for _, t := range s.Status().Tenants {
		for _, p := range t.Pools {
			if p.Database == database {
				return p
			}
		}
	}
	return proxy.PoolStatus{}
}

func (s *sluiceServer) close() error {
	err := s.Close()
	if served := <-s.served; !errors.Is(served, proxy.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, s.log.Close())
}
