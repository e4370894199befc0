package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// api answers every request with a code and a body, and remembers the last one.
type api struct {
	code           int
	body           string
	method, target string
	header         http.Header
	got            string
}

func (a *api) serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		a.method, a.target, a.header, a.got = r.Method, r.URL.String(), r.Header, string(content)
		w.WriteHeader(a.code)
		_, _ = w.Write([]byte(a.body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

const (
	someNetworks = `{"tenant": "acme", "managed_by": "api", "config": {"entries": [{"cidr": "10.0.0.0/8"},
		{"cidr": "2001:db8::/32", "until": "2026-12-31T18:00:00Z", "comment": "guests\u001b[2J"}]},
		"old_config": {"dbAllowedCidrs": ["0.0.0.0/0"], "dbAllowedCidrsV6": ["::/0"]}, "updated_at": "2026-03-01T12:00:00Z", "updated_by": "api 127.0.0.1:1",
		"confirm_by": "2026-03-01T12:02:00Z"}`
	printedNetworks = `tenant acme can be reached from (the API rules)
  10.0.0.0/8
  2001:db8::/32 until 2026-12-31T18:00:00Z # guests [2J
changed 2026-03-01T12:00:00Z by api 127.0.0.1:1
goes back at 2026-03-01T12:02:00Z to 0.0.0.0/0 ::/0, unless confirmed: sluice network-restrictions update --confirm
`
	somePlan = `{"sessions": 3, "connected": [{"role": "app", "database": "a b", "mode": "session", "network": "192.0.2.1/32", "sessions": 3}],
		"absent": 1, "history": [{"role": "old\n", "database": "app", "mode": "transaction", "network": "2001:db8::/64", "last_seen": "2026-03-01T11:00:00Z"}],
		"history_since": "2026-03-01T10:00:00Z", "self_cutoff": true}`
	printedPlan = `connected now, would be cut off: 3 sessions
  ROLE  DATABASE  MODE     NETWORK       SESSIONS
  app   "a b"     session  192.0.2.1/32  3
seen since 2026-03-01T10:00:00Z, not connected now, would be refused: 1
  ROLE     DATABASE  MODE         NETWORK        LAST SEEN
  "old\n"  app       transaction  2001:db8::/64  2026-03-01T11:00:00Z
the address that this was asked from would be shut out: update refuses that without --allow-self-cutoff
`
)

func TestPolicyCommandsAskAndPrint(t *testing.T) {
	t.Setenv(adminTokenEnv, "sesame")
	for _, c := range []struct {
		args                  string
		answer                string
		method, target, asked string
		out                   string
	}{
		{"network-restrictions get", `{"tenant": "default", "managed_by": "file", "config": {"entries": []}}`, "GET", "/api/v1/network-restrictions", "",
			"tenant default can be reached from (the configuration rules)\n  nowhere\n"},
		{"network-restrictions get --tenant acme", someNetworks, "GET", "/api/v1/network-restrictions?tenant=acme", "", printedNetworks},
		{"network-restrictions update --db-allow-cidr 10.0.0.0/8,192.0.2.7 2001:db8::/32 --db-allow-cidr ::ffff:10.1.0.0/112 --confirm-within 2m", someNetworks,
			"POST", "/api/v1/network-restrictions/apply",
			`{"dbAllowedCidrs":["10.0.0.0/8","192.0.2.7/32","10.1.0.0/16"],"dbAllowedCidrsV6":["2001:db8::/32"],"confirmWithin":"2m0s"}`, printedNetworks},
		{"network-restrictions update --allow-nobody --allow-self-cutoff", someNetworks, "POST", "/api/v1/network-restrictions/apply",
			`{"dbAllowedCidrs":[],"dbAllowedCidrsV6":[],"allowNobody":true,"allowSelfCutoff":true}`, printedNetworks},
		{"network-restrictions update --confirm", someNetworks, "POST", "/api/v1/network-restrictions/confirm", "", printedNetworks},
		{"network-restrictions plan --db-allow-cidr 10.0.0.0/8", somePlan, "POST", "/api/v1/network-restrictions/plan",
			`{"dbAllowedCidrs":["10.0.0.0/8"],"dbAllowedCidrsV6":[]}`, printedPlan},
		{"ssl-enforcement get", `{"currentConfig": {"database": true}, "tenant": "acme", "managed_by": "file"}`, "GET", "/api/v1/ssl-enforcement", "",
			"tenant acme refuses clients without TLS (the configuration rules)\n"},
		{"ssl-enforcement update --disable-db-ssl-enforcement", `{"currentConfig": {"database": false}, "tenant": "acme", "managed_by": "api"}`, "PUT",
			"/api/v1/ssl-enforcement", `{"requestedConfig":{"database":false}}`, "tenant acme takes clients without TLS (the API rules)\n"},
		{"ssl-enforcement update --enable-db-ssl-enforcement --token other", `{"currentConfig": {"database": true}, "tenant": "acme", "managed_by": "api"}`, "PUT",
			"/api/v1/ssl-enforcement", `{"requestedConfig":{"database":true}}`, "tenant acme refuses clients without TLS (the API rules)\n"},
	} {
		a := &api{code: 200, body: c.answer}
		got := command(t, "", append(strings.Fields(c.args), "--admin", a.serve(t))...)
		if got.code != 0 || got.out != c.out || got.stderr != "" {
			t.Errorf("%s: exit code %d, stderr %q, printed\n%s\nwant\n%s", c.args, got.code, got.stderr, got.out, c.out)
		}
		if a.method != c.method || a.target != c.target || a.got != c.asked {
			t.Errorf("%s: asked %s %s %s, want %s %s %s", c.args, a.method, a.target, a.got, c.method, c.target, c.asked)
		}
		token := "sesame"
		if strings.Contains(c.args, "--token") {
			token = "other"
		}
		if a.header.Get("Authorization") != "Bearer "+token || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: header %v", c.args, a.header)
		}
	}
}

func TestPolicyCommandsExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code int
		body string
		exit int
		want string
	}{
		{400, `{"error": "dbAllowedCidrs: would shut out\n127.0.0.1"}`, 2, "sluice: dbAllowedCidrs: would shut out 127.0.0.1\n"},
		{404, `{"error": "tenant: which?"}`, 2, "sluice: tenant: which?\n"},
		{401, `{"error": "the header"}`, 1, "sluice: ask HOST: --token or SLUICE_ADMIN_TOKEN must be its admin.token\n"},
		{409, `{"error": "the configuration rules here"}`, 1, "sluice: ask HOST: the configuration rules here\n"},
		{500, `<html>`, 1, "sluice: ask HOST: 500 Internal Server Error\n"},
		{302, ``, 1, "sluice: ask HOST: 302 Found\n"},
		{200, `<html>`, 1, "sluice: ask HOST: invalid character '<' looking for beginning of value\n"},
	} {
		a := &api{code: c.code, body: c.body}
		url := a.serve(t)
		got := command(t, "", "network-restrictions", "get", "--admin", url)
		want := strings.Replace(c.want, "HOST", strings.TrimPrefix(url, "http://"), 1)
		if got.code != c.exit || got.stderr != want || got.out != "" {
			t.Errorf("%d: got %+v, want exit code %d, %q", c.code, got, c.exit, want)
		}
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	if got := command(t, "", "ssl-enforcement", "get", "--admin", gone.URL); got.code != 1 || !strings.HasPrefix(got.stderr, "sluice: ask 127.0.0.1:") {
		t.Errorf("nobody answers: %+v", got)
	}
}

// managedTenant is what the API rules, and a set in a file, reloaded by themselves.
const managedTenant = served + `    network: {managed_by: api, denied_cidrs: ["set(blocked)"]}
state_dir: state
watch: all
network_sets: [{name: blocked, file: blocked.txt}]
`

func serveManaged(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, replace: []string{"PORT", throwawayPort(t), "TIMEOUT", "60s"}}
	s.folder = writeFiles(t, map[string]string{"users.txt": "\"app\" \"secret\"\n", "blocked.txt": "# nobody yet\n"})
	s.configure(managedTenant, "info")
	s.serve()
	return s
}

func (s *service) serve() {
	s.t.Helper()
	s.program = start(s.t, "serve", "--config", filepath.Join(s.folder, "sluice.yaml"))
	s.stderr.await(s.t, 0, "sluice started")
}

// ask runs one of the commands that ask a running Sluice.
func (s *service) ask(args ...string) result {
	s.t.Helper()
	return command(s.t, "", append(args, "--admin", "http://"+s.address("listening for operators"), "--token", "sesame")...)
}

func (s *service) mustAsk(want string, args ...string) {
	s.t.Helper()
	if got := s.ask(args...); got.code != 0 || !strings.Contains(got.out, want) {
		s.t.Fatalf("%s: got %+v, want %q", strings.Join(args, " "), got, want)
	}
}

// wantRefused fails unless a client is told that its address may not come in.
func (s *service) wantRefused(mode string) {
	s.t.Helper()
	conn, err := s.dial(mode)
	if err == nil {
		_ = conn.Close(s.t.Context())
		s.t.Fatalf("let in to the %s port", mode)
	}
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || refusal.Code != "28000" || !strings.HasPrefix(refusal.Message, "connection from address 127.0.0.1 to the "+mode+" port ") {
		s.t.Errorf("the %s port: %v", mode, err)
	}
}

func TestPolicyOfARunningSluiceIsChangedLive(t *testing.T) {
	t.Parallel()
	s := serveManaged(t)
	session, transaction := s.connect("session"), s.connect("transaction")
	wantOne(t, session)
	wantOne(t, transaction)
	s.mustAsk("connected now, would be cut off: 2 sessions\n", "network-restrictions", "plan", "--db-allow-cidr", "10.0.0.0/8")
	if got := s.ask("network-restrictions", "update", "--db-allow-cidr", "10.0.0.0/8"); got.code != 2 || !strings.Contains(got.stderr, "would shut out 127.0.0.1") {
		t.Errorf("an update that shuts out the caller: %+v", got)
	}
	wantOne(t, session)
	s.mustAsk("  10.0.0.0/8\n", "network-restrictions", "update", "--db-allow-cidr", "10.0.0.0/8", "--allow-self-cutoff", "--confirm-within", "1h")
	for mode, conn := range map[string]interface{ PgConn() *pgconn.PgConn }{"session": session, "transaction": transaction} {
		var ended *pgconn.PgError
		if err := conn.PgConn().WaitForNotification(t.Context()); !errors.As(err, &ended) || ended.Code != "57P01" {
			t.Errorf("the live session of the %s port: %v, want 57P01", mode, err)
		}
		s.wantRefused(mode)
	}
	s.signal(9)
	s.wantExit(-1)
	s.serve() // with what the state file says, the way back included
	s.wantRefused("session")
	s.mustAsk("goes back at ", "network-restrictions", "get")
	s.mustAsk("  10.0.0.0/8\n", "network-restrictions", "update", "--confirm")
	if got := s.ask("network-restrictions", "update", "--confirm"); got.code != 1 || !strings.Contains(got.stderr, "no change waits") {
		t.Errorf("a second confirmation: %+v", got)
	}
	s.mustAsk("  127.0.0.0/8\n", "network-restrictions", "update", "--db-allow-cidr", "127.0.0.0/8")
	wantOne(t, s.connect("transaction"))
	s.mustAsk("takes clients without TLS", "ssl-enforcement", "get")
	if got := s.ask("ssl-enforcement", "update", "--enable-db-ssl-enforcement"); got.code != 2 || !strings.Contains(got.stderr, "tls.cert_file") {
		t.Errorf("TLS without a certificate: %+v", got)
	}
}

func TestFilesThatChangeReloadByThemselves(t *testing.T) {
	t.Parallel()
	s := serveManaged(t)
	session := s.connect("session")
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(s.folder, name)
		if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	write("blocked.txt", "nonsense\n")
	s.stderr.await(t, 0, "configuration problem", "network_sets[0].file: line 1 must be")
	wantOne(t, session)
	write("blocked.txt", "127.0.0.0/8 # all of us\n")
	s.stderr.await(t, 0, "configuration reloaded")
	var ended *pgconn.PgError
	if err := session.PgConn().WaitForNotification(t.Context()); !errors.As(err, &ended) || ended.Code != "57P01" {
		t.Errorf("the live session: %v, want 57P01", err)
	}
	s.wantRefused("transaction")
	write("blocked.txt", "")
	s.stderr.await(t, 1, "configuration reloaded")
	wantOne(t, s.connect("transaction"))
	write("sluice.yaml", strings.NewReplacer(append(s.replace, "LEVEL", "info", "watch: all\n", "watch: all\nshutdown_timeout: -1s\n", "shutdown_timeout: TIMEOUT\n", "")...).Replace(managedTenant))
	s.stderr.await(t, 0, "configuration problem", "shutdown_timeout: must be at least 0s")
	write("state/policy.json", `{"version": 1, "tenants": [{"name": "default", "network": {"allowed_cidrs": ["10.0.0.0/8"], "before": null, "changed_at": "2026-01-01T00:00:00Z", "changed_by": "me"}}]}`)
	s.stderr.await(t, 1, "configuration problem", "shutdown_timeout: must be at least 0s") // all or nothing
	wantOne(t, s.connect("transaction"))
	s.configure(managedTenant, "info")
	s.stderr.await(t, 2, "configuration reloaded")
	s.wantRefused("transaction")
	s.mustAsk("  127.0.0.0/8\n", "network-restrictions", "update", "--db-allow-cidr", "127.0.0.0/8")
	wantOne(t, s.connect("session"))
}
