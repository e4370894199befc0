package drivers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/config"
	"sluice/internal/logbuf"
	"sluice/internal/throwawaypg"
	"sluice/proxy"
)

// Who the scripts are.
const (
	role     = "driver"
	password = "it's a secret: 100 %"
)

// prepare makes what the scripts need. Each driver has a database, and so its pools, for itself.
func prepare(t *testing.T, pg *throwawaypg.Cluster, all []driver) {
	t.Helper()
	statements := []string{
		fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, role, strings.ReplaceAll(password, "'", "''")),
		`CREATE ROLE service LOGIN PASSWORD 'service-secret'`,
		`GRANT SELECT ON pg_authid TO service`,
	}
	for _, d := range all {
		statements = append(statements, fmt.Sprintf(`CREATE DATABASE "%s" OWNER %s`, d.name, role))
	}
	if err := pg.Exec(t.Context(), statements...); err != nil {
		t.Fatal(err)
	}
}

// sluice runs in this process, so that the race detector watches it.
type sluice struct {
	server  *proxy.Server
	address map[string]string // by mode
	caFile  string            // what signed Sluice's certificate
	log     logbuf.Buffer
}

// The transaction port has fewer backends than the scripts of a driver have connections at times: they share them.
const configuration = `
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tls: {cert_file: cert.pem, key_file: key.pem}
tenants:
  - name: default
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    service: {role: service, password: service-secret, database: postgres}
    auth: {query: "SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1 AND rolcanlogin"}
    pool_size: 8
    session_pool_size: 40
    max_backends: 250
`

// startSluice starts Sluice in front of pg and ends it with the test, which fails if a client is left then.
func startSluice(t *testing.T, pg *throwawaypg.Cluster) *sluice {
	t.Helper()
	dir := t.TempDir()
	s := &sluice{address: make(map[string]string), caFile: filepath.Join(dir, caFile)}
	var err error
	s.server, err = proxy.New(loadConfiguration(t, dir, pg), proxy.Options{
		Log: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test",
	})
	if err != nil {
		t.Fatalf("start sluice: %v", err)
	}
	for _, l := range s.server.Listeners() {
		s.address[l.Mode] = l.Address
	}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve() }()
	t.Cleanup(func() {
		s.awaitNoClients(t)
		if err := s.server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		if log := s.log.String(); t.Failed() || strings.Contains(log, "panic") || strings.Contains(log, "internal_error") {
			t.Errorf("log of sluice:\n%s", log)
		}
	})
	return s
}

// loadConfiguration writes what Sluice needs into dir.
func loadConfiguration(t *testing.T, dir string, pg *throwawaypg.Cluster) *config.Config {
	t.Helper()
	issueCertificate(t, dir)
	file := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, configuration, pg.Port()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// url returns a connection string for the port of a mode, with more settings than the database's name.
func (s *sluice) url(mode, database string, settings url.Values) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Host: s.address[mode], Path: "/" + database,
		RawQuery: settings.Encode(),
	}
	return u.String()
}

// watchPool says at the end of t what the transaction port's pool of a database has done, and fails it if more than a tenth
// of the leases were pinned. The idle client that it holds until then keeps the pool.
func (s *sluice) watchPool(t *testing.T, database string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	idle, err := pgx.Connect(ctx, s.url("transaction", database, url.Values{"sslmode": {"disable"}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, tenant := range s.server.Status().Tenants {
			for _, p := range tenant.Pools {
				if p.Database == database && p.Mode == "transaction" {
					pinned, leases := uint64(0), s.leases(t, database)
					for _, n := range p.Pins {
						pinned += n
					}
					t.Logf("%s on the transaction port: %d transactions, %d statements, %d leases, pinned by reason %v, ended sessions by reason %v",
						database, p.Transactions, p.Queries, leases, p.Pins, p.Ended)
					if 10*pinned > leases {
						t.Errorf("%d of %d leases were pinned, want at most a tenth", pinned, leases)
					}
				}
			}
		}
		if err := idle.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// leases returns how often sessions of the database have been lent a backend on the transaction port, by the metrics.
func (s *sluice) leases(t *testing.T, database string) uint64 {
	t.Helper()
	answer := httptest.NewRecorder()
	s.server.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	line := regexp.MustCompile(`(?m)^sluice_wait_seconds_count\{database="` + regexp.QuoteMeta(database) + `",mode="transaction",[^}]*\} (\d+)$`)
	found := line.FindStringSubmatch(answer.Body.String())
	if found == nil {
		t.Fatalf("the metrics have no leases of %s", database)
	}
	n, err := strconv.ParseUint(found[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitNoClients waits until Sluice has seen the last client go.
func (s *sluice) awaitNoClients(t *testing.T) {
	t.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for s.server.Totals().Clients != 0 {
		select {
		case <-deadline:
			t.Errorf("%d clients are left behind the scripts", s.server.Totals().Clients)
			return
		case <-tick.C:
		}
	}
}
