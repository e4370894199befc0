package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestBansCommandsSayWhatIsMissing(t *testing.T) {
	t.Setenv(adminTokenEnv, "")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"bans"}, "a command is missing, one of clear, list"},
		{[]string{"bans", "list", "--token", "x", "--admin", "127.0.0.1:1"}, "--admin: must be a URL"},
		{[]string{"bans", "list", "x"}, `unknown argument "x"`},
		{[]string{"bans", "clear", "--token", "x"}, "an address or a network is missing, or --all"},
		{[]string{"bans", "clear", "10.0.0.1", "10.0.0.2"}, `unknown argument "10.0.0.2"`},
		{[]string{"bans", "clear", "10.0.0.1", "--all", "--token", "x"}, "--all: there is an address or a network as well"},
	} {
		if got := command(t, "", c.args...); got.code != exitUsage || !strings.Contains(got.stderr, c.want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("sluice %q: got %d, %q, want %q", c.args, got.code, got.stderr, c.want)
		}
	}
}

func TestBansCommandsTellWhatTheServerSays(t *testing.T) {
	for _, c := range []struct {
		code int
		body string
		want result
	}{
		{200, `{"bans": []}`, result{0, "no address is banned\n", ""}},
		{200, `{"bans": [{"tenant": "acme", "network": "203.0.113.7/32", "until": "2026-01-01T12:00:00Z", "failures": 3, "reason": "3 failed logins"}]}`,
			result{0, "TENANT  NETWORK         ENDS                  REASON\nacme    203.0.113.7/32  2026-01-01T12:00:00Z  3 failed logins\n", ""}},
		{401, `{"error": "no"}`, result{1, "", "sluice: ask HOST: --token or SLUICE_ADMIN_TOKEN must be its admin.token\n"}},
		{400, `{"error": "no"}`, result{2, "", "sluice: no\n"}},
		{502, `<html>`, result{1, "", "sluice: ask HOST: 502 Bad Gateway\n"}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer hush" || r.URL.Path != "/api/v1/bans" || r.Method != http.MethodGet {
				t.Errorf("got %s %s with %q", r.Method, r.URL, r.Header)
			}
			w.WriteHeader(c.code)
			_, _ = fmt.Fprint(w, c.body)
		}))
		t.Setenv(adminTokenEnv, "hush")
		want := c.want
		want.stderr = strings.Replace(want.stderr, "HOST", strings.TrimPrefix(server.URL, "http://"), 1)
		if got := command(t, "", "bans", "list", "--admin", server.URL); got != want {
			t.Errorf("%d %s: got %+v, want %+v", c.code, c.body, got, want)
		}
		server.Close()
	}
}

// TestBansOfARunningSluice guesses through a load balancer: who comes from this machine is never banned.
func TestBansOfARunningSluice(t *testing.T) {
	folder := writeFiles(t, map[string]string{"users.txt": "\"alice\" \"secret\"\n", "sluice.yaml": `
listeners: [{name: a, address: "127.0.0.1:0", mode: session, proxy_protocol_from: [127.0.0.1]}]
admin: {address: "127.0.0.1:0", token: hush}
log: {format: json}
bans: {after: 1}
tenants: [{backend: {host: 127.0.0.1, port: 1}}]
`})
	s := &service{t: t, program: start(t, "serve", "--config", filepath.Join(folder, "sluice.yaml"))}
	s.stderr.await(t, 0, "sluice started")
	admin := "http://" + s.address("listening for operators")
	for range 2 {
		cfg, err := pgx.ParseConfig("postgres://alice:wrong@" + s.address(`"listening"`) + "/app?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		cfg.DialFunc = throughBalancer("PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n")
		if _, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
			t.Fatal("a wrong password is right")
		}
	}
	got := command(t, "", "bans", "list", "--admin", admin, "--token", "hush")
	if got.code != 0 || !strings.Contains(got.out, "default  203.0.113.7/32") || !strings.Contains(got.out, `the last as role "alice"`) {
		t.Errorf("list: %+v", got)
	}
	if got := command(t, "", "bans", "list", "--json", "--admin", admin, "--token", "hush"); got.code != 0 || !strings.Contains(got.out, `"network": "203.0.113.7/32"`) {
		t.Errorf("list --json: %+v", got)
	}
	if got := command(t, "", "bans", "clear", "203.0.113.1/24", "--admin", admin, "--token", "hush"); got.code != 2 || !strings.Contains(got.stderr, "must be an address or a network") {
		t.Errorf("clear nonsense: %+v", got)
	}
	if got := command(t, "", "bans", "clear", "203.0.113.0/24", "--tenant", "default", "--admin", admin, "--token", "hush"); got.code != 0 || got.out != "1 cleared\n" {
		t.Errorf("clear: %+v", got)
	}
	if got := command(t, "", "bans", "list", "--admin", admin, "--token", "wrong"); got.code != 1 || !strings.Contains(got.stderr, "admin.token") {
		t.Errorf("with a wrong token: %+v", got)
	}
}

// throughBalancer dials as a load balancer does that tells where its client comes from.
func throughBalancer(header string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			_, err = nc.Write([]byte(header))
		}
		return nc, err
	}
}
