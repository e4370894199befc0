// Package versions tests Sluice in front of each version of Postgres that the project still maintains. The servers come from
// npm (see install), because a distribution has one of them.
package versions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/config"
	"sluice/internal/logbuf"
	"sluice/internal/throwawaypg"
	"sluice/proxy"
	"sluice/test/parity"
)

const (
	installTimeout = 10 * time.Minute
	startTimeout   = 2 * time.Minute
)

var modes = []string{"session", "transaction"}

// TestVersions runs what there is to test in front of every version that install knows for this system.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, bindir := range install(t) {
		t.Run(filepath.Base(filepath.Dir(bindir)), func(t *testing.T) {
			t.Parallel()
			v := startVersion(t, bindir)
			for _, mode := range modes {
				t.Run(mode, func(t *testing.T) {
					t.Parallel()
					v.matrix(t, mode)
				})
			}
			t.Run("TLS to Postgres", v.encrypted)
			t.Run("parity", func(t *testing.T) { parity.Run(t, v.place(), true) })
		})
	}
}

// install runs the script of that name and returns the folders of the servers' programs.
func install(t *testing.T) (bindirs []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "./install").CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	cache, err := filepath.Abs(".cache")
	must(t, err)
	found, err := filepath.Glob(filepath.Join(cache, "[1-9]*", "bin"))
	must(t, err)
	if len(found) < 4 {
		t.Fatalf("got %q, want at least four versions", found)
	}
	for _, dir := range found {
		bindirs = append(bindirs, reachable(t, dir))
	}
	return bindirs
}

// reachable returns the folder itself, or a copy of the server where the user can get that Postgres runs as when this process
// is root's.
func reachable(t *testing.T, bindir string) string {
	t.Helper()
	resolved, err := filepath.EvalSymlinks(bindir)
	must(t, err)
	open := true
	for dir := resolved; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		must(t, err)
		open = open && info.Mode().Perm()&0o001 != 0
	}
	if open || os.Geteuid() != 0 {
		return bindir
	}
	root, err := os.MkdirTemp("/tmp", "sluice-versions-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	must(t, os.Chmod(root, 0o755))
	server := filepath.Join(root, filepath.Base(filepath.Dir(bindir)))
	must(t, os.CopyFS(server, os.DirFS(filepath.Dir(resolved))))
	return filepath.Join(server, "bin")
}

// version is one version of Postgres with a Sluice in front of it.
type version struct {
	pg       *throwawaypg.Cluster
	srv      *proxy.Server
	addr     map[string]string // by mode
	caFile   string            // the authority of its certificate
	trusting map[string]string // those of another Sluice, which asks for no password, by mode
}

const authQuery = `SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1 AND rolcanlogin`

// startVersion starts them. Roles prove who they are by SCRAM-SHA-256 on both sides. For the scripts of the protocol, which log in
// hundreds of times, alice is trusted by Postgres and by a Sluice of its own.
func startVersion(t *testing.T, bindir string) *version {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	server, caFile := certificate(t)
	pg, err := throwawaypg.Start(ctx, throwawaypg.Options{
		BinDir: bindir, TLS: server, Settings: map[string]string{"max_connections": "200"},
		HBA: []string{"host app alice 127.0.0.1/32 trust"},
	})
	must(t, err)
	t.Cleanup(func() { _ = pg.Stop() })
	must(t, pg.Exec(ctx,
		`CREATE ROLE alice LOGIN PASSWORD 'alice-secret'`,
		`CREATE ROLE bob LOGIN PASSWORD 'bob-secret'`,
		`CREATE ROLE parity_role`, `GRANT parity_role TO alice`,
		`CREATE ROLE service LOGIN PASSWORD 'service-secret' IN ROLE pg_read_all_data`,
		`GRANT SELECT ON pg_authid TO service`,
		`CREATE DATABASE app OWNER alice`,
		`GRANT ALL ON DATABASE app TO bob`,
		`CREATE DATABASE work OWNER bob`,
	))
	alice, err := pgx.Connect(ctx, pg.URL("alice", "", "app"))
	must(t, err)
	defer alice.Close(ctx)
	must(t, parity.Prepare(ctx, alice))
	v := &version{pg: pg, caFile: caFile}
	v.srv, v.addr = serve(t, pg, "tls_mode: disable", scram)
	_, v.trusting = serve(t, pg, "tls_mode: disable", "{method: trust}")
	return v
}

// scram authenticates clients by what Postgres has stored.
const scram = `{method: scram-sha-256, query: "` + authQuery + `"}`

// serve starts a Sluice in front of pg that reaches it and authenticates clients so.
func serve(t *testing.T, pg *throwawaypg.Cluster, backend, auth string) (srv *proxy.Server, addr map[string]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	must(t, os.WriteFile(path, fmt.Appendf(nil, `
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tenants:
  - name: default
    backend: {host: 127.0.0.1, port: %d, %s}
    service: {role: service, password: service-secret, database: postgres}
    auth: %s
    pool_size: 30
    pool_wait_timeout: 30s
`, pg.Port(), backend, auth), 0o600))
	cfg, err := config.Load(path)
	must(t, err)
	log := &logbuf.Buffer{}
	srv, err = proxy.New(cfg, proxy.Options{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})), Version: "test"})
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	addr = map[string]string{}
	for _, l := range srv.Listeners() {
		addr[l.Mode] = l.Address
	}
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		if t.Failed() {
			t.Logf("log of sluice:\n%s", log.String())
		}
		if strings.Contains(log.String(), "panic") {
			t.Errorf("a panic in the log:\n%s", log.String())
		}
	})
	return srv, addr
}

func (v *version) place() parity.Place {
	return parity.Place{Direct: "127.0.0.1:" + strconv.Itoa(v.pg.Port()), Ports: v.trusting}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
