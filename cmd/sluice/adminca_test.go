package main

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/tlsconf"
)

// secureAPI answers every request with TLS, and returns its URL and a file with its authority.
func secureAPI(t *testing.T, body string) (url, ca string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // who does not know the authority breaks off
	server.StartTLS()
	t.Cleanup(server.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, ca
}

func TestAdminAddressWithAPrivateAuthority(t *testing.T) {
	url, ca := secureAPI(t, `{"tenant": "acme", "currentConfig": {"database": true}, "state": "healthy", "bans": [], "tenants": []}`)
	other, _, err := tlsconf.SelfSigned([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files := writeFiles(t, map[string]string{"other.pem": string(other), "none.pem": "nothing"})
	for _, args := range []string{"ssl-enforcement get", "network-restrictions get", "bans list", "report tls", "report transaction-mode", "healthcheck"} {
		for _, c := range []struct {
			flag, env string
			code      int
			want      string
		}{
			{ca, "", 0, ""},
			{"", ca, 0, ""},
			{ca, filepath.Join(files, "other.pem"), 0, ""}, // the flag goes before
			{"", "", 1, "certificate"},                     // the system does not know it
			{filepath.Join(files, "other.pem"), "", 1, "certificate"},
			{filepath.Join(files, "none.pem"), "", 2, "--admin-ca: certificate authorities " + filepath.Join(files, "none.pem") + ": no certificate in it"},
			{filepath.Join(files, "missing.pem"), "", 2, "no such file"},
		} {
			t.Setenv(adminCAEnv, c.env)
			line := append(strings.Fields(args), "--admin", url)
			if c.flag != "" {
				line = append(line, "--admin-ca", c.flag)
			}
			got := command(t, "", line...)
			if got.code != c.code || !strings.Contains(got.stderr, c.want) || c.code != 0 && strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%s with %+v: got %+v", args, c, got)
			}
		}
	}
}
