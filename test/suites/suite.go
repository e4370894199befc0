package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sluice/internal/throwawaypg"
	"sluice/proxy"
)

// The ways to Postgres.
const (
	wayDirect      = "direct"
	waySession     = "session"
	wayTransaction = "transaction"
)

// outputWait is how long what a suite has started may hold its output open.
const outputWait = 10 * time.Second

func ways() []string { return []string{wayDirect, waySession, wayTransaction} }

// suite is somebody else's tests.
type suite struct {
	name     string
	install  string // the script that gets them
	ways     []string
	settings map[string]string // of Postgres
	database string            // that the tests use most
	prepare  []string          // what the superuser does first, in the database postgres

	// command returns what runs the tests; lay copies what Postgres has to read into p.dir before. Nil: nothing.
	command func(p *place) *exec.Cmd
	lay     func(p *place) error
}

// suites returns them all.
func suites() []suite { return []suite{regression(), isolation(), tokioPostgres(), postgresJS()} }

func suiteNames() []string {
	var names []string
	for _, s := range suites() {
		names = append(names, s.name)
	}
	return names
}

// place is where a suite runs.
type place struct {
	got     string // what the script has printed
	dir     string // of its own, readable by everybody
	cluster *throwawaypg.Cluster
	host    string
	port    int
	socket  string // the folder of the Unix socket with that port
}

// result is what a suite gave one way.
type result struct {
	way        string
	stateCheck string // of Sluice's tenant
	tests      []test // in the order in which they ended
	duration   time.Duration
	pool       proxy.PoolStatus // of Sluice; nothing directly
}

// runSuite runs one suite one way, in a cluster of its own: the tests leave roles behind.
func runSuite(ctx context.Context, s *suite, got, way string, o options) (_ *result, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %s", o.timeout))
	defer cancel()
	p := &place{got: got}
	if p.cluster, err = startPostgres(ctx, s); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.cluster.Stop()) }()
	if p.dir, err = os.MkdirTemp("", "sluice-suites-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return nil, err
	}
	if s.lay != nil {
		if err := s.lay(p); err != nil {
			return nil, err
		}
	}
	results := filepath.Join(resultsFolder, s.name+"-"+way)
	if err := errors.Join(os.RemoveAll(results), os.MkdirAll(results, 0o755)); err != nil {
		return nil, err
	}
	p.host, p.port, p.socket = p.cluster.Host(), p.cluster.Port(), p.cluster.SocketDir()
	if way == wayDirect {
		return s.measure(ctx, p, way, results)
	}
	sluice, err := startSluice(ctx, p, s, way, o.stateCheck, results)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sluice.close()) }()
	r, err := s.measure(ctx, p, way, results)
	if r != nil {
		r.stateCheck = o.stateCheck
		r.pool = sluice.pool(s.database)
	}
	return r, err
}

// measure runs the tests and keeps what they print.
func (s *suite) measure(ctx context.Context, p *place, way, results string) (*result, error) {
	began := time.Now()
	output, err := runCommand(ctx, s.command(p))
	r := &result{way: way, duration: time.Since(began), tests: parse(output)}
	err = errors.Join(err, os.WriteFile(filepath.Join(results, "output"), output, 0o644))
	if out := filepath.Join(p.dir, "out"); s.lay != nil {
		err = errors.Join(err, os.CopyFS(results, os.DirFS(out)))
	}
	if err == nil && len(r.tests) == 0 {
		err = fmt.Errorf("no test has run\n%s", output)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// startPostgres starts a Postgres that has what the suite needs. It offers TLS with a certificate that nobody trusts.
func startPostgres(ctx context.Context, s *suite) (*throwawaypg.Cluster, error) {
	cert, key, err := selfSigned()
	if err != nil {
		return nil, err
	}
	cluster, err := throwawaypg.Start(ctx, throwawaypg.Options{
		Settings: s.settings, TLS: &throwawaypg.TLS{Cert: cert, Key: key}, SuperuserPassword: password,
		HBA: []string{"host all all 127.0.0.1/32 md5", "local all all md5"},
	})
	if err != nil {
		return nil, err
	}
	if err := cluster.Exec(ctx, s.prepare...); err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return cluster, nil
}

// runCommand returns what cmd prints. That it exits with an error is none: tests have failed.
func runCommand(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputWait
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// What it has started goes with it.
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return output.Bytes(), context.Cause(ctx)
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = nil
	}
	return output.Bytes(), err
}
