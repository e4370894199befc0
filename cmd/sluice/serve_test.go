package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/internal/throwawaypg"
)

const served = `listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: "127.0.0.1:0", token: sesame}
log: {format: json, level: LEVEL}
shutdown_timeout: TIMEOUT
tenants:
  - backend: {port: PORT}
    auth: {users_file: users.txt}
`

// service is "sluice serve" in front of a throwaway Postgres.
type service struct {
	*program
	t       *testing.T
	folder  string
	replace []string
}

// serveThrowaway starts both. The role app has the password secret.
func serveThrowaway(t *testing.T, shutdownTimeout string) *service {
	t.Helper()
	s := &service{t: t, replace: []string{"PORT", throwawayPort(t), "TIMEOUT", shutdownTimeout}}
	s.folder = writeFiles(t, map[string]string{"users.txt": "\"app\" \"secret\"\n"})
	s.configure(served, "info")
	s.program = start(t, "serve", "--config", filepath.Join(s.folder, "sluice.yaml"))
	s.stderr.await(t, 0, "sluice started")
	return s
}

// throwawayPort starts a Postgres with the role and database app, and returns its port.
func throwawayPort(t *testing.T) string {
	t.Helper()
	postgres := throwawaypg.MustStart(t, throwawaypg.Options{})
	if err := postgres.Exec(t.Context(), "CREATE ROLE app LOGIN PASSWORD 'secret'", "CREATE DATABASE app OWNER app"); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(postgres.Port())
}

// configure writes the configuration file.
func (s *service) configure(text, level string) {
	s.t.Helper()
	text = strings.NewReplacer(append(s.replace, "LEVEL", level)...).Replace(text)
	if err := os.WriteFile(filepath.Join(s.folder, "sluice.yaml"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// address returns where something listens, by the log.
func (s *service) address(texts ...string) string {
	s.t.Helper()
	var line struct{ Address string }
	if err := json.Unmarshal([]byte(s.stderr.await(s.t, 0, texts...)), &line); err != nil {
		s.t.Fatal(err)
	}
	return line.Address
}

func (s *service) dial(mode string) (*pgx.Conn, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testTimeout)
	defer cancel()
	return pgx.Connect(ctx, "postgres://app:secret@"+s.address(`"msg":"listening"`, `"mode":"`+mode+`"`)+"/app?sslmode=disable")
}

func (s *service) connect(mode string) *pgx.Conn {
	s.t.Helper()
	conn, err := s.dial(mode)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func wantOne(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var got int
	if err := conn.QueryRow(t.Context(), "SELECT 1").Scan(&got); err != nil || got != 1 {
		t.Fatalf("SELECT 1: got %d, %v, want 1", got, err)
	}
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestServeKeepsServingThroughReloadsGoodAndBad(t *testing.T) {
	t.Parallel()
	s := serveThrowaway(t, "60s")
	session, transaction := s.connect("session"), s.connect("transaction")
	mustExec(t, transaction, "CREATE TABLE kept (n int)")
	wantOne(t, session)

	s.configure("frobnicate: 1\n"+served, "info")
	s.signal(syscall.SIGHUP)
	s.stderr.await(t, 0, "configuration problem", "sluice.yaml:1: frobnicate: ")
	s.stderr.await(t, 0, "reload refused")
	s.wantMetric("sluice_config_last_reload_successful 0")
	wantOne(t, session)
	wantOne(t, transaction)
	wantOne(t, s.connect("transaction"))

	s.configure(strings.Replace(served, "auth: {", "auth: {query: SELECT, ", 1), "info")
	s.postReload(http.StatusInternalServerError)
	s.stderr.await(t, 1, "reload refused")

	s.configure(strings.Replace(served, "token: sesame", "token: sesame, cert_file: a, key_file: b", 1), "debug")
	s.postReload(http.StatusOK)
	s.stderr.await(t, 0, "configuration reloaded")
	s.wantMetric("sluice_config_last_reload_successful 1")
	s.stderr.await(t, 0, "setting takes effect at the next start", "admin.cert_file")
	wantOne(t, session)
	wantOne(t, transaction)
	wantOne(t, s.connect("session"))

	if got := command(t, "", "healthcheck", "--admin", "http://"+s.address("listening for operators")); got.code != 0 {
		t.Errorf("healthcheck: got %+v, want success", got)
	}
	s.signal(syscall.SIGINT)
	s.wantExit(0)
}

// postReload asks for a reload as an operator does.
func (s *service) postReload(want int) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.address("listening for operators")+"/reload", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer sesame")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != want {
		s.t.Errorf("POST /reload: got %s, want %d", response.Status, want)
	}
}

func (s *service) wantMetric(want string) {
	s.t.Helper()
	response, err := http.Get("http://" + s.address("listening for operators") + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(body), "\n"+want+"\n") {
		s.t.Errorf("/metrics: got no line %q", want)
	}
}

func TestServeDrainsAtSIGTERM(t *testing.T) {
	t.Parallel()
	s := serveThrowaway(t, "60s")
	busy, idle := s.connect("transaction"), s.connect("transaction")
	mustExec(t, busy, "CREATE TABLE kept (n int)")
	mustExec(t, busy, "BEGIN")
	mustExec(t, busy, "INSERT INTO kept VALUES (1)")

	s.signal(syscall.SIGTERM)
	s.stderr.await(t, 0, "draining")
	var fatal *pgconn.PgError
	if _, err := idle.Exec(t.Context(), "SELECT 1"); err == nil || errors.As(err, &fatal) && fatal.Code != "57P01" {
		t.Errorf("an idle session in a drain: got %v, want 57P01 or a closed connection", err)
	}
	if got := command(t, "", "healthcheck", "--admin", "http://"+s.address("listening for operators")); got.code != 1 || !strings.Contains(got.stderr, "draining") {
		t.Errorf("healthcheck in a drain: got %+v, want draining", got)
	}
	mustExec(t, busy, "INSERT INTO kept VALUES (2)")
	mustExec(t, busy, "COMMIT")
	s.wantExit(0)
	if conn, err := s.dial("transaction"); err == nil {
		t.Errorf("connected after the end: %v", conn.Close(t.Context()))
	}
}

func TestServeEndsNowAtASecondSignal(t *testing.T) {
	t.Parallel()
	s := serveThrowaway(t, "1h")
	busy := s.connect("session")
	mustExec(t, busy, "BEGIN")
	s.signal(syscall.SIGTERM)
	s.stderr.await(t, 0, "draining")
	s.signal(syscall.SIGHUP) // too late to mean anything
	s.signal(syscall.SIGTERM)
	s.wantExit(0)
	s.stderr.await(t, 0, "ending now")
	if _, err := busy.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("the transaction went on, want an error")
	}
}

func TestServeCutsOffWhatOutlastsTheDrain(t *testing.T) {
	t.Parallel()
	s := serveThrowaway(t, "1ms")
	mustExec(t, s.connect("session"), "BEGIN")
	s.signal(syscall.SIGTERM)
	s.wantExit(0)
	s.stderr.await(t, 0, "drain timed out")
}

func TestServeWithoutAFile(t *testing.T) {
	postgres := throwawaypg.MustStart(t, throwawaypg.Options{})
	if err := postgres.Exec(t.Context(), "CREATE ROLE app LOGIN PASSWORD 'secret'", "CREATE DATABASE app OWNER app"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_SESSION_ADDRESS", "127.0.0.1:0")
	t.Setenv("SLUICE_TRANSACTION_ADDRESS", "127.0.0.1:0")
	t.Setenv("SLUICE_ADMIN_ADDRESS", "127.0.0.1:0")
	t.Setenv("SLUICE_LOG_FORMAT", "json")
	s := &service{t: t, program: start(t, "serve", "--database-url", postgres.URL("app", "secret", "app"))}
	wantOne(t, s.connect("session"))
	wantOne(t, s.connect("transaction"))
	s.signal(syscall.SIGTERM)
	s.wantExit(0)
	if strings.Contains(s.stderr.all(), "secret") {
		t.Error("the log has the password")
	}
}

func TestServeFailsWhereAPortIsTaken(t *testing.T) {
	t.Parallel()
	s := serveThrowaway(t, "60s")
	text := strings.Replace(served, `"127.0.0.1:0", mode: session`, `"`+s.address(`"mode":"session"`)+`", mode: session`, 1)
	s.configure(text, "info")
	second := start(t, "serve", "--config", filepath.Join(s.folder, "sluice.yaml"))
	second.wantExit(1)
	second.stderr.await(t, 0, "sluice: start: listeners[0].address: ", "in use")
}
