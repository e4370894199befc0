package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/tlsconf"
)

const servedWithTLS = served + `    tls_enforcement: warn
tls: {cert_file: tls.pem, key_file: tls.key}
`

// putCertificate writes a new certificate for this machine and its key, and returns a file that stays what it is.
func (s *service) putCertificate(name string) (authority string) {
	s.t.Helper()
	cert, key, err := tlsconf.SelfSigned([]string{"localhost", "127.0.0.1"}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	authority = filepath.Join(s.t.TempDir(), "ca.pem")
	for path, text := range map[string][]byte{
		filepath.Join(s.folder, name+".key"): key, filepath.Join(s.folder, name+".pem"): cert, authority: cert,
	} {
		if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
			s.t.Fatal(err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			s.t.Fatal(err)
		}
	}
	return authority
}

func TestServeWithTLSOnAllSides(t *testing.T) {
	t.Parallel()
	s := &service{t: t, replace: []string{"PORT", throwawayPort(t), "TIMEOUT", "60s", "token: sesame", "token: sesame, cert_file: admin.pem, key_file: admin.key"}}
	s.folder = writeFiles(t, map[string]string{"users.txt": "\"app\" \"secret\"\n"})
	s.putCertificate("tls")
	adminCA := s.putCertificate("admin")
	s.configure(servedWithTLS, "info")
	s.serve()
	url := "https://" + s.address("listening for operators")
	s.wantVerified(url, adminCA)
	if _, err := s.dial("session"); err != nil { // without TLS
		t.Fatal(err)
	}
	ask := func(ca string) result {
		return command(t, "", "report", "tls", "--admin", url, "--admin-ca", ca, "--token", "sesame")
	}
	if got := ask(adminCA); got.code != 0 || !strings.Contains(got.out, "(tls_enforcement: warn)") || !strings.Contains(got.out, ": 1 logins without TLS, 2 with\n") {
		t.Errorf("report: %+v", got)
	}
	next := s.putCertificate("admin")
	s.stderr.await(t, 0, "certificate of the admin address reloaded")
	if got := ask(adminCA); got.code != 1 || !strings.Contains(got.stderr, "certificate") {
		t.Errorf("the old certificate is still there: %+v", got)
	}
	s.putCertificate("tls")
	s.stderr.await(t, 0, `"msg":"certificates reloaded"`)
	s.wantVerified(url, next)
	s.signal(1)
	s.stderr.await(t, 0, "configuration reloaded")
	s.wantVerified(url, next)
}

func TestReloadThatFailsLeavesTheAdminCertificate(t *testing.T) {
	t.Parallel()
	s := &service{t: t, replace: []string{"PORT", "1", "TIMEOUT", "60s", "token: sesame", "token: sesame, cert_file: admin.pem, key_file: admin.key"}}
	s.folder = writeFiles(t, map[string]string{"users.txt": "\"app\" \"secret\"\n"})
	old := s.putCertificate("admin")
	s.configure("watch: none\n"+served, "info")
	s.serve()
	url := "https://" + s.address("listening for operators")
	verifies := func(ca string) bool {
		got := command(t, "", "report", "transaction-mode", "--admin", url, "--admin-ca", ca, "--token", "sesame")
		return got.code == 0
	}
	next := s.putCertificate("admin")
	users := filepath.Join(s.folder, "users.txt")
	if err := os.WriteFile(users, []byte("app secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload := func(want int) {
		t.Helper()
		address := adminAddress{ca: old}
		client, err := address.client()
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequest(http.MethodPost, url+"/reload", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer sesame")
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("POST /reload: %s, want %d", response.Status, want)
		}
	}
	reload(http.StatusInternalServerError)
	s.stderr.await(t, 0, "configuration problem", "users_file")
	if !verifies(old) || verifies(next) {
		t.Error("a reload that failed has replaced the certificate of the admin address")
	}
	if err := os.WriteFile(users, []byte("\"app\" \"secret\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(http.StatusOK)
	if verifies(old) || !verifies(next) {
		t.Error("a reload has left the certificate of the admin address")
	}
}

// wantVerified fails unless /ca.pem is all that clients need to verify both ports in full.
func (s *service) wantVerified(url, adminCA string) {
	s.t.Helper()
	address := adminAddress{ca: adminCA}
	client, err := address.client()
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := client.Get(url + "/ca.pem")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || strings.Contains(string(text), "PRIVATE") {
		s.t.Fatalf("/ca.pem: %s, %v\n%s", response.Status, err, text)
	}
	file := filepath.Join(s.t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	for _, mode := range []string{"session", "transaction"} {
		ctx, cancel := context.WithTimeout(s.t.Context(), testTimeout)
		conn, err := pgx.Connect(ctx, "postgres://app:secret@"+s.address(`"msg":"listening"`, `"mode":"`+mode+`"`)+"/app?sslmode=verify-full&sslrootcert="+file)
		cancel()
		if err != nil {
			s.t.Fatalf("the %s port: %v", mode, err)
		}
		wantOne(s.t, conn)
		_ = conn.Close(s.t.Context())
	}
}
