package throwawaypg_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/internal/throwawaypg"
)

func TestStopEndsPostgresAndRemovesItsFolder(t *testing.T) {
	t.Parallel()
	c := throwawaypg.MustStart(t, throwawaypg.Options{})
	mustExec(t, c, "CREATE DATABASE app", "CREATE TABLE greeting (words text)", "INSERT INTO greeting VALUES ('hello')")
	wantValue(t, c, "SELECT words FROM greeting", "hello")
	wantValue(t, c, "SELECT current_user", "postgres")
	wantValue(t, c, "SHOW server_encoding", "UTF8")

	conn := mustConnect(t, c.SuperuserURL("app"))
	if err := c.Stop(); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection outlives Stop")
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Stop, stat %s: got %v, want not exist", c.Dir(), err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if err := c.StartServer(t.Context()); !errors.Is(err, throwawaypg.ErrStopped) {
		t.Errorf("StartServer after Stop: got %v, want ErrStopped", err)
	}
}

func TestServerGoesDownAndComesBackOnItsPort(t *testing.T) {
	t.Parallel()
	c := throwawaypg.MustStart(t, throwawaypg.Options{})
	mustExec(t, c, "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (7)", "CHECKPOINT")
	downs := []struct {
		name string
		down func()
	}{{"StopServer", c.StopServer}, {"Kill", c.Kill}}
	for _, d := range downs {
		port := c.Port()
		d.down()
		if _, err := pgx.Connect(t.Context(), c.SuperuserURL("postgres")); err == nil {
			t.Errorf("after %s: connected, want refused", d.name)
		}
		if err := c.StartServer(t.Context()); err != nil {
			t.Fatalf("StartServer after %s: %v", d.name, err)
		}
		if c.Port() != port {
			t.Errorf("port after %s: got %d, want %d", d.name, c.Port(), port)
		}
		wantValue(t, c, "SELECT id FROM kept", "7")
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	wantValue(t, c, "SELECT id FROM kept", "7")
}

func TestOptionsReachPostgres(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(enterableDir(t), "cluster")
	var log strings.Builder
	c := throwawaypg.MustStart(t, throwawaypg.Options{
		Dir:               dir,
		Settings:          map[string]string{"max_connections": "17", "search_path": `it's, "a\b"`},
		SuperuserPassword: "päss 'word'/?",
		HBA:               []string{"host postgres all 127.0.0.1/32 trust", "host all all 127.0.0.1/32 reject"},
		Log:               &log,
	})
	wantValue(t, c, "SHOW max_connections", "17")
	wantValue(t, c, "SHOW search_path", `it's, "a\b"`)
	if c.Dir() != dir || c.DataDir() != filepath.Join(dir, "data") {
		t.Errorf("folders: got %s and %s, want %s and data in it", c.Dir(), c.DataDir(), dir)
	}
	mustConnect(t, c.URL("postgres", "", "postgres"))
	_, err := pgx.Connect(t.Context(), c.SuperuserURL("template1"))
	wantSQLState(t, err, "28000")

	if err := c.Stop(); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %s: got %v, want not exist", dir, err)
	}
	if !strings.Contains(log.String(), "database system is ready") {
		t.Errorf("log: got %q, want Postgres's output", log.String())
	}
}

func TestPasswordIsAskedForAndQuotedInURL(t *testing.T) {
	t.Parallel()
	c := throwawaypg.MustStart(t, throwawaypg.Options{SuperuserPassword: "p@ss 'word'/?#%"})
	mustConnect(t, c.SuperuserURL("postgres"))
	_, err := pgx.Connect(t.Context(), c.URL("postgres", "wrong", "postgres"))
	wantSQLState(t, err, "28P01")
}

func TestTLSIsOfferedWithTheCallersCertificate(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t)
	c := throwawaypg.MustStart(t, throwawaypg.Options{TLS: &throwawaypg.TLS{Cert: cert, Key: key, ClientCA: cert}})
	config, err := pgx.ParseConfig(c.SuperuserURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	config.TLSConfig.RootCAs, config.TLSConfig.InsecureSkipVerify, config.TLSConfig.ServerName = roots, false, "127.0.0.1"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("connect with TLS: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var on bool
	if err := conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&on); err != nil || !on {
		t.Errorf("pg_stat_ssl: got %v, %v, want true", on, err)
	}
}

func TestStartSaysWhatPostgresSaidAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(enterableDir(t), "cluster")
	_, err := throwawaypg.Start(t.Context(), throwawaypg.Options{Dir: dir, Settings: map[string]string{"max_connections": "many"}})
	if err == nil || !strings.Contains(err.Error(), `"max_connections": "many"`) {
		t.Errorf("Start with a bad setting: got %v, want Postgres's words", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %s: got %v, want not exist", dir, err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(enterableDir(t), "cluster")
	if _, err := throwawaypg.Start(ctx, throwawaypg.Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with a done context: got %v, want context.Canceled", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %s: got %v, want not exist", dir, err)
	}
}

// enterableDir is t.TempDir for everybody: run by root, Postgres is somebody else.
func enterableDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustExec(t *testing.T, c *throwawaypg.Cluster, sql ...string) {
	t.Helper()
	if err := c.Exec(t.Context(), sql...); err != nil {
		t.Fatalf("Exec: %v", err)
	}
}

func wantValue(t *testing.T, c *throwawaypg.Cluster, sql, want string) {
	t.Helper()
	got, err := c.Value(t.Context(), sql)
	if err != nil || got != want {
		t.Errorf("%s: got %q, %v, want %q", sql, got, err, want)
	}
}

func wantSQLState(t *testing.T, err error, want string) {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != want {
		t.Errorf("got %v, want SQLSTATE %s", err, want)
	}
}

func mustConnect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// selfSigned returns a certificate for 127.0.0.1 and its key in PEM.
func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
