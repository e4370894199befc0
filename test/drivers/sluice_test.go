package drivers

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/config"
	"sluice/internal/throwawaypg"
	"sluice/internal/tlsconf"
	"sluice/proxy"
)

// Who the scripts are.
const (
	role     = "driver"
	password = "it's a secret: 100 %"
	database = "app"
)

// prepare makes what the scripts need.
func prepare(t *testing.T, pg *throwawaypg.Cluster) {
	t.Helper()
	err := pg.Exec(t.Context(),
		fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, role, strings.ReplaceAll(password, "'", "''")),
		fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, database, role),
		`CREATE ROLE service LOGIN PASSWORD 'service-secret'`,
		`GRANT SELECT ON pg_authid TO service`,
	)
	if err != nil {
		t.Fatal(err)
	}
}

// sluice runs in this process, so that the race detector watches it.
type sluice struct {
	server  *proxy.Server
	address map[string]string // by mode
	log     lockedBuffer
}

// The transaction port has fewer backends than the scripts have connections: they share them.
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
    max_backends: 60
`

// startSluice starts Sluice in front of pg and ends it with the test, which fails if a client is left then.
func startSluice(t *testing.T, pg *throwawaypg.Cluster) *sluice {
	t.Helper()
	s := &sluice{address: make(map[string]string)}
	var err error
	s.server, err = proxy.New(loadConfiguration(t, pg), proxy.Options{
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

func loadConfiguration(t *testing.T, pg *throwawaypg.Cluster) *config.Config {
	t.Helper()
	cert, key, err := tlsconf.SelfSigned([]string{"localhost", "127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"cert.pem": cert, "key.pem": key, "sluice.yaml": fmt.Appendf(nil, configuration, pg.Port()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(filepath.Join(dir, "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// url returns a connection string for the port of a mode.
func (s *sluice) url(mode, sslmode string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Host: s.address[mode], Path: "/" + database,
		RawQuery: url.Values{"sslmode": {sslmode}}.Encode(),
	}
	return u.String()
}

// awaitNoClients waits until Sluice has seen the last client go.
func (s *sluice) awaitNoClients(t *testing.T) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(10*time.Millisecond)
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

// lockedBuffer keeps what is logged.
type lockedBuffer struct {
	mu  sync.Mutex // guards below
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
