package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/internal/throwawaypg"
)

const (
	host        = "127.0.0.1"
	role        = "bench"
	database    = "bench"
	scale       = 10
	buildScript = "bench/pgbouncer"

	usersFile = "users.txt"
	certFile  = "tls.crt"
	keyFile   = "tls.key"

	postgresConnections = 1100  // a thousand clients of pgbench, directly
	descriptorsNeeded   = 10600 // the idle clients, and what runs beside them
)

// rig is a Postgres with the poolers in front of it, and what measures them.
type rig struct {
	dir          string // readable by everybody: PgBouncer and Postgres do not run as root
	cluster      *throwawaypg.Cluster
	postmaster   int // process number
	password     string
	dialer       *dialer
	pgbench      string
	sluice       string
	pgbouncer    string
	unprivileged string // whom PgBouncer runs as; empty: as this process does
	poolers      []*pooler
	log          io.Writer
}

// newRig starts everything. The caller must close it.
func newRig(ctx context.Context, o options, log io.Writer) (_ *rig, err error) {
	r := &rig{password: rand.Text(), sluice: o.sluice, pgbouncer: o.pgbouncer, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	r.dialer = newDialer(role, r.password, database)
	if err := r.raiseDescriptors(); err != nil {
		return nil, err
	}
	if err := r.findPrograms(ctx); err != nil {
		return nil, err
	}
	if err := r.makeFolder(); err != nil {
		return nil, err
	}
	if err := r.startPostgres(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{namePgBouncer, nameSluice} {
		p, err := r.startPooler(ctx, name)
		if err != nil {
			return nil, err
		}
		r.poolers = append(r.poolers, p)
	}
	return r, nil
}

// close ends everything and removes the folder.
func (r *rig) close() error {
	for _, p := range r.poolers {
		p.stop()
	}
	var err error
	if r.cluster != nil {
		err = r.cluster.Stop()
	}
	if r.dir != "" {
		err = errors.Join(err, os.RemoveAll(r.dir))
	}
	return err
}

func (r *rig) say(format string, args ...any) { _, _ = fmt.Fprintf(r.log, format+"\n", args...) }

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

// raiseDescriptors raises the limit of open files, for the processes it starts as well.
func (r *rig) raiseDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("get limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise limit of open files to %d: %w", limit.Max, err)
	}
	if limit.Max < descriptorsNeeded {
		r.say("the limit of open files is %d and cannot be raised: what needs %d will fail", limit.Max, descriptorsNeeded)
	}
	return nil
}

// findPrograms finds pgbench, and builds PgBouncer if none was given.
func (r *rig) findPrograms(ctx context.Context) error {
	bindir, err := throwawaypg.Find()
	if err != nil {
		return err
	}
	r.pgbench = filepath.Join(bindir, "pgbench")
	if _, err := os.Stat(r.pgbench); err != nil {
		if r.pgbench, err = exec.LookPath("pgbench"); err != nil {
			return fmt.Errorf("find pgbench, which PostgreSQL's package for servers brings: %w", err)
		}
	}
	if r.sluice, err = filepath.Abs(r.sluice); err != nil {
		return err
	}
	if _, err := os.Stat(r.sluice); err != nil {
		return fmt.Errorf("%w: make build builds it", err)
	}
	if r.pgbouncer == "" {
		cmd := exec.CommandContext(ctx, buildScript)
		cmd.Stderr = r.log
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w", buildScript, err)
		}
		r.pgbouncer = strings.TrimSpace(string(out))
	}
	return nil
}

func (r *rig) makeFolder() (err error) {
	if r.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return err
	}
	if err := os.Chmod(r.dir, 0o755); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		r.unprivileged = "nobody"
	}
	return nil
}

// startPostgres starts a Postgres that nothing but the load keeps busy, with pgbench's tables.
func (r *rig) startPostgres(ctx context.Context) error {
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	// The key is worth nothing, and whoever PgBouncer runs as must read it.
	if err := errors.Join(os.WriteFile(r.file(certFile), cert, 0o644), os.WriteFile(r.file(keyFile), key, 0o644)); err != nil {
		return err
	}
	r.cluster, err = throwawaypg.Start(ctx, throwawaypg.Options{
		TLS: &throwawaypg.TLS{Cert: cert, Key: key},
		Settings: map[string]string{
			"max_connections":    strconv.Itoa(postgresConnections),
			"shared_buffers":     "512MB",
			"autovacuum":         "off",
			"checkpoint_timeout": "1d",
			"max_wal_size":       "16GB",
		},
	})
	if err != nil {
		return err
	}
	if r.postmaster, err = postmaster(r.cluster.DataDir()); err != nil {
		return err
	}
	if err := r.cluster.Exec(ctx, "CREATE ROLE "+role+" LOGIN PASSWORD '"+r.password+"'", "CREATE DATABASE "+database+" OWNER "+role); err != nil {
		return err
	}
	// Both poolers are given what Postgres stores, so that no login costs them PBKDF2.
	verifier, err := r.cluster.Value(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = '"+role+"'")
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.file(usersFile), fmt.Appendf(nil, "%q %q\n", role, verifier), 0o644); err != nil {
		return err
	}
	return r.fill(ctx)
}

// fill makes pgbench's tables.
func (r *rig) fill(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, r.pgbench, append([]string{"-i", "-q", "-s", strconv.Itoa(scale)}, r.connection(r.direct())...)...)
	cmd.Env = r.libpqEnvironment(false)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w\n%s", err, out)
	}
	return nil
}

// direct is Postgres itself.
func (r *rig) direct() target {
	return target{name: nameDirect, address: net.JoinHostPort(r.cluster.Host(), strconv.Itoa(r.cluster.Port()))}
}

// targets are Postgres itself and the poolers that run all the time.
func (r *rig) targets() []target {
	all := []target{r.direct()}
	for _, p := range r.poolers {
		all = append(all, p.target)
	}
	return all
}

// usage is the CPU time that was used up to some moment.
type usage struct{ pooler, postgres time.Duration }

func (r *rig) usage(t target) (u usage, err error) {
	if t.pid != 0 {
		if u.pooler, err = processCPU(t.pid); err != nil {
			return u, err
		}
	}
	u.postgres, err = treeCPU(r.postmaster)
	return u, err
}

func (u usage) since(start usage) usage {
	return usage{pooler: u.pooler - start.pooler, postgres: u.postgres - start.postgres}
}

// postmaster returns the process number of the server.
func postmaster(dataDir string) (int, error) {
	content, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := bytes.Cut(content, []byte("\n"))
	return strconv.Atoi(string(bytes.TrimSpace(first)))
}

// selfSigned makes an ECDSA P-256 certificate, in PEM.
func selfSigned(now time.Time) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: host},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.ParseIP(host)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
